"""Tags of a grammar's sentences agree with its parser."""

from __future__ import annotations

import random

from edgespeech.core.places import manifests_dir
from edgespeech.text.grammar import split_of
from edgespeech.text.grammar_rules import load_rules
from edgespeech.text.tagged import TaggedGrammar


def grammar() -> TaggedGrammar:
    return TaggedGrammar("coffee", load_rules(manifests_dir() / "grammars" / "coffee.yaml"))


def test_the_tagged_words_are_those_of_the_slots() -> None:
    rng, known = random.Random(1), grammar()
    for _ in range(50):
        found = known.tagged(rng, "dev")
        words = found.sentence.text.split()
        parsed = known.parse(found.sentence.text)

        assert len(found.tags) == len(words)
        assert {tag[2:] for tag in found.tags if tag != "O"} == set(found.sentence.slots)
        assert split_of(found.sentence.text) == "dev"
        assert parsed is not None
        assert parsed.slots == found.sentence.slots


def test_a_slot_begins_once() -> None:
    rng, known = random.Random(2), grammar()
    for _ in range(50):
        found = known.tagged(rng)
        for slot in found.sentence.slots:
            assert found.tags.count(f"B-{slot}") == 1


def test_the_same_state_gives_the_same_sentence() -> None:
    assert grammar().tagged(random.Random(3)) == grammar().tagged(random.Random(3))
