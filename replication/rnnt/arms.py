"""Train arms of one stage of training, all from one initial model with the same updates, and compare them on tuning
speech.

python -m replication.rnnt.arms FILE [--processes N] [--start FOLDER] [--until STEP] [--utterances N] [--publish-start]

The file (`teacher.yaml`, `compression_base.yaml`) has the arms' common settings and the changes of each. An arm that
cannot be trained here is skipped with a reason. The initial model is compared too; the record is one of
`choose_model.py`. With `--until` every arm stops after this many updates, as a trial without a record. A stopped run
resumes.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from pydantic import Field, ValidationError
from replication.rnnt.choose_model import CHOICES, candidate, choose, write_record

from edgespeech.arms.configuration import start_model
from edgespeech.core.config import Strict, explain
from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import project_root, work_dir
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lm.fusion import FUSION
from edgespeech.model.checkpoint import WEIGHTS, load_model, save_model
from edgespeech.synthesis.step import make_corpora
from edgespeech.training.config import TrainConfig
from edgespeech.training.taught import store_folder
from edgespeech.training.teacher import teacher_kind
from edgespeech.training.teacher_store import BASIS

START = "start"
RUN = "run.yaml"


class ArmsFile(Strict):
    """Common settings of the arms and the changes of each.

    Attributes:
        question: of the record.
        start: folder of the initial model, relative to the project.
        base: a training configuration, or a base mapping as of the compression pages, in this file's folder.
        shared: keys of the base that all arms change.
        arms: keys that each changes, by its name; `add_speech` is a list of corpora beside those of the base.
        against: the arm, or `start`, with which the others are compared; None for the best one.
        tuning: corpora for the comparison.
        utterances: number of each.
    """

    question: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    start: str
    base: str
    shared: dict[str, Any] = Field(default_factory=dict)
    arms: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    against: str | None = None
    tuning: Annotated[tuple[str, ...], Field(min_length=1)]
    utterances: Annotated[int, Field(gt=1)]


def load_arms(path: Path) -> ArmsFile:
    """Read the file.

    Raises:
        EdgeSpeechError: missing, not YAML, an unknown key, a wrong type, or an arm that no other key knows.
    """
    try:
        found = ArmsFile.model_validate(load_yaml(path))
    except OSError as error:
        raise bad("arms", "file", str(path), "a file that exists") from error
    except ValidationError as error:
        raise explain(str(path), error) from error
    if START in found.arms:
        raise bad(str(path), "arms", START, "other names: that one is the start itself")
    if found.against is not None and found.against not in (START, *found.arms):
        raise bad(str(path), "against", found.against, f"one of {START}, {', '.join(found.arms)}")
    return found


def start_folder(file: ArmsFile) -> Path:
    """The initial model of all arms."""
    return project_root() / file.start


def runs(path: Path, file: ArmsFile) -> dict[str, TrainConfig]:
    """Every arm's run, by the arm's name.

    Raises:
        EdgeSpeechError: there is no start, or a run's settings are wrong.
    """
    base: dict[str, Any] = load_yaml(path.parent / file.base)
    shape = load_model(start_folder(file)).model.config.to_mapping()
    made = {}
    for name, changes in file.arms.items():
        mapping = {"seed": 0, **base, **file.shared, **changes}
        mapping["speech"] = [*mapping["speech"], *mapping.pop("add_speech", [])]
        dropout = mapping.pop("dropout", mapping.get("model", {}).get("dropout", shape["dropout"]))
        mapping |= {
            "name": f"{file.question}.{name}",
            "init": file.start,
            "model": {**shape, "dropout": dropout},
        }
        try:
            made[name] = TrainConfig.model_validate(mapping)
        except ValidationError as error:
            raise explain(f"{path}: arm {name}", error) from error
    return made


def run_folder(file: ArmsFile, name: str, config: TrainConfig) -> Path:
    """The folder of an arm's run, which depends on its configuration and initial model."""
    start = sha256_file(start_folder(file) / WEIGHTS)
    key = hashlib.sha256(f"{config.sha256}:{start}".encode()).hexdigest()[:8]
    return work_dir() / "runs" / file.question / f"{name}-{key}"


def why_not(config: TrainConfig) -> str | None:
    """Why an arm cannot be trained here; None if no reason is known before it starts."""
    if config.teacher is None or (store_folder(config.teacher) / BASIS).is_file():
        return None
    return teacher_kind(config.teacher.name).missing()


def train_arm(config: TrainConfig, folder: Path, *, processes: int, until: int | None) -> None:
    """Train an arm, or resume its stopped run.

    Raises:
        EdgeSpeechError: the training failed; its output says why.
    """
    write_atomic(
        folder / RUN, yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True), sort_keys=False)
    )
    launcher: Sequence[str] = ()
    if processes > 1:
        launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "--module")
    command = [sys.executable, "-m", *launcher, "edgespeech.cli", "train", str(folder / RUN)]
    command += ["--out", str(folder), *(() if until is None else ("--until", str(until)))]
    if (code := subprocess.run(command, check=False).returncode) != 0:
        raise EdgeSpeechError(f"{config.name}: its training ended with {code}; run it again to resume")


def publish_start(folder: Path) -> None:
    """Publish the recogniser's model, without its language models, as an initial model of arms.

    Raises:
        EdgeSpeechError: there is no recogniser's model.
    """
    trained = load_model(start_model())
    save_model(folder, trained.model, trained.tokeniser, trained.provenance, half=True)
    (folder / FUSION).unlink(
        missing_ok=True
    )  # of the one before; those who need language models take the recogniser's
    print(f"published: {folder / WEIGHTS}")


def make_speech(configs: Mapping[str, TrainConfig], tuning: Sequence[str]) -> None:
    """Make the missing synthetic corpora."""
    named = {source.corpus for config in configs.values() for source in config.speech} | set(tuning)
    absent = [name for name in named if name.endswith(".jsonl") and not (work_dir() / name).is_file()]
    if absent:
        make_corpora(absent)


def main() -> None:
    """Run the command line; see the module's docstring."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("file", type=Path)
    options.add_argument("--processes", type=int, default=torch.cuda.device_count() or 2, help="that train")
    options.add_argument("--start", help="folder of the initial model, instead of the file's")
    options.add_argument("--until", type=int, help="stop each arm after so many updates: a trial")
    options.add_argument("--utterances", type=int, help="of each tuning corpus, instead of the file's")
    options.add_argument("--publish-start", action="store_true", help="first publish what ships as the start")
    options.add_argument("--out", type=Path, default=CHOICES)
    given = options.parse_args()
    torch.set_num_threads(1)
    file = load_arms(given.file)
    if given.start is not None:
        file = file.model_copy(update={"start": given.start})
    if given.publish_start:
        publish_start(start_folder(file))
    configs = runs(given.file, file)
    skipped = {name: reason for name, config in configs.items() if (reason := why_not(config)) is not None}
    for name, reason in skipped.items():
        print(f"{name}: skipped: {reason}", flush=True)
    trained = {name: config for name, config in configs.items() if name not in skipped}
    make_speech(trained, file.tuning)
    folders = {name: run_folder(file, name, config) for name, config in trained.items()}
    for name, config in trained.items():
        train_arm(config, folders[name], processes=given.processes, until=given.until)
    candidates = [candidate(f"{START}={start_folder(file)}")]
    candidates += [candidate(f"{name}={folder}") for name, folder in folders.items()]
    against = None if file.against in skipped else file.against
    record = choose(
        file.question, candidates, file.tuning, given.utterances or file.utterances, against=against
    )
    record |= {"arms": file.model_dump(mode="json"), "skipped": skipped}
    if given.until is not None:
        print(f"stopped after {given.until} updates: a trial, whose record goes to the work folder")
    write_record(record, given.out if given.until is None else work_dir() / "runs" / file.question)


if __name__ == "__main__":
    try:
        main()
    except EdgeSpeechError as error:
        sys.exit(f"arms: {error}")
