"""How periodic speech is: voices are, whispers and noise are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import bad

FRAME, HOP = 512, 256
"""Samples of a frame (32 ms), and from one to the next (16 ms)."""
WINDOW = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME))
_LAGS = slice(SAMPLE_RATE // 400, SAMPLE_RATE // 60)
"""Periods of voices."""
_FLOOR = 1e-9
_OWN = np.fft.irfft(np.abs(np.fft.rfft(WINDOW, 2 * FRAME)) ** 2)[: FRAME // 2 + 1]
"""The window's autocorrelation."""

Floats = NDArray[np.float64]


def frames_of(samples: NDArray[np.floating]) -> Floats:
    """The frames of a signal with shape `(N,)`, N >= FRAME; a view with shape `(T, FRAME)`."""
    found: Floats = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), FRAME)[::HOP]
    return found


def windowed(where: str, samples: Samples) -> Floats:
    """The windowed frames of an utterance, half a frame of silence before the first.

    Args:
        where: who asks, for the message.
        samples: at 16 kHz, with shape `(N,)`.

    Returns:
        With shape `(T, FRAME)`.

    Raises:
        EdgeSpeechError: fewer samples than a frame.
    """
    if samples.ndim != 1 or len(samples) < FRAME:
        raise bad(where, "samples", samples.shape, f"one channel of at least {FRAME}")
    return frames_of(np.pad(samples, (HOP, HOP + -len(samples) % HOP))) * WINDOW


def autocorrelations(framed: Floats) -> tuple[Floats, Floats]:
    """Of windowed frames with shape `(T, FRAME)`.

    Returns:
        At lags from 0 to half a frame, as shares of the power, with shape `(T, FRAME / 2 + 1)`; and the power, with
        shape `(T, 1)`, above 0.
    """
    lags = np.fft.irfft(np.abs(np.fft.rfft(framed, 2 * FRAME)) ** 2)[:, : FRAME // 2 + 1]
    power = lags[:, :1] * (1 + 1e-5) + _FLOOR
    return lags / power, power


def periodicity(normal: Floats) -> Floats:
    """The highest autocorrelation over the periods of voices, of the first part of `autocorrelations`; `(T,)`."""
    found: Floats = (normal / (_OWN / _OWN[0]))[:, _LAGS].max(axis=1)
    return found


def voicing(samples: Samples) -> Floats:
    """How periodic each frame is: the highest normalised autocorrelation over the periods of voices.

    Args:
        samples: at 16 kHz, with shape `(N,)`.

    Returns:
        For every frame of 32 ms, 16 ms apart, with shape `(T,)`, at most about 1.

    Raises:
        EdgeSpeechError: fewer samples than a frame.
    """
    return periodicity(autocorrelations(windowed("voicing", samples))[0])
