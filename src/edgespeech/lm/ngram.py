"""A back-off n-gram model of word pieces, as small arrays shared by the torch search and the native one.

Source: S. Katz, "Estimation of probabilities from sparse data for the language model component of a speech
recognizer" (IEEE TASSP 1987); the trie in breadth-first order is K. Heafield's, "KenLM" (WMT 2011), section 3.2,
with contexts read forwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import log

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import bad

ROWS = ("labels", "children", "log_probs", "backoffs")
START = 0
"""The label before the first one of a sentence: the blank's number, which never occurs inside one."""
MOST = 2048
"""Maximum number of labels: half precision represents integers exactly up to this."""


class NGram:
    """A trie of label sequences: node 0 is the empty one, and the children of a node are contiguous.

    Args:
        table: half precision, with shape `(4, N)`, a column for every node in breadth-first order: its label, how
            many children it has, the natural logarithm of its label's probability after its parent, and the back-off
            weight, which is added to the shorter context's log-probability of a label without a child here. Of node 0
            only the number of children is used.
        vocabulary: number of labels, the blank included.
        where: what messages call it.

    Raises:
        EdgeSpeechError: the table is not such a trie.
    """

    def __init__(self, table: NDArray[np.float16], vocabulary: int, where: str) -> None:
        if table.ndim != 2 or table.shape[0] != len(ROWS) or table.shape[1] < 1 or table.dtype != np.float16:
            raise bad(where, "table", f"{table.dtype} {table.shape}", "float16 (4, nodes)")
        if not np.isfinite(table).all():
            raise bad(where, "value", "not a finite number", "finite numbers")
        if not 2 <= vocabulary <= MOST:
            raise bad(where, "vocabulary", vocabulary, f"2 to {MOST}")
        self.table = table
        self.vocabulary = vocabulary
        labels, children = table[0].astype(np.int64), table[1].astype(np.int64)
        if (table[:2] != np.stack([labels, children])).any() or children.min() < 0:
            raise bad(where, "labels, children", "a fraction or less than 0", "whole numbers of at least 0")
        if int(children.sum()) != len(labels) - 1:
            raise bad(where, "children", int(children.sum()), f"{len(labels) - 1}: every node but the first")
        self._first = 1 + np.concatenate([[0], np.cumsum(children)])
        if (self._first[1:-1] <= np.arange(1, len(labels))).any():
            raise bad(where, "children", "a node before its parent", "nodes in breadth-first order")
        if not ((labels[1:] >= 0) & (labels[1:] < vocabulary)).all():
            raise bad(where, "labels", int(labels[1:].max()), f"0 to {vocabulary - 1}")
        falls = np.flatnonzero(np.diff(labels[1:]) <= 0) + 2
        if not np.isin(falls, self._first).all():
            raise bad(where, "labels", "one that does not grow", "growing labels below a node")
        self._labels = labels
        self._log_probs, self._backoffs = table[2].astype(np.float64), table[3].astype(np.float64)

    @cached_property
    def order(self) -> int:
        """The length of the longest sequence."""
        depth, start, end = 0, 0, 1
        while (level := (int(self._first[start]), int(self._first[end]))) != (end, end):
            depth, (start, end) = depth + 1, level
        return depth

    def log_probs(self, history: Sequence[int]) -> NDArray[np.float64]:
        """Natural logarithms of the probabilities of each possible next label, with shape `(V,)`.

        Args:
            history: the labels so far, `START` before them; of more than the order's the last ones count.
        """
        found = np.full(self.vocabulary, -log(self.vocabulary - 1))
        for length in range(min(len(history), self.order - 1) + 1):
            node = self._find(history[len(history) - length :])
            if node is None:
                continue
            below = slice(int(self._first[node]), int(self._first[node + 1]))
            if node:
                found += self._backoffs[node]
            found[self._labels[below]] = self._log_probs[below]
        return found

    def _find(self, sequence: Sequence[int]) -> int | None:
        """The node of a sequence that has children."""
        node = 0
        for label in sequence:
            first, end = int(self._first[node]), int(self._first[node + 1])
            at = first + int(np.searchsorted(self._labels[first:end], label))
            if at == end or self._labels[at] != label:
                return None
            node = at
        return node if self._first[node] < self._first[node + 1] else None
