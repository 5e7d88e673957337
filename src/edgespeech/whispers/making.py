"""Whispered speech made of voiced speech: the same spectral envelope, excited by noise alone.

Whispers have no voice: the vocal folds do not vibrate, vowels are weaker, and formants lie somewhat higher. Here linear
prediction separates each frame's envelope from its excitation, and noise takes the excitation's place. What else
changes (`Treatment`) can be done to voiced speech as well, so that a detector cannot learn to hear the processing.
These are made whispers: no person whispered them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgespeech.audio.voicing import FRAME, HOP, WINDOW, autocorrelations, frames_of, periodicity, windowed
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import bad

ORDER = 18
"""Of the linear prediction: two for each kHz, and two for the tilt."""
_TILT_HZ = 2000.0
"""The tilt changes what is below this."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Treatment:
    """What happens to the envelope of an utterance.

    Attributes:
        warp: factor of all frequencies of the envelope, 0.8 to 1.25.
        tilt_db: taken away in each octave below 2 kHz, in dB, 0 to 12.
        drop_db: taken away from voiced frames, in dB, 0 to 30.
    """

    warp: float = 1.0
    tilt_db: float = 0.0
    drop_db: float = 0.0

    def __post_init__(self) -> None:
        for name, least, most in (("warp", 0.8, 1.25), ("tilt_db", 0, 12), ("drop_db", 0, 30)):
            if not least <= (value := getattr(self, name)) <= most:
                raise bad("treatment", name, value, f"{least} to {most}")

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Treatment:
        """A treatment as of whispers."""
        return cls(rng.uniform(1.0, 1.15), rng.uniform(0.0, 5.0), rng.uniform(5.0, 20.0))


def whispered(samples: Samples, treatment: Treatment, rng: np.random.Generator) -> Samples:
    """The same words with noise in place of the voice.

    Args:
        samples: voiced speech at 16 kHz, with shape `(N,)`.
        treatment: of its envelope.
        rng: draws the noise.

    Returns:
        With shape `(N,)`.

    Raises:
        EdgeSpeechError: fewer samples than a frame.
    """
    spectra, envelopes, voiced = _analysed(samples)
    noise = rng.standard_normal(FRAME + HOP * (len(spectra) - 1))
    excitation = np.fft.rfft(frames_of(noise) * WINDOW) / np.sqrt((WINDOW**2).sum())
    return _joined(excitation * _treated(envelopes, voiced, treatment), len(samples))


def revoiced(samples: Samples, treatment: Treatment) -> Samples:
    """The same words and the same voice, with the treatment alone.

    Args:
        samples: as for `whispered`.
        treatment: of its envelope.

    Returns:
        With shape `(N,)`.

    Raises:
        EdgeSpeechError: fewer samples than a frame.
    """
    spectra, envelopes, voiced = _analysed(samples)
    return _joined(spectra / envelopes * _treated(envelopes, voiced, treatment), len(samples))


def _analysed(samples: Samples) -> tuple[NDArray[np.complex128], Floats, Floats]:
    """Spectra and envelopes of all frames, with shape `(T, FRAME / 2 + 1)`, and `voicing`, `(T,)`."""
    framed = windowed("whispers", samples)
    normal, power = autocorrelations(framed)
    distance = np.abs(np.subtract.outer(np.arange(ORDER), np.arange(ORDER)))
    matrix = normal[:, distance] + 1e-5 * np.eye(ORDER)
    predictor = np.linalg.solve(matrix, normal[:, 1 : ORDER + 1, None])[:, :, 0]
    rest = np.maximum(1 - (predictor * normal[:, 1 : ORDER + 1]).sum(1, keepdims=True), 1e-6)
    inverse = np.abs(np.fft.rfft(np.concatenate([np.ones((len(power), 1)), -predictor], axis=1), FRAME))
    return np.fft.rfft(framed), np.sqrt(power * rest) / inverse, periodicity(normal)


def _treated(envelopes: Floats, voiced: Floats, treatment: Treatment) -> Floats:
    """The envelopes after the treatment."""
    bins = np.arange(envelopes.shape[1])
    places = np.minimum(bins / treatment.warp, bins[-1])
    low = places.astype(int)
    high, share = np.minimum(low + 1, bins[-1]), places - low
    warped = envelopes[:, low] * (1 - share) + envelopes[:, high] * share
    octaves = np.log2(np.maximum(bins * SAMPLE_RATE / FRAME, 60.0) / _TILT_HZ)
    tilt = 10 ** (treatment.tilt_db * np.minimum(octaves, 0) / 20)
    weaker = 10 ** (-treatment.drop_db * np.clip((voiced - 0.3) / 0.4, 0, 1) / 20)
    found: Floats = warped * tilt * weaker[:, None]
    return found


def _joined(spectra: NDArray[np.complex128], length: int) -> Samples:
    """Overlap and add."""
    framed = np.fft.irfft(spectra, FRAME) * WINDOW
    out = np.zeros(FRAME + HOP * (len(framed) - 1))
    for start, one in zip(range(0, len(out), HOP), framed, strict=False):
        out[start : start + FRAME] += one
    return out[HOP : HOP + length].astype(np.float32)
