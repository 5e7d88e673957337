"""A search that prefers the sentences of a grammar: what leads out of them costs something.

Source: M. Mohri, F. Pereira, M. Riley, "Weighted finite-state transducers in speech recognition" (Computer Speech &
Language 16, 2002), section 2: a command grammar as an automaton of words, which the search walks along. Here the
automaton is followed word piece by word piece, however a word is cut into pieces, and it forbids nothing: a sentence
that it does not know pays once, where it leaves the grammar.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgespeech.core.labels import BLANK, SPACE
from edgespeech.errors import bad
from edgespeech.lm.fusion import Fusion
from edgespeech.text.grammar_parse import START, WordGraph

_KEPT = 65_536
"""Hypotheses whose place in the grammar is kept."""

_Place = tuple[frozenset[int], str | None]
"""The grammar's states before the word in progress, and its letters so far; None before the first word."""
_BEGIN: _Place = (START, None)


class GrammarScores:
    """Scores labels by their history as fusion does, less what leaving the grammar costs.

    Args:
        fusion: the scores of a language model.
        graph: the grammar's.
        pieces: every word piece by its label.
        cost: of the label with which a hypothesis leaves the grammar, in nats; at least 0.

    Raises:
        EdgeSpeechError: the cost is below 0.
    """

    def __init__(self, fusion: Fusion, graph: WordGraph, pieces: Sequence[str], cost: float) -> None:
        if not cost >= 0:
            raise bad("grammar", "cost", cost, "nats, at least 0")
        self._fusion = fusion
        self._graph = graph
        self._pieces = pieces
        self._cost = cost
        self._places: dict[tuple[int, ...], _Place | None] = {(): _BEGIN}
        self._following: dict[frozenset[int], dict[str, frozenset[int]]] = {}
        self._beginnings: dict[frozenset[int], frozenset[str]] = {}
        self._costs: dict[_Place, NDArray[np.float32]] = {}

    def rows(self, hypotheses: Iterable[Sequence[int]]) -> NDArray[np.float32]:
        """What is added to the log-probability of each label that may follow, with shape `(P, V)`; 0 for the blank.

        Args:
            hypotheses: the labels of each of P, at least 1.
        """
        if len(self._places) > _KEPT:
            self._places = {(): _BEGIN}
        return np.stack([self._scores(tuple(labels)) for labels in hypotheses])

    def _scores(self, labels: tuple[int, ...]) -> NDArray[np.float32]:
        scores, place = self._fusion.scores(labels), self._place(labels)
        if place is None:
            return scores
        if place not in self._costs:
            leaves = [
                label != BLANK and self._moved(place, label) is None for label in range(len(self._pieces))
            ]
            self._costs[place] = np.array(leaves, np.float32) * np.float32(self._cost)
        return scores - self._costs[place]

    def _place(self, labels: tuple[int, ...]) -> _Place | None:
        """Where labels lead in the grammar; None is outside of it."""
        if labels not in self._places:
            before = self._place(labels[:-1])
            self._places[labels] = None if before is None else self._moved(before, labels[-1])
        return self._places[labels]

    def _moved(self, place: _Place, label: int) -> _Place | None:
        states, word = place
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
        """Where each word that may come next leads."""
        if states not in self._following:
            reached = {word: self._graph.follow(states, word) for word in self._graph.words}
            self._following[states] = {word: found for word, found in reached.items() if found}
        return self._following[states]

    def _begun(self, states: frozenset[int]) -> frozenset[str]:
        """The beginnings of the words that may come next."""
        if states not in self._beginnings:
            self._beginnings[states] = frozenset(
                word[:end] for word in self._after(states) for end in range(len(word) + 1)
            )
        return self._beginnings[states]
