"""Inputs that the benchmarks share: seeded, synthetic, the same in every run."""

from __future__ import annotations

import numpy as np

from edgespeech.contracts import SAMPLE_RATE, Samples

N_UTTERANCES = 1000
N_SPEAKERS = 50


def noise(seconds: float) -> Samples:
    """Faint noise, with shape `(seconds * 16000,)`."""
    rng = np.random.default_rng(0)
    return (0.05 * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def texts(n: int = N_UTTERANCES) -> tuple[list[str], list[str]]:
    """References of 10 words and hypotheses in which every tenth word is another one."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 500, (n, 10))
    wrong = np.where(rng.random(words.shape) < 0.1, words + 1, words)
    return _sentences(words), _sentences(wrong)


def _sentences(numbers: np.typing.NDArray[np.int64]) -> list[str]:
    return [" ".join(f"word{number}" for number in row) for row in numbers]


def error_counts(n: int = N_UTTERANCES) -> tuple[list[int], list[int], list[str]]:
    """Errors, reference words and the speaker of every utterance."""
    rng = np.random.default_rng(0)
    speakers = [f"speaker{index % N_SPEAKERS}" for index in range(n)]
    return rng.integers(0, 4, n).tolist(), [10] * n, speakers
