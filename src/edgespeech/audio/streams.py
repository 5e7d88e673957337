"""Streams: a lead-in, a pause and an utterance, perhaps with another sound over them.

What is transcribed is the utterance; the lead-in (a wake word, an earlier utterance) is heard before it.

Source: "Context audio" (arXiv 2011.10538, Interspeech 2021): a device hears the wake word and what lies around it
before it hears the request, from the same place and often from the same speaker.

Letters: L samples of the lead-in and its pause, N of the utterance.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgespeech.audio.augment import pad_with_background
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError, bad

_FRAME = 400
_BELOW_LOUDEST = 10 ** (-30 / 20)
_EDGE = 1600
"""Samples (0.1 s) that stay before and after what is spoken."""
_SILENT = 1e-5
_LOUDEST = 0.99


class Stream(NamedTuple):
    """A stream.

    Attributes:
        lead_in: with its pause, with shape `(L,)`.
        samples: the utterance, with shape `(N,)`.
    """

    lead_in: Samples
    samples: Samples


def generator(seed: int, key: str) -> np.random.Generator:
    """Random draws that depend on the seed and the key alone."""
    digest = hashlib.sha256(f"{seed}:stream:{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def spoken_part(samples: Samples) -> slice:
    """Where something is spoken: from the first to the last 25 ms within 30 dB of the loudest, with 0.1 s around it.

    Args:
        samples: with shape `(N,)`, N >= 1.
    """
    count = max(1, len(samples) // _FRAME)
    frames = samples[: count * _FRAME].reshape(count, -1)
    levels = np.sqrt(np.square(frames, dtype=np.float64).mean(axis=1))
    loud = np.flatnonzero(levels >= _BELOW_LOUDEST * levels.max())
    return slice(
        max(0, int(loud[0]) * _FRAME - _EDGE), min(len(samples), (int(loud[-1]) + 1) * _FRAME + _EDGE)
    )


def level_of(samples: Samples, where: str) -> float:
    """The root mean square of what is spoken.

    Raises:
        EdgeSpeechError: there are no samples, or they are silent or not finite; the message names `where`.
    """
    if samples.ndim != 1 or not len(samples):
        raise bad(where, "samples", samples.shape, "(N,) with N >= 1")
    part = samples[spoken_part(samples)] if np.isfinite(samples).all() else samples
    level = math.sqrt(float(np.square(part, dtype=np.float64).mean()))
    if not math.isfinite(level):
        raise bad(where, "samples", "NaN or infinity", "finite numbers")
    if level < _SILENT:
        raise EdgeSpeechError(f"{where}: is silent, expected speech or noise above -100 dBFS")
    return level


def joined(
    lead_in: Samples,
    samples: Samples,
    *,
    pause_s: tuple[float, float, float],
    rng: np.random.Generator,
    where: str,
    other: Samples | None = None,
    snr_db: float = 0.0,
    over_all: bool = True,
) -> Stream:
    """Put a lead-in before an utterance, as loud as it is, and perhaps another sound over both.

    Args:
        lead_in: what comes first; what is not spoken at its edges is cut. 16 kHz.
        samples: the utterance, 16 kHz, with shape `(N,)`; not changed but for the other sound.
        pause_s: of the utterance's own background: behind the lead-in, as part of it; before the utterance and behind
            it, as parts of the utterance.
        rng: for the background, and for where the other sound begins. The other sound at a sample of the utterance does
            not depend on the lead-in.
        where: the utterance, for messages.
        other: the other sound, 16 kHz; one that is too short is repeated. None: there is none.
        snr_db: power of the utterance where it is spoken, over that of the other sound during the utterance.
        over_all: the other sound is over the lead-in too; else over the utterance alone.

    Returns:
        The stream; its utterance has the other two pauses around it.

    Raises:
        EdgeSpeechError: a part is empty, silent or not finite, or a ratio or pause is no number in range.
    """
    if not math.isfinite(snr_db):
        raise bad(where, "snr_db", snr_db, "a finite number of dB")
    if not all(0 <= one < math.inf for one in pause_s):
        raise bad(where, "pause_s", pause_s, "seconds from 0 on")
    start = int(rng.integers(1 << 30))
    level, before = level_of(samples, where), level_of(lead_in, f"{where}: lead-in")
    spoken = spoken_part(samples)
    first, second, last = (round(one * SAMPLE_RATE) for one in pause_s)
    padded = pad_with_background(samples, first + second, last, rng)
    lead = np.concatenate([np.float32(level / before) * lead_in[spoken_part(lead_in)], padded[:first]])
    own = padded[first:]
    if other is not None:
        level_of(other, f"{where}: other sound")
        track = other[np.arange(start, start + len(own)) % len(other)]
        heard = track[second + spoken.start : second + spoken.stop]
        power = math.sqrt(float(np.square(heard, dtype=np.float64).mean()))
        gain = np.float32(level / max(power, _SILENT) * 10 ** (-snr_db / 20))
        own = own + gain * track
        if over_all:
            lead = lead + gain * other[np.arange(start - len(lead), start) % len(other)]
    scale = np.float32(min(1.0, _LOUDEST / max(float(np.abs(own).max()), _SILENT)))
    return Stream(np.clip(scale * lead, -1, 1), scale * own)


def talk(utterances: Sequence[Samples], length: int) -> Samples:
    """Speech of one speaker without long pauses: what is spoken of some utterances, one after the other.

    Args:
        utterances: with shape `(N,)` each, N >= 1; from the first on, as many as are needed.
        length: samples that are wanted.

    Returns:
        With shape `(M,)`; M is at least `length` unless the utterances are too few.
    """
    parts: list[Samples] = []
    total = 0
    for samples in utterances:
        if total >= length:
            break
        parts.append(samples[spoken_part(samples)])
        total += len(parts[-1])
    return np.concatenate(parts)
