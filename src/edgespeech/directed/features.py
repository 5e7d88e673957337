"""What tells speech to the device from other speech: how it is said, and how the recogniser fares with it.

Source of the idea: S. H. Mallidi et al., "Device-directed utterance detection" (Interspeech 2018, arXiv:1808.02504):
features of the decoder beside those of the audio. Level and spectrum are left out: they tell which microphone recorded
something, and in the corpora here that is nearly the same question.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgespeech.audio.voicing import FRAME, HOP, autocorrelations, periodicity, windowed
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.search.hypothesis import Hypothesis

AUDIO = ("speech", "pauses", "voiced")
"""Logarithm of the seconds of speech; share of pauses between its first and last frame; share of voiced frames."""
DECODER = ("labels", "confidence", "blank", "language", "words", "wake")
"""Word pieces a second of speech; logarithm of the best path's probability a frame; logarithm of the longest time
without a piece, in seconds; logarithm of the text's probability a piece by the language model; logarithm of one more
than the words; likeness of the text's beginning to the nearest wake word, 0 to 1."""
FEATURES = (*AUDIO, *DECODER)
_LOUD_DB = 25.0
_VOICED = 0.6
_UNLIKELY = -10.0
"""`language` of an empty text, in nats: less likely than any piece."""

Floats = NDArray[np.float64]


class LanguageModel(Protocol):
    """Gives each label's log-probability after a history, as `edgespeech.lm.ngram.NGram` does."""

    def log_probs(self, history: Sequence[int]) -> NDArray[np.float64]:
        """With shape `(vocabulary,)`."""
        ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a recogniser made of an utterance.

    Attributes:
        text: the words.
        hypothesis: of greedy search, whose score is the best path's.
        frames: transcriber frames of the utterance, at least 1.
        frame_s: seconds of each.
    """

    text: str
    hypothesis: Hypothesis
    frames: int
    frame_s: float

    def __post_init__(self) -> None:
        if self.frames < 1 or not self.frame_s > 0:
            raise bad("device-directed", "frames", self.frames, "at least 1 of a length above 0 s")


def level_db(samples: Samples) -> float:
    """Mean power of the loud frames in dB of full scale: what a rule on energy alone goes by.

    Raises:
        EdgeSpeechError: fewer samples than a frame.
    """
    levels, loud, _ = _frames(samples)
    return float(10 * np.log10((10 ** (levels[loud] / 10)).mean() / FRAME))


def features_of(
    samples: Samples, decoded: Decoded, model: LanguageModel | None, wake_words: Sequence[str]
) -> Floats:
    """The features of an utterance.

    Args:
        samples: at 16 kHz, with shape `(N,)`, at least a frame of 32 ms.
        decoded: what the recogniser made of it.
        model: of the recogniser's word pieces; None: `language` is 0.
        wake_words: in lower case; none: `wake` is 0.

    Returns:
        With shape `(9,)`, in the order of `FEATURES`.

    Raises:
        EdgeSpeechError: too short.
    """
    _, loud, periodic = _frames(samples)
    spoken = np.flatnonzero(loud)
    speech_s = len(spoken) * HOP / SAMPLE_RATE
    hypothesis, labels = decoded.hypothesis, decoded.hypothesis.labels
    marks = [0, *hypothesis.frames, decoded.frames]
    longest = max(b - a for a, b in pairwise(marks)) * decoded.frame_s
    found = {
        "speech": math.log(speech_s),
        "pauses": 1 - len(spoken) / (spoken[-1] - spoken[0] + 1),
        "voiced": float((periodic[loud] >= _VOICED).mean()),
        "labels": len(labels) / speech_s,
        "confidence": hypothesis.score / decoded.frames,
        "blank": math.log(max(longest, decoded.frame_s)),
        "language": 0.0 if model is None else likelihood(labels, model),
        "words": math.log1p(len(decoded.text.split())),
        "wake": wake_likeness(decoded.text, wake_words),
    }
    return np.array([found[name] for name in FEATURES])


def likelihood(labels: Sequence[int], model: LanguageModel) -> float:
    """Mean log-probability of labels by a language model, in nats a label."""
    if not labels:
        return _UNLIKELY
    return float(np.mean([model.log_probs(labels[:n])[label] for n, label in enumerate(labels)]))


def wake_likeness(text: str, wake_words: Sequence[str]) -> float:
    """How like the beginning of a text is to a wake word, letter by letter and without spaces; 1 for the word itself.

    Args:
        text: in lower case.
        wake_words: in lower case.
    """
    letters = text.replace(" ", "")
    best = 0.0
    for word in wake_words:
        wanted = word.replace(" ", "")
        for more in (-1, 0, 1, 2):
            begun = letters[: max(1, len(wanted) + more)]
            best = max(best, SequenceMatcher(None, begun, wanted, autojunk=False).ratio())
    return best


def _frames(samples: Samples) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Level of each frame in dB, which are loud, and how periodic each is."""
    framed = windowed("device-directed", samples)
    normal, power = autocorrelations(framed)
    levels = 10 * np.log10(power[:, 0])
    if not np.isfinite(levels).all():
        raise EdgeSpeechError("device-directed: samples: not finite, expected numbers in [-1, 1]")
    return levels, levels >= levels.max() - _LOUD_DB, periodicity(normal)
