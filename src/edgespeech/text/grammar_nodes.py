"""The rules of a grammar once they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgespeech.text.spoken import Reading

Key = tuple[str, str]
"""A rule's file and name."""


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word."""

    text: str


@dataclass(frozen=True, slots=True)
class Ref:
    """The words of another rule, perhaps captured as a slot. `key` names it."""

    name: str
    key: Key
    slot: str | None = None


@dataclass(frozen=True, slots=True)
class Seq:
    """Parts in sequence; an empty sequence is silence."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several equally likely parts."""

    options: tuple[Node, ...]


Node = Word | Ref | Seq | Choice


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way of saying a rule: its probability among the rule's alternatives, pattern and value template."""

    probability: float
    node: Node
    value: str | None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Checked rules of a grammar file and all that it includes.

    Attributes:
        rules: file and rule name to alternatives.
        intents: intent to its rule's key and its probability.
        spellings: other spelling to the words that it stands for.
        sha256: of the files' contents, in order of their names.
        language: of its sentences.
    """

    rules: Mapping[Key, tuple[Alternative, ...]]
    intents: Mapping[str, tuple[Key, float]]
    spellings: Mapping[str, Reading]
    sha256: str
    language: str = "en"
