"""Telephone and codec channels: mu-law at 8 kHz, and Opus at the low bit rates of voice chat."""

from __future__ import annotations

import numpy as np
import soxr

from edgespeech.audio.codec import OpusDecoder, OpusEncoder
from edgespeech.contracts import SAMPLE_RATE, Samples

_TELEPHONE_RATE = 8_000
_MU = 255.0
_LEVELS = 128.0
"""Steps of the 8 bit mu-law code on each side of zero."""
_LOWEST_HZ = (50.0, 300.0)
"""Range of a telephone's lower cut-off: wired handsets cut at 300 Hz, digital ones hardly at all."""
_OPUS_BIT_RATES = (8_000, 12_000, 16_000)


def telephone(samples: Samples, rng: np.random.Generator) -> Samples:
    """Speech over a telephone: an 8 kHz band without its lowest end, in 8 bit mu-law (ITU-T G.711).

    Args:
        samples: 16 kHz, in [-1, 1], with shape `(N,)`.
        rng: draws the lowest frequency.

    Returns:
        16 kHz samples with shape `(N,)`.
    """
    return telephone_band(samples, rng.uniform(*_LOWEST_HZ))


def telephone_band(samples: Samples, lowest_hz: float = _LOWEST_HZ[1]) -> Samples:
    """The telephone channel with a fixed lower cut-off, without random draws.

    Args:
        samples: 16 kHz, in [-1, 1], with shape `(N,)`.
        lowest_hz: the lower cut-off; that of wired handsets by default.

    Returns:
        16 kHz samples with shape `(N,)`.
    """
    narrow = soxr.resample(samples, SAMPLE_RATE, _TELEPHONE_RATE, quality="MQ")
    narrow = np.clip(_high_pass(narrow, lowest_hz), -1, 1)
    coded = np.rint(np.log1p(_MU * np.abs(narrow)) / np.log1p(_MU) * _LEVELS) / _LEVELS
    decoded = np.copysign(np.expm1(coded * np.log1p(_MU)) / _MU, narrow).astype(np.float32)
    return _fitted(soxr.resample(decoded, _TELEPHONE_RATE, SAMPLE_RATE, quality="MQ"), samples.size)


def opus(samples: Samples, rng: np.random.Generator) -> Samples:
    """Speech through Opus at 8, 12 or 16 kbit/s.

    Args:
        samples: 16 kHz, in [-1, 1], with shape `(N,)`.
        rng: draws the bit rate.

    Returns:
        16 kHz samples with shape `(N,)`, aligned with the input.
    """
    encoder = OpusEncoder(bit_rate=int(rng.choice(_OPUS_BIT_RATES)), complexity=0)
    decoder = OpusDecoder()
    parts = [decoder.decode(packet) for packet in encoder.encode(samples) + encoder.finish()]
    return _fitted(np.concatenate([*parts, decoder.finish()]), samples.size)


CHANNELS = (telephone, opus)
"""The channels that `AugmentConfig.channel_prob` draws from."""


def _high_pass(samples: Samples, lowest_hz: float) -> Samples:
    """A second-order high-pass in the frequency domain, zero-padded to avoid circular convolution."""
    size = 1 << (samples.size + 255).bit_length()
    hertz = np.fft.rfftfreq(size, 1 / _TELEPHONE_RATE)
    gains = hertz**2 / (hertz**2 + lowest_hz**2)
    filtered = np.fft.irfft(np.fft.rfft(samples, size) * gains, size)
    return filtered[: samples.size].astype(np.float32)


def _fitted(samples: Samples, length: int) -> Samples:
    """Cut or pad to this length: resampling may give one sample more or less."""
    return np.pad(samples[:length], (0, max(0, length - samples.size)))
