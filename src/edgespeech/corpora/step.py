"""Fetching a corpus as a step of the pipeline."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from edgespeech.corpora.corpora import corpus_names, load_corpus, split_names
from edgespeech.corpora.download import UnavailableError
from edgespeech.corpora.fetch import fetch
from edgespeech.records.records import sha256_json
from edgespeech.steps.step import Step
from edgespeech.steps.store import Job, SkippedError

RULE = "fetch"


@lru_cache(maxsize=4)
def _owners(named: str | None) -> Mapping[str, str]:
    """Every split's corpus, once for each folder of descriptions that the environment names."""
    del named
    return split_names()


def _owner(split: str) -> str | None:
    return _owners(os.environ.get("EDGESPEECH_CORPORA")).get(split)


def is_corpus(name: object) -> bool:
    """Whether something is the name of a corpus or of a split."""
    return isinstance(name, str) and (name in corpus_names() or _owner(name) is not None)


def fetch_step(name: str) -> Step:
    """The step that fetches a corpus or a split, named by the content that its description declares.

    Raises:
        EdgeSpeechError: there is no such corpus.
    """
    owner = _owner(name) or name
    splits = load_corpus(owner).splits
    wanted = {name: splits[name]} if name in splits else splits
    declared = {split: values.content_sha256 or values.sha256 for split, values in wanted.items()}
    return Step(
        rule=RULE,
        name=name,
        function=f"{__name__}:fetch_corpus",
        given={"corpus": name, "declared": sha256_json(declared)},
        here=True,
    )


def fetch_corpus(job: Job) -> Sequence[Path]:
    """Get a corpus and verify it, or say why it is not to be had; the files are its manifests, wherever they are."""
    name = job.given["corpus"]
    try:
        folder = fetch(name)
    except UnavailableError as error:
        raise SkippedError(str(error)) from error
    splits = load_corpus(_owner(name) or name).splits
    wanted = [splits[name]] if name in splits else splits.values()
    return list(dict.fromkeys(file for split in wanted if (file := folder / split.manifest).is_file()))
