"""Weighted sentence grammars: they generate sentences with intent and slots, and parse both from recognised words.

The notation is described in `edgespeech.text.grammar_rules`; the grammars are in `data_manifests/grammars/`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from edgespeech.core.places import manifests_dir
from edgespeech.errors import bad
from edgespeech.text.grammar_nodes import Choice, Node, Ref, RuleSet, Seq, Word
from edgespeech.text.grammar_parse import Close, Mark, Open, WordGraph, fill_slots
from edgespeech.text.grammar_rules import load_rules
from edgespeech.text.spanish import with_contractions
from edgespeech.text.spoken import plain, with_articles

Split = Literal["train", "dev", "test"]
_TRIES = 10_000
_JOINED = {"en": with_articles, "es": with_contractions}
"""What neighbouring words do to each other, by language."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A generated sentence: its spoken words, its intent and its slots."""

    text: str
    intent: str
    slots: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Parse:
    """Intent and slots of recognised words; `forgiven` counts function words that were missing, extra or wrong."""

    intent: str
    slots: Mapping[str, str]
    forgiven: int = 0


def split_of(text: str) -> Split:
    """The part to which a sentence belongs, by a hash of its words: 5 % test, 3 % dev, the rest train.

    It depends on the words alone, so that no sentence is in different parts of two corpora. Case,
    punctuation, hyphens, contractions and digits make no difference.
    """
    place = int(hashlib.sha256(plain(text).encode()).hexdigest(), 16) % 100
    return "test" if place < 5 else "dev" if place < 8 else "train"


class Grammar:
    """A checked grammar. Obtain one from `load_grammar`.

    Attributes:
        name: the file's name without its suffix.
        sha256: hash of the file and everything that it includes.
    """

    def __init__(self, name: str, rules: RuleSet) -> None:
        self.name = name
        self.sha256 = rules.sha256
        self._rules = rules

    @property
    def intents(self) -> tuple[str, ...]:
        """The intents of the grammar."""
        return tuple(self._rules.intents)

    @cached_property
    def slots(self) -> frozenset[str]:
        """The names of all slots that its sentences may have."""
        found, waiting = set[str](), [one.node for rule in self._rules.rules.values() for one in rule]
        while waiting:
            node = waiting.pop()
            if isinstance(node, Seq | Choice):
                waiting += node.parts if isinstance(node, Seq) else node.options
            elif isinstance(node, Ref) and node.slot is not None:
                found.add(node.slot)
        return frozenset(found)

    @cached_property
    def graph(self) -> WordGraph:
        """The sentences as an automaton over words."""
        return WordGraph(self._rules)

    def generate(self, rng: random.Random, split: Split | None = None) -> Sentence:
        """Draw a sentence by the weights.

        Args:
            rng: the only source of chance; the same state gives the same sentence.
            split: draw again until the sentence belongs to this part (see `split_of`).

        Raises:
            EdgeSpeechError: no sentence of that part turned up in 10,000 draws (the grammar is too small).
        """
        for _ in range(_TRIES):
            sentence = self._draw(rng)
            if sentence.text and split in (None, split_of(sentence.text)):
                return sentence
        raise bad(
            f"grammar {self.name}", "split", split, f"a part that has sentences ({_TRIES} draws gave none)"
        )

    def _draw(self, rng: random.Random) -> Sentence:
        intents = list(self._rules.intents)
        intent = intents[_pick(rng, [self._rules.intents[i][1] for i in intents])]
        key, _ = self._rules.intents[intent]
        marks: list[Mark] = []
        self._say(rng, Ref(key[1], key), marks, False)
        words = [mark for mark in marks if isinstance(mark, str)]
        text = " ".join(_JOINED[self._rules.language](words))
        return Sentence(text, intent, fill_slots(marks))

    def _say(self, rng: random.Random, node: Node, marks: list[Mark], in_slot: bool) -> None:
        if isinstance(node, Word):
            marks.append(node.text)
        elif isinstance(node, Seq):
            for part in node.parts:
                self._say(rng, part, marks, in_slot)
        elif isinstance(node, Choice):
            self._say(rng, node.options[_pick(rng, [1.0] * len(node.options))], marks, in_slot)
        else:
            self._say_ref(rng, node, marks, in_slot)

    def _say_ref(self, rng: random.Random, node: Ref, marks: list[Mark], in_slot: bool) -> None:
        alternatives = self._rules.rules[node.key]
        chosen = alternatives[_pick(rng, [a.probability for a in alternatives])]
        if node.slot is not None:
            marks.append(Open(node.name, slot=node.slot))
        if in_slot or node.slot is not None:
            marks.append(Open(node.name, template=chosen.value))
            self._say(rng, chosen.node, marks, True)
            marks.append(Close())
        else:
            self._say(rng, chosen.node, marks, False)
        if node.slot is not None:
            marks.append(Close())

    def parse(self, words: str) -> Parse | None:
        """Parse recognised words to intent and slots; None if the grammar does not accept the sentence.

        Fillers ("uh", "please", "like") may occur anywhere. Outside slots, one function word may be missing, extra or
        wrong; the words of a slot must be those of a value or of one of its synonyms. Case,
        punctuation, hyphens, contractions and digits against number words make no difference. Among several
        readings the one with fewest forgiven words wins, then the likeliest.

        Args:
            words: what a recogniser wrote, in any spelling.
        """
        found = self.graph.parse(words)
        return None if found is None else Parse(*found)

    def count(self) -> int:
        """How many distinct sentences there are, exactly. May take seconds for a large grammar."""
        return self.graph.count()

    def values(self, rule: str) -> tuple[str, ...]:
        """The canonical values of a vocabulary rule (every alternative has a fixed value), in file order.

        Raises:
            EdgeSpeechError: there is no such rule, or its values are not fixed.
        """
        for (file, name), alternatives in self._rules.rules.items():
            if name == rule:
                found = dict.fromkeys(a.value for a in alternatives)
                values = tuple(v for v in found if v is not None and "<" not in v)
                if len(values) == len(found):
                    return values
                raise bad(f"{file}.yaml: rule {rule}", "values", "composed", "a vocabulary with fixed values")
        raise bad(f"grammar {self.name}", "rule", rule, "a rule of this grammar")


def _pick(rng: random.Random, probabilities: list[float]) -> int:
    point = rng.random() * sum(probabilities)
    for i, probability in enumerate(probabilities):
        point -= probability
        if point < 0:
            return i
    return len(probabilities) - 1


def load_grammar(name_or_path: str | Path) -> Grammar:
    """Load a grammar by name (from `data_manifests/grammars/`) or from a `.yaml` file.

    Raises:
        EdgeSpeechError: see `edgespeech.text.grammar_rules.load_rules`.
    """
    path = Path(name_or_path)
    if path.suffix != ".yaml":
        path = manifests_dir() / "grammars" / f"{name_or_path}.yaml"
    return Grammar(path.stem, load_rules(path))
