"""A soft grammar constraint for beam search: a label that leaves the grammar costs a penalty.

Source: M. Mohri, F. Pereira, M. Riley, "Weighted finite-state transducers in speech recognition" (Computer Speech &
Language 16, 2002), section 2: a command grammar as an automaton of words, which restricts the search. Here
the automaton is followed word piece by word piece, however a word is split into pieces, and it forbids nothing: a
sentence that the grammar does not accept pays the penalty once, where it leaves the grammar.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgespeech.core.history import History
from edgespeech.core.labels import BLANK, SPACE
from edgespeech.errors import bad
from edgespeech.lm.fusion import Fusion
from edgespeech.text.grammar_parse import START, WordGraph

_CACHED = 65_536
"""Hypotheses whose position in the grammar is cached."""

_Position = tuple[frozenset[int], str | None]
"""The grammar's states before the word in progress, and its letters so far; None before the first word."""
_BEGIN: _Position = (START, None)


class GrammarScores:
    """Language-model scores of labels given their history, minus a penalty for leaving the grammar.

    Args:
        fusion: the scores of a language model.
        graph: the grammar's word graph.
        pieces: every word piece by its label.
        penalty: subtracted from the score of the label with which a hypothesis leaves the grammar, in nats; at least 0.

    Raises:
        EdgeSpeechError: the penalty is below 0.
    """

    def __init__(self, fusion: Fusion, graph: WordGraph, pieces: Sequence[str], penalty: float) -> None:
        if not penalty >= 0:
            raise bad("grammar", "penalty", penalty, "nats, at least 0")
        self._fusion = fusion
        self._graph = graph
        self._pieces = pieces
        self._penalty = penalty
        self._positions: dict[History, _Position | None] = {History(): _BEGIN}
        self._following: dict[frozenset[int], dict[str, frozenset[int]]] = {}
        self._beginnings: dict[frozenset[int], frozenset[str]] = {}
        self._penalties: dict[_Position, NDArray[np.float32]] = {}

    def rows(self, hypotheses: Iterable[Sequence[int]]) -> NDArray[np.float32]:
        """Scores to add to the log-probability of each possible next label, with shape `(P, V)`; 0 for the blank.

        Args:
            hypotheses: the labels of each of P, at least 1.
        """
        if len(self._positions) > _CACHED:
            self._positions = {History(): _BEGIN}
        return np.stack([self._scores(History.of(labels)) for labels in hypotheses])

    def _scores(self, labels: History) -> NDArray[np.float32]:
        scores, position = self._fusion.scores(labels), self._position(labels)
        if position is None:
            return scores
        if position not in self._penalties:
            leaves = [
                label != BLANK and self._moved(position, label) is None for label in range(len(self._pieces))
            ]
            self._penalties[position] = np.array(leaves, np.float32) * np.float32(self._penalty)
        return scores - self._penalties[position]

    def _position(self, labels: History) -> _Position | None:
        """The position in the grammar after these labels; None if they are outside of it."""
        unknown = []
        while labels not in self._positions:
            unknown.append(labels)
            assert labels.before is not None  # that of no labels is known
            labels = labels.before
        found = self._positions[labels]
        for one in reversed(unknown):
            found = None if found is None else self._moved(found, one.label)
            self._positions[one] = found
        return found

    def _moved(self, position: _Position, label: int) -> _Position | None:
        states, word = position
        piece = self._pieces[label]
        if not piece.startswith(SPACE):
            if word is None:
                return None
            word += piece
        else:
            if word is not None:
                if word not in self._after(states):
                    return None
                states = self._after(states)[word]
            word = piece.removeprefix(SPACE)
        return (states, word) if word in self._begun(states) else None

    def _after(self, states: frozenset[int]) -> dict[str, frozenset[int]]:
        """The states after each word that may come next."""
        if states not in self._following:
            reached = {word: self._graph.follow(states, word) for word in self._graph.words}
            self._following[states] = {word: found for word, found in reached.items() if found}
        return self._following[states]

    def _begun(self, states: frozenset[int]) -> frozenset[str]:
        """All prefixes of the words that may come next."""
        if states not in self._beginnings:
            self._beginnings[states] = frozenset(
                word[:end] for word in self._after(states) for end in range(len(word) + 1)
            )
        return self._beginnings[states]
