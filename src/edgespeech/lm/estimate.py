"""Estimation of the back-off n-gram models of `edgespeech.lm.ngram` from sentences of word pieces.

Sources: R. Kneser, H. Ney, "Improved backing-off for m-gram language modeling" (ICASSP 1995), interpolated and with
one discount an order, as S. Chen, J. Goodman, "An empirical study of smoothing techniques for language modeling"
(1999), section 2.7, have it; A. Stolcke, "Entropy-based pruning of backoff language models" (1998).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from math import log

import numpy as np

from edgespeech.errors import bad
from edgespeech.lm.ngram import START, NGram

Labels = tuple[int, ...]
_RARE_FROM = 4
"""Sequences of at least this many labels are left out if they occur only once."""
_DISCOUNTS = (0.3, 0.9)
_TINY = 1e-6


def estimate(sentences: Iterable[Sequence[int]], vocabulary: int, order: int, prune: float) -> NGram:
    """A Kneser-Ney model, pruned.

    Args:
        sentences: labels of each, without blanks.
        vocabulary: number of labels, the blank included.
        order: of the model, at least 2.
        prune: sequences of at least 3 labels are removed if that changes the model's log-probability of a label by less
            than this on average, in nats; 0 removes none.

    Raises:
        EdgeSpeechError: there are no sentences, or the order or the bound is out of range.
    """
    if order < 2:
        raise bad("n-gram", "order", order, "at least 2")
    if not prune >= 0:
        raise bad("n-gram", "prune", prune, "at least 0")
    counts = _count(sentences, order)
    said = sum(counts[1].values())
    if not said:
        raise bad("n-gram", "sentences", 0, "at least one")
    histories: Counter[Labels] = Counter()
    for of_order in counts[1:]:
        for gram, count in of_order.items():
            histories[gram[:-1]] += count
    model = _Model(counts, vocabulary)
    if prune:
        model.prune(prune, {history: count / said for history, count in histories.items()})
    return NGram(model.table(), vocabulary, "n-gram")


def _count(sentences: Iterable[Sequence[int]], order: int) -> list[Counter[Labels]]:
    """Counts of sequences of 1 to `order` labels; one may start with `START` but is never `START` alone."""
    counts: list[Counter[Labels]] = [Counter() for _ in range(order + 1)]
    for sentence in sentences:
        labels = (START, *sentence)
        for end in range(2, len(labels) + 1):
            for length in range(1, min(order, end) + 1):
                counts[length][labels[end - length : end]] += 1
    for length in range(1, order + 1):
        least = 2 if length >= _RARE_FROM else 1
        counts[length] = Counter({gram: n for gram, n in counts[length].items() if n >= least})
    return counts


class _Model:
    """Conditional probabilities of the last label of each sequence, by length, and back-off weights."""

    def __init__(self, counts: list[Counter[Labels]], vocabulary: int) -> None:
        self._even = 1 / (vocabulary - 1)
        self._order = len(counts) - 1
        self._probabilities: list[dict[Labels, float]] = [{} for _ in counts]
        self._backoffs: dict[Labels, float] = {}
        for length in range(1, self._order + 1):
            self._estimate(length, counts[length] if length == self._order else _continued(counts, length))

    def _estimate(self, length: int, counts: Counter[Labels]) -> None:
        once, twice = (sum(1 for n in counts.values() if n == times) for times in (1, 2))
        low, high = _DISCOUNTS
        discount = min(high, max(low, once / (once + 2 * twice))) if once and twice else 0.5
        total: Counter[Labels] = Counter()
        kinds: Counter[Labels] = Counter()
        for gram, n in counts.items():
            total[gram[:-1]] += n
            kinds[gram[:-1]] += 1
        shares = {history: discount * kinds[history] / total[history] for history in total}
        for gram, n in counts.items():
            history = gram[:-1]
            lower = self.probability(gram[1:])
            self._probabilities[length][gram] = (n - discount) / total[history] + shares[history] * lower
        self._backoffs.update(shares)

    def probability(self, gram: Labels) -> float:
        """The probability of the last label given the others; for the empty sequence, the uniform one."""
        share = 1.0
        while gram:
            if (found := self._probabilities[len(gram)].get(gram)) is not None:
                return share * found
            share *= self._backoffs.get(gram[:-1], 1.0)
            gram = gram[1:]
        return share * self._even

    def prune(self, bound: float, histories: dict[Labels, float]) -> None:
        """Remove sequences whose loss changes little, longest first; prefixes of remaining sequences stay."""
        for length in range(self._order, 2, -1):
            own = self._probabilities[length]
            needed = (
                {gram[:-1] for gram in self._probabilities[length + 1]} if length < self._order else set()
            )
            gone = []
            for gram, probability in own.items():
                history = gram[:-1]
                without = self._backoffs[history] * self.probability(gram[1:])
                change = histories.get(history, 0.0) * probability * abs(log(probability / without))
                if gram not in needed and change < bound:
                    gone.append(gram)
            for gram in gone:
                del own[gram]
        self._renormalise()

    def _renormalise(self) -> None:
        """Set the back-off weights so that probabilities add up to one again."""
        for of_length in self._probabilities[2:]:
            below: dict[Labels, list[Labels]] = defaultdict(list)
            for gram in of_length:
                below[gram[:-1]].append(gram)
            for history, grams in below.items():
                kept = sum(of_length[gram] for gram in grams)
                lower = sum(self.probability(gram[1:]) for gram in grams)
                self._backoffs[history] = max(1 - kept, _TINY) / max(1 - lower, _TINY)

    def table(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
        """The table for `NGram`. Prefixes of sequences are nodes even if they were never predicted."""
        grams = set(chain.from_iterable(self._probabilities))
        for gram in list(grams):
            grams.update(gram[:end] for end in range(1, len(gram)))
        nodes = [(), *sorted(grams, key=lambda gram: (len(gram), gram))]
        children = Counter(gram[:-1] for gram in nodes[1:])
        table = np.zeros((4, len(nodes)), np.float16)
        for place, gram in enumerate(nodes):
            table[1, place] = children[gram]
            if gram:
                table[0, place] = gram[-1]
                table[2, place] = log(max(self.probability(gram), _TINY))
                table[3, place] = log(self._backoffs.get(gram, 1.0)) if children[gram] else 0
        return table


def _continued(counts: list[Counter[Labels]], length: int) -> Counter[Labels]:
    """Continuation counts: the number of different preceding labels; of a sequence after `START`, its count."""
    before = Counter(gram[1:] for gram in counts[length + 1])
    return Counter({gram: n if gram[0] == START else before[gram] or 1 for gram, n in counts[length].items()})
