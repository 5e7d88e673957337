"""Many languages: Common Voice's clips by speakers apart, and an identifier of them all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from edgespeech.core.config import explain
from edgespeech.core.places import work_dir
from edgespeech.corpora.corpora import load_corpus
from edgespeech.corpora.download import UnavailableError
from edgespeech.corpora.manifest import Manifest, Utterance, write_manifest
from edgespeech.corpora.utterances import utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.steps.step import Step
from edgespeech.steps.store import Job, SkippedError
from edgespeech.training.config import TrainConfig
from edgespeech.training.speech import trainable

if TYPE_CHECKING:
    from replication.two_languages.hearing import Hearing

CORPUS = "commonvoice"
FOLDER = "corpora/languages"


def languages() -> list[str]:
    """The splits of Common Voice that may be trained on, one a language.

    English is for evaluation only, and a language with few clips has no speakers for both parts; see `least`.
    """
    return [name for name, split in load_corpus(CORPUS).splits.items() if not split.evaluation_only]


def code_of(split: str) -> str:
    """The language of a split: `zh-cn` of `commonvoice_zh-cn`."""
    return split.removeprefix(f"{CORPUS}_")


def kept(config: Mapping[str, Any]) -> list[str]:
    """The splits with clips enough."""
    splits = load_corpus(CORPUS).splits
    return [name for name in languages() if splits[name].utterances >= config["world"]["least"]]


def manifest_name(split: str, part: str) -> str:
    """A part's manifest in the work folder."""
    return f"{FOLDER}/{code_of(split)}_{part}.jsonl"


def run_of(config: Mapping[str, Any]) -> TrainConfig:
    """The training of the identifier of all languages.

    Raises:
        EdgeSpeechError: it is not valid.
    """
    told = config["world"]
    values: dict[str, Any] = {
        **{key: config["run"][key] for key in ("warmup_steps", "save_every") if key in config["run"]},
        **{key: told[key] for key in ("model", "steps", "batch_s", "learning_rate")},
        "name": "two-languages-world",
        "seed": 1,
        "languages": told["loss"],
        "speech": [
            {"corpus": manifest_name(split, "train"), "language": code_of(split)} for split in kept(config)
        ],
    }
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise explain("two_languages/config.yaml: world", error) from error


def split_step(config: Mapping[str, Any]) -> Step:
    """The step that parts the speakers of every language."""
    return Step(
        rule="split_languages",
        name="two_languages",
        function=f"{__name__}:make_split",
        given={
            "splits": kept(config),
            "test": config["world"]["shares"]["test"],
            "content": {name: load_corpus(CORPUS).splits[name].sha256 for name in kept(config)},
        },
        code=(__name__,),
        without=("core", "records", "corpora", "synthesis", "training", "model", "text", "audio"),
    )


def make_split(job: Job) -> list[Path]:
    """Write the manifests of both parts of every language; no speaker is in both."""
    made = []
    for split in job.given["splits"]:
        try:
            manifest = trainable(split)
        except UnavailableError as error:
            raise SkippedError(str(error)) from error
        parts = parted(manifest, job.given["test"])
        for part, utterances in parts.items():
            path = work_dir() / manifest_name(split, part)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_manifest(path, utterances)
            made.append(path)
    return made


def parted(manifest: Manifest, test: float) -> dict[str, list[Utterance]]:
    """The utterances of a language by part, each speaker in one of them.

    Args:
        manifest: of the language.
        test: share of the speakers in the test part, at least one of them.

    Raises:
        EdgeSpeechError: all clips are by one speaker.
    """
    speakers = sorted(
        {one.speaker or one.id for one in manifest.utterances},
        key=lambda speaker: hashlib.sha256(speaker.encode()).hexdigest(),
    )
    if len(speakers) < 2:
        raise EdgeSpeechError(f"{manifest.name}: speakers is {len(speakers)}, expected at least 2")
    tested = set(speakers[: max(1, round(test * len(speakers)))])
    parts: dict[str, list[Utterance]] = {"train": [], "test": []}
    for one in manifest.utterances:
        part = "test" if (one.speaker or one.id) in tested else "train"
        path = str(manifest.audio_path(one).resolve())
        parts[part].append(one.model_copy(update={"audio_filepath": path, "split": part}))
    return parts


def hear_world(own: Hearing, given: Mapping[str, Any]) -> dict[str, Any]:
    """The languages that are named for the test clips, by language."""
    from replication.two_languages.hearing import row_of

    assert own.namer is not None
    names = {code_of(split): split for split in languages()}
    rows: dict[str, Any] = {}
    for code in own.namer.names:
        found = utterances_of({manifest_name(names[code], "test"): "basic"}, seed=0)
        rows[code] = [row_of(own, one, given["times"]) | {"text": ""} for one in found]
    return rows
