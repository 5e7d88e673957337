"""What a detector must beat: hand-made features of an utterance, for rules on one of them and a classifier on all.

Source: Z. Raeesy et al., "LSTM-based whisper detection" (SLT 2018, arXiv:1809.07832), whose engineered features are the
residual's harmonics, the energy of high frequencies, and the maximum of the autocorrelation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgespeech.audio.voicing import FRAME, HOP, voicing
from edgespeech.contracts import SAMPLE_RATE, Samples

FEATURES = ("level", "tilt", "high", "crossings", "voicing", "voicing_90")
"""Loudness in dB; energy below 1 kHz over that above, in dB; energy above 4 kHz over all, in dB; zero crossings a
sample; the mean and the 90 % quantile of `voicing`. All are means over the loud frames, but for the last."""
_LOUD_DB = 20.0
"""Frames at most so far below the loudest count as speech."""
_LEAST = 1e-12

Floats = NDArray[np.float64]


def features_of(samples: Samples) -> Floats:
    """The features of an utterance.

    Args:
        samples: at 16 kHz, with shape `(N,)`, at least a frame.

    Returns:
        With shape `(6,)`, in the order of `FEATURES`.
    """
    framed = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), FRAME)[::HOP]
    power = np.abs(np.fft.rfft(framed * np.hanning(FRAME))) ** 2 + _LEAST
    energy = power.sum(1)
    loud = energy >= energy.max() * 10 ** (-_LOUD_DB / 10)
    hz = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)
    # The first frame of `voicing` begins half a frame before the audio.
    periodic = voicing(samples)[1 : 1 + len(loud)][loud]
    own = power[loud]
    return np.array(
        [
            10 * np.log10(energy[loud].mean()),
            (10 * np.log10(own[:, hz < 1000].sum(1) / own[:, hz >= 1000].sum(1))).mean(),
            (10 * np.log10(own[:, hz >= 4000].sum(1) / own.sum(1))).mean(),
            (np.diff(np.signbit(framed[loud]), axis=1) != 0).mean(),
            periodic.mean(),
            np.quantile(periodic, 0.9),
        ]
    )
