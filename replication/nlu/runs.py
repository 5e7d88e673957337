"""The arms: training, packing and scoring them, as steps of the pipeline."""

from __future__ import annotations

import json
import lzma
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from replication.nlu.sets import Requests, beyond, material, tests, tuning

from edgespeech.core.files import write_atomic
from edgespeech.core.places import manifests_dir, project_root
from edgespeech.corpora.corpora import find_split
from edgespeech.corpora.download import UnavailableError
from edgespeech.corpora.fetch import fetch
from edgespeech.corpora.requests import LABELS, Request
from edgespeech.errors import EdgeSpeechError
from edgespeech.records.records import sha256_json
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job, SkippedError
from edgespeech.understanding.config import NetworkConfig, TrainingConfig
from edgespeech.understanding.packing import load_twin, pack_network
from edgespeech.understanding.scoring import (
    OUT_OF_SCOPE,
    Answer,
    Counts,
    answers,
    best_threshold,
    count,
    scoped,
)
from edgespeech.understanding.starting import start_from
from edgespeech.understanding.training import Trained, train

RULE = "understand"
FILE = "model.edge"
SCORES = "scores.json.xz"
PUBLISHED = project_root() / "results" / "nlu" / "arms"


@dataclass(frozen=True, slots=True)
class Run:
    """An arm trained with one seed.

    Attributes:
        arm: its name.
        seed: of the training.
        given: all that decides it.
    """

    arm: str
    seed: int
    given: Mapping[str, Any]

    @property
    def name(self) -> str:
        """`ARM.SEED`."""
        return f"{self.arm}.{self.seed}"

    @property
    def sha256(self) -> str:
        """A hash of all that decides it."""
        return sha256_json(self.given)


def runs_of(config: Mapping[str, Any]) -> list[Run]:
    """Every arm's runs; those that the others start from come first.

    Raises:
        EdgeSpeechError: a network or a training is not valid.
    """
    found = []
    for arm, told in sorted(config["arms"].items(), key=lambda item: item[0] != config["start"]):
        first = arm == config["start"]
        how = dict(config["training"] if first else config["compression"]) | told.get("training", {})
        if told.get("untrained"):
            how["epochs"] = 0
        for seed in told.get("seeds", [1]):
            given = {
                "seed": seed,
                "network": told["network"],
                "training": how,
                "floats": told.get("floats", False),
                "reference": None if first else config["arms"][config["start"]]["network"],
                "begun": None if first else config["training"],
                "sets": {key: config[key] for key in ("schemes", "reduced")},
            }
            found.append(Run(arm, seed, given))
    return found


def steps_of(config: Mapping[str, Any], only: str = "*") -> list[Step]:
    """The steps that train the arms, each on the one that it starts from."""
    made: dict[str, Step] = {}
    for run in runs_of(config):
        needs = () if run.given["reference"] is None else (made[f"{config['start']}.{run.seed}"],)
        made[run.name] = Step(
            rule=RULE,
            name=run.name,
            function=f"{__name__}:make_run",
            given=run.given,
            needs=needs,
            inputs=_inputs(config),
            code=(
                "edgespeech.understanding.packing",
                "edgespeech.understanding.starting",
                "replication.nlu.sets",
            ),
            without=("core", "records", "corpora", "engine", "model", "packed"),
            resources=Resources.from_mapping(config.get("resources"), "nlu/config.yaml"),
        )
    return [step for name, step in made.items() if fnmatchcase(name.partition(".")[0], only)]


def _inputs(config: Mapping[str, Any]) -> tuple[Path, ...]:
    grammars = any("grammar" in one for one in config["schemes"].values())
    return tuple(sorted((manifests_dir() / "grammars").glob("*.yaml"))) if grammars else ()


def splits_of(config: Mapping[str, Any]) -> Iterator[str]:
    """Every split of the page."""
    for one in config["schemes"].values():
        for split in (
            *one.get("train", ()),
            *one.get("dev", ()),
            *one.get("test", {}).values(),
            *one.get("beyond", {}).values(),
        ):
            yield split
            if find_split(split)[0].name in LABELS:
                yield from (f"{split}_intents", f"{split}_slots")


def make_run(job: Job) -> list[Path]:
    """Train, pack and score one run, or go on where it was stopped."""
    given = job.given
    try:
        for split in splits_of(given["sets"]):
            fetch(split)
    except UnavailableError as error:
        raise SkippedError(str(error)) from error
    trained_on = material(given["sets"])
    shape, how = (
        NetworkConfig.model_validate(given["network"]),
        TrainingConfig.model_validate(given["training"]),
    )
    start = None
    if given["reference"] is not None:
        folder = next(iter(job.folders.values()))
        counts = Counter(word for some in trained_on.values() for one in some for word in one.words)
        start = start_from(reference_in(folder, given, trained_on), counts, given["seed"])
    trained = train(trained_on, shape, how, given["seed"], job.folder, start)
    file, scores = job.folder / FILE, job.folder / SCORES
    pack_network(trained, file, floats=given["floats"])
    found = score(trained if given["floats"] else load_twin(file), given["sets"], trained_on)
    told = {
        "given_sha256": sha256_json(given),
        "bytes": file.stat().st_size,
        "words": len(trained.vocabulary),
        **found,
    }
    write_atomic(scores, lzma.compress(json.dumps(told, separators=(",", ":")).encode()))
    kept = [file, scores]
    if given["reference"] is None:
        kept.append(job.folder / "state.pt")
    return kept


def reference_in(folder: Path, given: Mapping[str, Any], trained_on: Requests) -> Trained:
    """The network that a step has left for others to start from."""
    shape = NetworkConfig.model_validate(given["reference"])
    how = TrainingConfig.model_validate(given["begun"])
    return train(trained_on, shape, how, given["seed"], folder)  # its state is that of a finished run


def score(trained: Trained, sets: Mapping[str, Any], trained_on: Requests) -> dict[str, Any]:
    """What a network makes of every tuning and test set, as JSON has it."""
    found: dict[str, Any] = {"dev": {}, "test": {}}
    for name in sets["schemes"]:
        requests = tuning(sets, name)
        found["dev"][name] = counts_json(count(requests, told_of(trained, name, requests)))
    for label, (scheme, requests) in tests(sets, trained_on).items():
        found["test"][label] = counts_json(count(requests, told_of(trained, scheme, requests)))
    if any("beyond" in one for one in sets["schemes"].values()):
        found["scope"] = _scope(trained, sets, trained_on)
    return found


def told_of(trained: Trained, scheme: str, requests: Sequence[Request]) -> list[Answer]:
    """The answers to requests."""
    return answers(trained, scheme, [one.words for one in requests])


def _scope(trained: Trained, sets: Mapping[str, Any], trained_on: Requests) -> dict[str, Any]:
    """Requests out of scope: the threshold of the tuning set, and what it does to the test set."""
    scheme, outside = beyond(sets, "dev")
    chosen = [*tuning(sets, scheme), *outside]
    threshold = best_threshold(chosen, told_of(trained, scheme, chosen))
    inside = tests(sets, trained_on)[next(iter(sets["schemes"][scheme]["test"]))].requests
    _, outside = beyond(sets, "test")
    kept = scoped(told_of(trained, scheme, inside), threshold)
    refused = scoped(told_of(trained, scheme, outside), threshold)
    return {
        "threshold": threshold,
        "inside": flags(one.intent == wanted.intent for one, wanted in zip(kept, inside, strict=True)),
        "outside": flags(one.intent == OUT_OF_SCOPE for one in refused),
    }


def flags(values: Iterator[bool]) -> str:
    """Flags as a text of 0 and 1."""
    return "".join("1" if value else "0" for value in values)


def counts_json(counts: Counts) -> dict[str, Any]:
    """Counts as JSON has them."""
    return {
        "right": flags(bool(one) for one in counts.right),
        "agreed": counts.agreed.astype(int).tolist(),
        "marked": counts.marked.astype(int).tolist(),
    }


def counts_of(told: Mapping[str, Any]) -> Counts:
    """The reverse of `counts_json`."""
    return Counts(array_of(told["right"]), *(np.array(told[name], float) for name in ("agreed", "marked")))


def array_of(text: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Flags as an array of 0 and 1."""
    return np.array([letter == "1" for letter in text], float)


def load_scores(path: Path) -> dict[str, Any]:
    """The scores of a run.

    Raises:
        EdgeSpeechError: the file is damaged.
    """
    try:
        found: dict[str, Any] = json.loads(lzma.decompress(path.read_bytes()))
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise EdgeSpeechError(f"{path}: not the scores of a run: {error}") from error
    return found
