"""The networks of the page: what each is trained with, and the steps that train them and let them hear the tests."""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from replication.two_languages import hearing, world

from edgespeech.core.config import explain
from edgespeech.core.files import write_atomic
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.checkpoint import load_model, model_bytes
from edgespeech.model.languages import HEAD, IDENTIFIER, load_head, load_identifier
from edgespeech.records.records import sha256_json
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job, folder_of, is_made
from edgespeech.synthesis.step import speech_steps
from edgespeech.training.config import TrainConfig
from edgespeech.training.identifier import identify_step
from edgespeech.training.loop import MODEL
from edgespeech.training.step import train_step

RULE = "hear_languages"
HEARD = "heard.json.xz"
WORLD = "world"
"""The identifier of all languages of Common Voice: one more network, of one seed."""
PUBLISHED = project_root() / "results" / "two_languages" / "arms"
_TESTS = ("test", "switched", "real", "third", "times", "sessions")


@dataclass(frozen=True, slots=True)
class Run:
    """A network trained with one seed.

    Attributes:
        arm: its name.
        seed: of its training.
        config: of its training.
        identifies: it is an identifier, and recognises no words.
        given: what decides what it hears, without its training.
    """

    arm: str
    seed: int
    config: TrainConfig
    identifies: bool
    given: Mapping[str, Any]

    @property
    def name(self) -> str:
        """`ARM.SEED`."""
        return f"{self.arm}.{self.seed}"

    @property
    def sha256(self) -> str:
        """A hash of all that decides what it hears."""
        return sha256_json({"run": self.config.sha256, "given": dict(self.given)})


def runs_of(config: Mapping[str, Any]) -> list[Run]:
    """Every network with every seed.

    Raises:
        EdgeSpeechError: a training is not valid.
    """
    given = {key: config[key] for key in (*_TESTS, "seed")}
    found = []
    for arm, told in config["arms"].items():
        for seed in config["seeds"]:
            identifies = bool(told.get("identifies"))
            run = _run(config, arm, told["languages"], seed, identifies)
            found.append(Run(arm, seed, run, identifies, {**given, "languages": told["languages"]}))
    return [
        *found,
        Run(WORLD, 1, world.run_of(config), True, {"world": config["world"], "times": config["times"]}),
    ]


def _run(
    config: Mapping[str, Any], arm: str, languages: list[str], seed: int, identifies: bool
) -> TrainConfig:
    """The training of a network."""
    values = {**config["run"], "name": f"two-languages-{arm}-{seed}", "seed": seed}
    values["speech"] = [{"corpus": config["speech"][one], "language": one} for one in languages]
    values["steps"] = config["steps"] * len(languages)
    if identifies:
        values |= {
            "model": config["identifier"]["model"],
            "steps": config["identifier"]["steps"] * len(languages),
        }
        values |= {"ctc_only_steps": 0}
    if len(languages) > 1:
        values["languages"] = config["loss"]
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise explain(f"two_languages/config.yaml: arm {arm}", error) from error


def steps_of(config: Mapping[str, Any], only: str = "*") -> list[Step]:
    """The steps that let the networks hear the tests, each after its training.

    Raises:
        EdgeSpeechError: no network has such a name.
    """
    chosen = [run for run in runs_of(config) if fnmatchcase(run.arm, only)]
    if not chosen:
        raise bad("two_languages", "--only", only, "a pattern of " + ", ".join([*config["arms"], WORLD]))
    return [hear_step(config, run) for run in chosen]


def hear_step(config: Mapping[str, Any], run: Run) -> Step:
    """The step that lets a network hear the tests."""
    resources = Resources.from_mapping(config.get("resources"), "two_languages/config.yaml")
    name = f"two_languages/{run.name}"
    if run.arm == WORLD:
        split = world.split_step(config)
        trained = identify_step(name, run.config, needs=(split,), resources=resources)
        needs: tuple[Step, ...] = (trained, split)
    else:
        make = identify_step if run.identifies else train_step
        trained = make(name, run.config, resources=resources)
        corpora = [
            one for part in ("test", "switched") for named in run.given[part].values() for one in named
        ]
        needs = (trained, *speech_steps(corpora))
    return Step(
        rule=RULE,
        name=name,
        function=f"{__name__}:make_heard",
        given={
            "arm": run.arm,
            "identifies": run.identifies,
            "trained": f"{trained.rule}/{trained.name}",
            "sha256": run.sha256,
            **run.given,
        },
        needs=needs,
        code=("replication.two_languages.hearing", "replication.two_languages.world"),
        without=("core", "records", "corpora", "synthesis", "engine", "packed", "training"),
        resources=resources,
    )


def make_heard(job: Job) -> list[Path]:
    """Let a network hear the tests, and write down what it makes of them."""
    folder, given = job.folders[job.given["trained"]], job.given
    told: dict[str, Any] = {"sha256": given["sha256"]}
    if given["identifies"]:
        identifier = load_identifier(folder)
        told["bytes"] = (folder / IDENTIFIER).stat().st_size
        named = hearing.Hearing(identifier=identifier)
    else:
        trained = load_model(folder / MODEL)
        told["bytes"] = model_bytes(folder / MODEL)
        head = None
        if len(given["languages"]) > 1:
            head = load_head(folder / MODEL, trained.model.config)
            told["bytes"] += (folder / MODEL / HEAD).stat().st_size
        named = hearing.Hearing(trained=trained, head=head)
    if given["arm"] == WORLD:
        told["tests"] = {"world": world.hear_world(named, given)}
    else:
        told |= hearing.hear_tests(named, given)
    write_atomic(job.folder / HEARD, lzma.compress(json.dumps(told, ensure_ascii=False).encode()))
    return [job.folder / HEARD]


def heard_by(config: Mapping[str, Any], run: Run) -> dict[str, Any] | None:
    """What a network made of the tests: as it is made here, which the full profile publishes, else as published.

    Raises:
        EdgeSpeechError: the file is damaged.
    """
    published, step = PUBLISHED / f"{run.name}.json.xz", hear_step(config, run)
    if is_made(step):
        file = folder_of(step) / HEARD
        if config["profile"] == "full":
            write_atomic(published, file.read_bytes())
        return _load(file)
    if published.is_file():
        found = _load(published)
        return found if found.get("sha256") == run.sha256 else None
    return None


def _load(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(lzma.decompress(file.read_bytes()))
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise EdgeSpeechError(f"{file}: not what a network heard: {error}") from error
    return found
