"""Shallow fusion: language-model scores that a beam search adds to the transducer's scores of the next label.

Sources: C. Gulcehre et al., "On using monolingual corpora in neural machine translation" (2015), section 4.1, for
shallow fusion; E. McDermott, H. Sak, E. Variani, "A density ratio approach to language model fusion in end-to-end
automatic speech recognition" (ASRU 2019), for subtracting what the transducer has learned of the text already;
estimating that by a low-order n-gram follows H. Zheng et al., "An empirical study of language model integration for
transducer
based speech recognition" (ICASSP 2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgespeech.core.files import write_atomic
from edgespeech.core.labels import BLANK
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lm.ngram import START, NGram

FUSION = "fusion.safetensors"
"""Name of the language model's file in a model's folder."""
HIGH, LOW, WEIGHTS = "fusion.high", "fusion.low", "fusion.weights"
TENSORS = (WEIGHTS, HIGH, LOW)
"""Names of the tensors in the file."""
_KEPT = 4096
"""Maximum number of histories whose scores are cached."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FusionWeights:
    """Weights of the parts of a label's score, which are natural logarithms.

    Attributes:
        high: of the language model's log-probability, which is added.
        low: of the low-order model's, an estimate of the internal language model, which is subtracted.
        label: bonus for every label, against the bias towards short sequences.
    """

    high: float
    low: float
    label: float


class Fusion:
    """Language-model scores of labels given their history, for a beam search.

    Args:
        high: the language model.
        low: the low-order one.
        weights: of both models.
        where: its name in error messages.

    Raises:
        EdgeSpeechError: the models are of different vocabularies, or a weight is not finite.
    """

    def __init__(self, high: NGram, low: NGram, weights: FusionWeights, where: str = "fusion") -> None:
        if high.vocabulary != low.vocabulary:
            raise bad(where, "vocabulary", low.vocabulary, f"{high.vocabulary}, as the language model's")
        self.high, self.low, self.weights = high, low, weights
        told = np.array([weights.high, weights.low, weights.label], np.float32)
        if not np.isfinite(told).all():
            raise bad(where, "weights", told.tolist(), "finite numbers")
        self._high, self._low, self._label = (float(value) for value in told)
        self._context = max(high.order, low.order, 2) - 1
        self._scores: dict[tuple[int, ...], NDArray[np.float32]] = {}

    def scores(self, labels: Sequence[int]) -> NDArray[np.float32]:
        """Scores to add to the log-probability of each possible next label, with shape `(V,)`; 0 for the blank.

        Args:
            labels: of the hypothesis so far.
        """
        last = tuple(labels[-self._context :])
        history = last if len(labels) >= self._context else (START, *last)
        found = self._scores.get(history)
        if found is None:
            if len(self._scores) >= _KEPT:
                self._scores.clear()
            high, low = self.high.log_probs(history), self.low.log_probs(history)
            found = (self._high * high - self._low * low + self._label).astype(np.float32)
            found[BLANK] = 0
            self._scores[history] = found
        return found

    def rows(self, hypotheses: Iterable[Sequence[int]]) -> NDArray[np.float32]:
        """`scores` of P hypotheses' labels, with shape `(P, V)`; P is at least 1."""
        return np.stack([self.scores(labels) for labels in hypotheses])

    def tensors(self) -> dict[str, NDArray[np.float16] | NDArray[np.float32]]:
        """The tensors for its file, by name: a row of 3 weights, and two tables."""
        weights = np.array([[self._high, self._low, self._label]], np.float32)
        return {WEIGHTS: weights, HIGH: self.high.table, LOW: self.low.table}


def save_fusion(folder: Path, fusion: Fusion) -> None:
    """Write it atomically into a model's folder.

    Raises:
        EdgeSpeechError: the folder cannot be written.
    """
    write_atomic(
        folder / FUSION, save({name: np.ascontiguousarray(t) for name, t in fusion.tensors().items()})
    )


def load_fusion(folder: Path, vocabulary: int) -> Fusion | None:
    """Read it from a model's folder; None if there is no file.

    Args:
        folder: of the model.
        vocabulary: number of labels of the model.

    Raises:
        EdgeSpeechError: the file is damaged, or not of such a model.
    """
    path = folder / FUSION
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise EdgeSpeechError(f"{path}: not a readable language model: {error}") from error
    if sorted(tensors) != sorted((WEIGHTS, HIGH, LOW)):
        raise bad(str(path), "tensors", sorted(tensors), ", ".join(sorted((WEIGHTS, HIGH, LOW))))
    weights = tensors[WEIGHTS]
    if weights.shape != (1, 3) or weights.dtype != np.float32:
        raise bad(str(path), WEIGHTS, f"{weights.dtype} {weights.shape}", "float32 (1, 3)")
    high, low, label = (float(value) for value in weights[0])
    found, lower = (NGram(tensors[name], vocabulary, f"{path}: {name}") for name in (HIGH, LOW))
    return Fusion(found, lower, FusionWeights(high=high, low=low, label=label), where=str(path))
