"""The requests of the page: by scheme to train on and to choose on, by set to test on."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edgespeech.core.places import manifests_dir
from edgespeech.corpora.corpora import assert_trainable, find_split
from edgespeech.corpora.requests import Request, requests_of, tagged
from edgespeech.text.grammar import split_of
from edgespeech.text.grammar_rules import load_rules
from edgespeech.text.tagged import TaggedGrammar

Config = Mapping[str, Any]
Requests = dict[str, list[Request]]
_SEEDS = {"train": 1, "dev": 2, "test": 3}


class TestSet(NamedTuple):
    """Requests to test on.

    Attributes:
        scheme: whose intents and slots they have.
        requests: with their labels.
    """

    scheme: str
    requests: list[Request]


def material(config: Config) -> Requests:
    """The requests to train on, by scheme: none that stands in a test or tuning split of another corpus.

    Raises:
        EdgeSpeechError: a corpus is not to be had here, or is for evaluation only.
    """
    return {name: _training(config, one) for name, one in config["schemes"].items()}


def _training(config: Config, scheme: Config) -> list[Request]:
    if "grammar" in scheme:
        return drawn(scheme, "train")
    found: list[Request] = []
    for split in scheme["train"]:
        assert_trainable(split)
        banned = _banned(config, find_split(split)[0].name)
        found += [
            one
            for one in requests_of(split)
            if one.text not in banned and ("dev" in scheme or split_of(one.text) == "train")
        ]
    return found


def _banned(config: Config, corpus: str) -> set[str]:
    """Sentences to test or choose on that another corpus has; sets that are reduced instead are left out."""
    splits = []
    for one in config["schemes"].values():
        splits += [split for name, split in one.get("test", {}).items() if name not in config["reduced"]]
        splits += [*one.get("dev", ()), *one.get("beyond", {}).values()]
    return {one.text for split in splits if find_split(split)[0].name != corpus for one in requests_of(split)}


def tuning(config: Config, name: str) -> list[Request]:
    """The requests of a scheme to choose on.

    Raises:
        EdgeSpeechError: a corpus is not to be had here.
    """
    scheme = config["schemes"][name]
    if "grammar" in scheme:
        return drawn(scheme, "dev")
    if "dev" in scheme:
        return [one for split in scheme["dev"] for one in requests_of(split)]
    return [one for split in scheme["train"] for one in requests_of(split) if split_of(one.text) != "train"]


def tests(config: Config, trained_on: Requests) -> dict[str, TestSet]:
    """The requests to test on, by set; a reduced one is without the sentences that its scheme was trained on.

    Args:
        config: of the page.
        trained_on: see `material`.

    Raises:
        EdgeSpeechError: a corpus is not to be had here.
    """
    found = {}
    for name, scheme in config["schemes"].items():
        if "grammar" in scheme:
            found[name] = TestSet(name, drawn(scheme, "test"))
        for label, split in scheme.get("test", {}).items():
            known = {one.text for one in trained_on[name]} if label in config["reduced"] else set()
            found[label] = TestSet(name, [one for one in requests_of(split) if one.text not in known])
    return found


def beyond(config: Config, part: str) -> tuple[str, Sequence[Request]]:
    """A scheme with requests out of scope, and those of its part `dev` or `test`.

    Raises:
        EdgeSpeechError: the corpus is not to be had here.
    """
    name = next(name for name, one in config["schemes"].items() if "beyond" in one)
    return name, requests_of(config["schemes"][name]["beyond"][part])


def drawn(scheme: Config, part: str) -> list[Request]:
    """Distinct sentences of a grammar's part, with their intents and slots."""
    name = scheme["grammar"]
    grammar = TaggedGrammar(name, load_rules(manifests_dir() / "grammars" / f"{name}.yaml"))
    rng = random.Random(_SEEDS[part])  # sentences, no secrets
    found: dict[str, Request] = {}
    while len(found) < scheme["draws"][part]:
        one = grammar.tagged(rng, part)  # type: ignore[arg-type]  # `part` is one of its parts
        request = tagged(one.sentence.text.split(), one.tags, one.sentence.intent)
        found[request.text] = request
    return list(found.values())
