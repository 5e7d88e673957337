"""Understanding what was recognised: values of slots as grammars name them, expected intents over lattices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import PLAIN, Scales, paths
from edgespeech.text.grammar import Parse
from edgespeech.text.spoken import plain
from edgespeech.understanding.runtime import Understander, Understanding, probabilities

Values = Mapping[tuple[str, str], str]
"""The value of a slot said in some words, by the slot's name and the words."""


def values_of(said: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """The most frequent value of each slot said in some words.

    Args:
        said: name, words in spoken form, value.
    """
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for name, words, value in said:
        counts[name, words][value] += 1
    return {key: sorted(found, key=lambda value: (-found[value], value))[0] for key, found in counts.items()}


def as_parse(found: Understanding, values: Values) -> Parse:
    """An understanding as a grammar's parse, for `edgespeech.metrics.acceptance`; words without a value stay words."""
    return Parse(
        found.intent, {name: values.get((name, words), words) for name, words in found.slots.items()}
    )


def expected_intents(
    model: Understander, lattice: Lattice, scheme: str, most: int, scales: Scales = PLAIN
) -> tuple[NDArray[np.float64], float]:
    """The probability of each intent over the paths of a lattice: the sum of P(path) P(intent | its words).

    Args:
        model: the network.
        lattice: of the utterance.
        scheme: whose intents.
        most: paths, the best ones.
        scales: weights of the paths' scores.

    Returns:
        Probabilities, with shape `(I,)`, 0 where no path has words; and the share of the best path among these paths.
    """
    found = [(plain(path.text).split(), path.score) for path in islice(paths(lattice, scales), most)]
    scores = np.array([score for _, score in found])
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    total = np.zeros(len(model.scheme(scheme).intents))
    for (words, _), share in zip(found, shares, strict=True):
        if words:
            total += share * probabilities(model.scores(words, scheme)[0])
    return total, float(shares[0])


def described(found: Understanding) -> dict[str, Any]:
    """An understanding as JSON has it."""
    return {
        "intent": found.intent,
        "probability": round(found.probability, 4),
        "slots": dict(found.slots),
        "words": " ".join(found.words),
    }
