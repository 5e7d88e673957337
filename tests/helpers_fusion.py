"""A small language model for searches, over any number of labels."""

from __future__ import annotations

import numpy as np

from edgespeech.decoding.fusion import Fusion, FusionWeights
from edgespeech.training.ngram import estimate


def fusion_of(vocabulary: int, high: float = 0.7, label: float = 0.4) -> Fusion:
    """Of sentences that are drawn, some labels far oftener than others; every label is said."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, vocabulary)
    drawn = [
        tuple(int(label) for label in 1 + rng.choice(vocabulary - 1, size, p=shares / shares.sum()))
        for size in rng.integers(1, 7, 60)
    ]
    sentences = [*drawn, tuple(range(1, vocabulary))]
    four, two = (estimate(sentences, vocabulary, order, 1e-4) for order in (4, 2))
    return Fusion(four, two, FusionWeights(high=high, low=0.2, label=label))
