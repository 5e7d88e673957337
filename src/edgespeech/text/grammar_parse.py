"""Parsing recognised words to intent and slots: the likeliest path through the grammar's word graph.

The rules, which have no cycles, are written out into one finite weighted automaton. A sentence is parsed by dynamic
programming over position, state and edits; the outgoing arcs of a state are computed when it is first visited.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edgespeech.text.grammar_nodes import Alternative, Choice, Node, Ref, RuleSet, Seq, Word
from edgespeech.text.spoken import canonical, readings

FILLERS = frozenset(
    ["uh", "um", "er", "erm", "ah", "hmm", "hm", "mm", "oh", "well", "like", "please", "so", "okay", "yeah"]
)
"""Filler words, which may occur anywhere without meaning."""
SMALL_WORDS = frozenset(
    ["a", "the", "of", "some", "and", "to", "for", "in", "at", "with", "my", "me", "i", "you", "your", "it"]
).union(["this", "that", "is", "are", "us", "be", "do", "just", "would", "will", "can"])
"""Function words; one of them may be missing, extra or wrong outside a slot's words."""
MAX_EDITS = 1
_EDIT_COST = 1e6
_FILLER_COST = 1e3


@dataclass(frozen=True, slots=True)
class Open:
    """Start of a slot (`slot` is set) or, inside one, of an alternative of a rule."""

    rule: str
    slot: str | None = None
    template: str | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """End of the innermost open part."""


Mark = str | Open | Close


def fill_slots(marks: Iterable[Mark]) -> dict[str, str]:
    """The slot values of a path through the grammar.

    Args:
        marks: the path's words and part boundaries, in order; words outside slots are ignored.
    """
    slots: dict[str, str] = {}
    stack: list[tuple[Open, list[tuple[str, str]]]] = []
    for mark in marks:
        if isinstance(mark, Open):
            stack.append((mark, []))
        elif isinstance(mark, Close):
            opened, parts = stack.pop()
            if opened.template is None:
                value = " ".join(text for _, text in parts if text)
            else:
                value = _fill_template(opened.template, parts)
            if opened.slot is not None:
                slots[opened.slot] = value
            else:
                stack[-1][1].append((opened.rule, value))
        elif stack:
            stack[-1][1].append(("", mark))
    return slots


def _fill_template(template: str, parts: Sequence[tuple[str, str]]) -> str:
    left = list(parts)

    def take(match: re.Match[str]) -> str:
        for i, (rule, value) in enumerate(left):
            if rule == match[1]:
                del left[i]
                return value
        return ""

    return re.sub(r"<([\w-]+)>", take, template)


@dataclass(slots=True)
class _State:
    silent: list[tuple[int, float, tuple[Mark, ...]]] = field(default_factory=list)
    word: tuple[str, int, bool, tuple[Mark, ...]] | None = None


@dataclass(slots=True)
class _Next:
    """The outgoing arcs of a state: word to (target, cost, marks, may be edited); and the cost of ending in it."""

    words: dict[str, list[tuple[int, float, tuple[Mark, ...], bool]]]
    end: tuple[float, tuple[Mark, ...]] | None


@dataclass(frozen=True, slots=True)
class _Entry:
    """A hypothesis: its cost, and its last marks with the hypothesis before it."""

    cost: float
    marks: tuple[Mark, ...]
    before: _Entry | None


START: frozenset[int] = frozenset([0])
"""The states of a word graph before the first word."""


class WordGraph:
    """The automaton of a grammar. State 0 is the start, state 1 the end.

    Attributes:
        words: every word of the grammar's sentences, as written in the grammar, and "an" for "a".
    """

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules.rules
        self._spellings = rules.spellings
        self._states = [_State(), _State()]
        self._next: dict[int, _Next] = {}
        self.words: set[str] = set()
        self._intents = list(rules.intents)
        for intent, (key, probability) in rules.intents.items():
            start = self._new()
            self._states[0].silent.append((start, -math.log(probability), (intent,)))
            self._states[self._rule(self._rules[key], key[1], start, False)].silent.append((1, 0.0, ()))

    def _new(self) -> int:
        self._states.append(_State())
        return len(self._states) - 1

    def _rule(self, alternatives: Sequence[Alternative], name: str, start: int, in_slot: bool) -> int:
        end = self._new()
        for alternative in alternatives:
            first = self._new()
            opening = (Open(name, template=alternative.value),) if in_slot else ()
            closing = (Close(),) if in_slot else ()
            self._states[start].silent.append((first, -math.log(alternative.probability), opening))
            last = self._node(alternative.node, first, in_slot)
            self._states[last].silent.append((end, 0.0, closing))
        return end

    def _node(self, node: Node, start: int, in_slot: bool) -> int:
        if isinstance(node, Word):
            self.words |= {"a", "an"} if node.text == "a" else {node.text}
            mark: tuple[Mark, ...] = (node.text,) if in_slot else ()
            for piece in canonical(node.text):
                target = self._new()
                self._states[start].word = (piece, target, not in_slot, mark)
                start, mark = target, ()
            return start
        if isinstance(node, Seq):
            for part in node.parts:
                start = self._node(part, start, in_slot)
            return start
        if isinstance(node, Choice):
            end = self._new()
            cost = math.log(len(node.options))
            for option in node.options:
                first = self._new()
                self._states[start].silent.append((first, cost, ()))
                self._states[self._node(option, first, in_slot)].silent.append((end, 0.0, ()))
            return end
        return self._ref(node, start, in_slot)

    def _ref(self, node: Ref, start: int, in_slot: bool) -> int:
        alternatives = self._rules[node.key]
        if node.slot is None:
            return self._rule(alternatives, node.name, start, in_slot)
        first, end = self._new(), self._new()
        self._states[start].silent.append((first, 0.0, (Open(node.name, slot=node.slot),)))
        last = self._rule(alternatives, node.name, first, True)
        self._states[last].silent.append((end, 0.0, (Close(),)))
        return end

    def _after(self, state: int) -> _Next:
        """The arcs that leave `state`, through any epsilon arcs; cached."""
        if state in self._next:
            return self._next[state]
        best: dict[int, tuple[float, tuple[Mark, ...]]] = {state: (0.0, ())}
        pending = [state]
        while pending:
            here = pending.pop()
            cost, marks = best[here]
            for target, step, more in self._states[here].silent:
                if target not in best or cost + step < best[target][0]:
                    best[target] = (cost + step, marks + more)
                    pending.append(target)
        words: dict[str, list[tuple[int, float, tuple[Mark, ...], bool]]] = {}
        for here, (cost, marks) in best.items():
            if (arc := self._states[here].word) is not None:
                word, target, editable, more = arc
                words.setdefault(word, []).append((target, cost, marks + more, editable))
        self._next[state] = _Next(words, best.get(1))
        return self._next[state]

    def parse(self, text: str) -> tuple[str, dict[str, str], int] | None:
        """The likeliest parse of a text: intent, slots and the number of forgiven function words; or None."""
        arcs = self._arcs(text)
        columns: list[dict[tuple[int, int], _Entry]] = [{} for _ in arcs]
        columns[0][0, 0] = _Entry(0.0, (), None)
        for position, outgoing in enumerate(arcs):
            self._forgive_missing(columns[position])
            for word, target in outgoing:
                for (state, edits), entry in columns[position].items():
                    self._read(word, state, edits, entry, columns[target])
        best: tuple[_Entry, int] | None = None
        for (state, edits), entry in columns[-1].items():
            end = self._after(state).end
            if end is not None and (best is None or entry.cost + end[0] < best[0].cost):
                best = (_Entry(entry.cost + end[0], end[1], entry), edits)
        return None if best is None else self._result(*best)

    def _arcs(self, text: str) -> list[list[tuple[str, int]]]:
        """The readings of a text as a graph: per position, the possible words and the positions after them."""
        arcs: list[list[tuple[str, int]]] = [[]]
        for token in readings(text, self._spellings):
            start = len(arcs) - 1
            inner = sum(len(reading) - 1 for reading in token)
            end = start + inner + 1
            arcs += [[] for _ in range(inner + 1)]
            free = start + 1
            for reading in token:
                here = start
                for word in reading[:-1]:
                    arcs[here].append((word, free))
                    here, free = free, free + 1
                arcs[here].append((reading[-1], end))
        return arcs

    def _forgive_missing(self, column: dict[tuple[int, int], _Entry]) -> None:
        for (state, edits), entry in list(column.items()):
            if edits >= MAX_EDITS:
                continue
            following = self._after(state).words
            for small in SMALL_WORDS & following.keys():
                for target, cost, marks, editable in following[small]:
                    if editable:
                        _keep(column, (target, edits + 1), entry, cost + _EDIT_COST, marks)

    def _read(
        self, word: str, state: int, edits: int, entry: _Entry, column: dict[tuple[int, int], _Entry]
    ) -> None:
        following = self._after(state).words
        for target, cost, marks, _ in following.get(word, ()):
            _keep(column, (target, edits), entry, cost, marks)
        if word in FILLERS:
            _keep(column, (state, edits), entry, _FILLER_COST, ())
        if word not in SMALL_WORDS or edits >= MAX_EDITS:
            return
        _keep(column, (state, edits + 1), entry, _EDIT_COST, ())
        for small in SMALL_WORDS & following.keys() - {word}:
            for target, cost, marks, editable in following[small]:
                if editable:
                    _keep(column, (target, edits + 1), entry, cost + _EDIT_COST, marks)

    def _result(self, last: _Entry, edits: int) -> tuple[str, dict[str, str], int]:
        pieces: list[tuple[Mark, ...]] = []
        entry: _Entry | None = last
        while entry is not None:
            pieces.append(entry.marks)
            entry = entry.before
        marks = [mark for piece in reversed(pieces) for mark in piece]
        intent = marks[0]
        assert isinstance(intent, str)
        return intent, fill_slots(marks[1:]), edits

    def follow(self, states: frozenset[int], word: str) -> frozenset[int]:
        """The states reached from some states by one of `words`, read literally; empty if there are none."""
        for piece in canonical(word):
            states = frozenset(arc[0] for state in states for arc in self._after(state).words.get(piece, ()))
        return states

    def ends(self, states: Iterable[int]) -> bool:
        """Whether a sentence may end in any of these states."""
        return any(self._after(state).end is not None for state in states)

    def count(self) -> int:
        """The number of distinct sentences (word sequences), exactly: paths of the determinised automaton."""
        known: dict[frozenset[int], int] = {}

        def total(states: frozenset[int]) -> int:
            if states not in known:
                targets: dict[str, set[int]] = {}
                for state in states:
                    for word, found in self._after(state).words.items():
                        targets.setdefault(word, set()).update(arc[0] for arc in found)
                known[states] = self.ends(states) + sum(total(frozenset(t)) for t in targets.values())
            return known[states]

        return total(START)


def _keep(
    column: dict[tuple[int, int], _Entry],
    key: tuple[int, int],
    before: _Entry,
    step: float,
    marks: tuple[Mark, ...],
) -> None:
    cost = before.cost + step
    if key not in column or cost < column[key].cost:
        column[key] = _Entry(cost, marks, before)
