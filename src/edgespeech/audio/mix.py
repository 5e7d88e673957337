"""Mixing noise into speech at a given signal-to-noise ratio (SNR), by one of two definitions of power.

- `mean`: power is the mean square over the whole utterance, and over the noise segment added to it. The mix is scaled
  down only if it would exceed full scale.
- `peak-frame`: the rule of the coffee benchmark (Picovoice, speech-to-intent-benchmark, `benchmark/mixer.py`):
  power is the largest sum of squares over whole frames of 2,048 samples, of speech and noise segment alike,
  and the mix is scaled to a peak of 0.5. The same value in dB means a different amount of noise than by `mean`.
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgespeech.contracts import Samples
from edgespeech.errors import EdgeSpeechError, bad

SnrRule = Literal["mean", "peak-frame"]

PEAK_FRAME = 2048
"""Samples of a frame by the peak-frame rule."""
_PEAK = 0.5


def mix_at_snr(
    speech: Samples, noise: Samples, snr_db: float, *, rule: SnrRule, seed: int, utterance_id: str = ""
) -> Samples:
    """Add a random segment of noise to speech.

    Args:
        speech: with shape `(N,)`.
        noise: with shape `(M,)`; shorter than the speech, it is repeated.
        snr_db: the ratio of the two powers, in dB.
        rule: how power is measured, and how the mix is scaled.
        seed: of the experiment.
        utterance_id: with `seed` it determines the noise segment, independently of process and order.

    Returns:
        The mix, with shape `(N,)`, in [-1, 1].

    Raises:
        EdgeSpeechError: an unknown rule, an infinite ratio, no samples, or silence (no power to compare).
    """
    if not math.isfinite(snr_db):
        raise bad("mix", "snr_db", snr_db, "a finite number of dB")
    segment = _segment(noise, len(speech), seed, utterance_id)
    wanted = 10.0 ** (snr_db / 10.0)
    gain = math.sqrt(_power(speech, rule, "speech") / (_power(segment, rule, "noise") * wanted))
    mixed = speech.astype(np.float64) + gain * segment
    peak = float(np.abs(mixed).max())
    if rule == "peak-frame":
        mixed *= _PEAK / peak
    elif peak > 1.0:
        mixed /= peak
    return mixed.astype(np.float32)


def measure_snr(speech: Samples, noise: Samples, *, rule: SnrRule) -> float:
    """The ratio of the powers of speech and added noise, in dB.

    Args:
        speech: with shape `(N,)`.
        noise: as mixed in, with shape `(N,)`.
        rule: how power is measured.

    Raises:
        EdgeSpeechError: an unknown rule, different lengths, no samples, or silence.
    """
    if len(speech) != len(noise):
        raise bad("measure_snr", "length of the noise", len(noise), f"that of the speech, {len(speech)}")
    return 10.0 * math.log10(_power(speech, rule, "speech") / _power(noise, rule, "noise"))


def _segment(noise: Samples, length: int, seed: int, utterance_id: str) -> NDArray[np.float64]:
    """The seeded segment of the noise with shape `(length,)`; noise that is too short is repeated."""
    if length == 0 or len(noise) == 0:
        raise bad("mix", "samples", f"{length} of speech, {len(noise)} of noise", "at least one of each")
    digest = hashlib.sha256(f"{seed}:{utterance_id}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    if len(noise) >= length:
        start = int(random.integers(0, len(noise) - length + 1))
        return noise[start : start + length].astype(np.float64)
    start = int(random.integers(0, len(noise)))
    return noise[(start + np.arange(length)) % len(noise)].astype(np.float64)


def _power(samples: NDArray[np.float32] | NDArray[np.float64], rule: SnrRule, what: str) -> float:
    """The power of a signal by a rule. A signal shorter than a frame is one frame."""
    squares = np.square(samples, dtype=np.float64)
    if rule == "mean":
        power = float(squares.mean()) if len(squares) else 0.0
    elif rule == "peak-frame":
        frames = len(squares) // PEAK_FRAME
        whole = squares[: frames * PEAK_FRAME].reshape(frames, PEAK_FRAME) if frames else squares[np.newaxis]
        power = float(whole.sum(axis=1).max())
    else:
        raise bad("mix", "rule", rule, f"one of {', '.join(get_args(SnrRule))}")
    if not power > 0.0:
        raise EdgeSpeechError(f"mix: the {what} is silent, so there is no ratio to set")
    return power
