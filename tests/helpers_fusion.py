"""A small language model for searches, over any number of labels, with scores that a packed file holds exactly."""

from __future__ import annotations

import numpy as np

from edgespeech.lm.estimate import estimate
from edgespeech.lm.fusion import Fusion, FusionWeights
from edgespeech.lm.ngram import NGram
from edgespeech.packed.pack import SCORE_STEP


def fusion_of(vocabulary: int, high: float = 0.7, label: float = 0.4) -> Fusion:
    """Of sentences that are drawn, some labels far oftener than others; every label is said."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, vocabulary)
    drawn = [
        tuple(int(label) for label in 1 + rng.choice(vocabulary - 1, size, p=shares / shares.sum()))
        for size in rng.integers(1, 7, 60)
    ]
    sentences = [*drawn, tuple(range(1, vocabulary))]
    four, two = (_rounded(estimate(sentences, vocabulary, order, 1e-4)) for order in (4, 2))
    return Fusion(four, two, FusionWeights(high=high, low=0.2, label=label))


def _rounded(model: NGram) -> NGram:
    """With scores that a packed file holds exactly."""
    table = model.table.copy()
    table[2:] = np.rint(table[2:] / SCORE_STEP) * SCORE_STEP
    return NGram(table, model.vocabulary, "rounded")
