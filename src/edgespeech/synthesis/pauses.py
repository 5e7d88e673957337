"""Simulated hesitation: pauses and fillers between words, a long trailing silence, and recorded background noise.

Read speech without its silences poses no end-pointing problem. This speech does: the speaker pauses between two words
for 0.3 to 1.2 s, sometimes with a filler, and after the last word the recording continues for 2 s or more (papers: Maas
et al. 2018 and the pause statistics that they train on; the ranges are the issue's).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgespeech.audio.augment import change_tempo, pad_with_background
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import bad

Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]

_HOP = 160
_DIP = 320
"""Samples of the window that must be quiet between two words: 20 ms."""
_FADE = 160
_VOWEL = 1280
"""Samples of the sound that a filler repeats: 80 ms."""
_PITCH = (40, 229)
"""Samples of a period of the voice: 400 to 70 Hz."""


class Hesitation(BaseModel):
    """Amount of hesitation. Ranges are sampled uniformly; times in seconds.

    Attributes:
        pauses: maximum number of pauses; the number is drawn from 0 to this.
        pause_s: length of each.
        filler: the share of pauses that begin with a filler.
        filler_s: length of a filler, in addition to the pause.
        dip_db: pauses are inserted only where the speech is at least this far below its mean power.
        tail_s: time after the end of speech.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    pauses: Annotated[int, Field(ge=0)] = 2
    pause_s: Range = (0.3, 1.2)
    filler: Annotated[float, Field(ge=0, le=1)] = 0.3
    filler_s: Range = (0.2, 0.4)
    dip_db: float = 12.0
    tail_s: Range = (2.0, 3.0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("pause_s", "filler_s", "tail_s"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name}: {low} must not be above {high}")
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Hesitant:
    """An utterance with hesitation.

    Attributes:
        samples: 16 kHz, with shape `(N,)`.
        sos_s: start of speech; `eos_s` its end.
        pauses: start and end of each pause in seconds, its filler included.
    """

    samples: Samples
    sos_s: float
    eos_s: float
    pauses: tuple[tuple[float, float], ...]


def hesitate(
    samples: Samples,
    gaps: Sequence[tuple[float, float]],
    *,
    sos_s: float,
    eos_s: float,
    what: Hesitation,
    key: str,
) -> Hesitant:
    """Insert pauses, fillers and a tail into an utterance.

    Inserted parts have the recording's own background noise, the same in pauses and tail, so that pauses and tail
    differ only in length and context.

    Args:
        samples: 16 kHz, with shape `(N,)`.
        gaps: the interval in which each word but the first begins (`edgespeech.endpointing.alignment.gaps`).
        sos_s: start of speech.
        eos_s: end of speech; the recording after it is preserved.
        what: amount of hesitation.
        key: seed of all random draws.

    Raises:
        EdgeSpeechError: the speech is not within the samples.
    """
    if not 0 <= sos_s < eos_s <= len(samples) / SAMPLE_RATE + 1e-3:
        raise bad(
            f"pauses {key}", "speech", (sos_s, eos_s), f"in order, within {len(samples) / SAMPLE_RATE:.3f} s"
        )
    rng = _rng(key)
    places = cut_places(samples, gaps, sos_s=sos_s, eos_s=eos_s, dip_db=what.dip_db)
    count = min(len(places), int(rng.integers(what.pauses + 1)))
    chosen = sorted(rng.choice(len(places), count, replace=False)) if count else []
    voice = drawn_out(samples[round(sos_s * SAMPLE_RATE) : round(eos_s * SAMPLE_RATE)])
    pieces: list[Samples] = []
    pauses: list[tuple[float, float]] = []
    begin = added = 0
    for place in (places[number] for number in chosen):
        filler = np.zeros(0, np.float32)
        if voice is not None and rng.random() < what.filler:
            filler = change_tempo(voice, round(rng.uniform(*what.filler_s) * SAMPLE_RATE)) * 0.5
        silence = round(rng.uniform(*what.pause_s) * SAMPLE_RATE)
        quiet = _background(samples, len(filler) + silence, rng)
        quiet[: len(filler)] += filler * _edges(len(filler))
        pieces += [samples[begin:place], quiet]
        start = place + added
        pauses.append((start / SAMPLE_RATE, (start + len(quiet)) / SAMPLE_RATE))
        begin, added = place, added + len(quiet)
    tail = round((eos_s + rng.uniform(*what.tail_s)) * SAMPLE_RATE) - len(samples)
    pieces += [samples[begin:], _background(samples, max(0, tail), rng)]
    return Hesitant(
        samples=_joined(pieces),
        sos_s=sos_s,
        eos_s=eos_s + added / SAMPLE_RATE,
        pauses=tuple(pauses),
    )


def cut_places(
    samples: Samples, gaps: Sequence[tuple[float, float]], *, sos_s: float, eos_s: float, dip_db: float
) -> list[int]:
    """The quietest sample of each gap between words, in order, if it is quiet enough and inside the speech."""
    speech = samples[round(sos_s * SAMPLE_RATE) : round(eos_s * SAMPLE_RATE)]
    most = float(np.dot(speech, speech)) / len(speech) * 10 ** (-dip_db / 10)
    places: set[int] = set()
    for low_s, high_s in gaps:
        first, last = (
            round(max(low_s, sos_s) * SAMPLE_RATE),
            round(min(high_s, eos_s) * SAMPLE_RATE) - _DIP,
        )
        starts = np.arange(first, last + 1, _HOP)
        if not len(starts):
            continue
        powers = [float(np.dot(samples[at : at + _DIP], samples[at : at + _DIP])) / _DIP for at in starts]
        if min(powers) <= most:
            places.add(int(starts[int(np.argmin(powers))]) + _DIP // 2)
    return sorted(places)


def drawn_out(speech: Samples) -> Samples | None:
    """The most stationary loud 80 ms of a voice, for a filler; None if the speech has no voiced part."""
    starts = range(0, len(speech) - _VOWEL - _PITCH[1], _VOWEL // 2)
    power = float(np.dot(speech, speech)) / max(1, len(speech))
    best, found = 0.5, None
    for at in starts:
        piece = speech[at : at + _VOWEL]
        energy = float(np.dot(piece, piece))
        if energy < power * _VOWEL:
            continue
        spectrum = np.abs(np.fft.rfft(piece, 2 * _VOWEL)) ** 2
        period = np.fft.irfft(spectrum)[_PITCH[0] : _PITCH[1]].max() / energy
        if period > best:
            best, found = float(period), piece
    return found


def with_noise(
    samples: Samples, noise: Samples, snr_db: float, *, sos_s: float, eos_s: float, key: str
) -> Samples:
    """Add a random segment of noise; the ratio is that of the mean powers during speech.

    Args:
        samples: with shape `(N,)`.
        noise: with shape `(M,)`; shorter than the samples, it is repeated.
        snr_db: ratio of speech power to noise power between start and end of speech.
        sos_s: start of speech.
        eos_s: end of speech.
        key: seed of the segment.

    Returns:
        With shape `(N,)`, in [-1, 1]: if the sum exceeds full scale, all of it is attenuated.

    Raises:
        EdgeSpeechError: the speech or the noise is silent, or the ratio is not finite.
    """
    if not math.isfinite(snr_db):
        raise bad(f"pauses {key}", "snr_db", snr_db, "a finite number of dB")
    spoken = slice(round(sos_s * SAMPLE_RATE), round(eos_s * SAMPLE_RATE))
    start = int(_rng(f"{key}:noise").integers(len(noise)))
    under = np.take(noise, np.arange(start, start + len(samples)), mode="wrap").astype(np.float64)
    speech_power = float(np.mean(np.square(samples[spoken], dtype=np.float64)))
    noise_power = float(np.mean(np.square(under[spoken])))
    if not speech_power > 0 or not noise_power > 0:
        raise bad(
            f"pauses {key}", "power", (speech_power, noise_power), "speech and noise that are not silent"
        )
    mixed = samples + math.sqrt(speech_power / noise_power * 10 ** (-snr_db / 10)) * under
    return (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32)


def gated(samples: Samples, spoken: Sequence[tuple[float, float]], hang_s: float) -> Samples:
    """Replace pauses by digital silence, as front-ends and codecs with voice activity detection do.

    Args:
        samples: 16 kHz, with shape `(N,)`.
        spoken: start and end of each part to preserve, in seconds.
        hang_s: how long before and after that samples are preserved too.

    Returns:
        With shape `(N,)`; digital silence elsewhere.
    """
    kept = np.zeros_like(samples)
    for start_s, end_s in spoken:
        part = slice(max(0, round((start_s - hang_s) * SAMPLE_RATE)), round((end_s + hang_s) * SAMPLE_RATE))
        kept[part] = samples[part]
    return kept


def pick(noises: Mapping[str, Samples], key: str) -> Samples:
    """One of several noises, drawn by the key.

    Raises:
        EdgeSpeechError: there are none.
    """
    if not noises:
        raise bad(f"pauses {key}", "noises", "none", "at least one")
    return noises[sorted(noises)[int(_rng(f"{key}:which").integers(len(noises)))]]


def _rng(key: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little"))


def _background(samples: Samples, length: int, rng: np.random.Generator) -> Samples:
    """Samples of the recording's background noise; digital silence if it has no quiet moment."""
    return pad_with_background(samples, 0, length, rng)[len(samples) :].copy()


def _edges(length: int) -> Samples:
    """Gains with shape `(length,)` that fade a filler in and out."""
    fade = min(4 * _FADE, length // 2)
    gains = np.ones(length, np.float32)
    if fade:
        ramp = (np.arange(fade, dtype=np.float32) + 0.5) / fade
        gains[:fade], gains[-fade:] = ramp, ramp[::-1]
    return gains


def _joined(pieces: Sequence[Samples]) -> Samples:
    """The concatenated pieces, with fades of 10 ms on either side of each cut."""
    whole: Samples = np.concatenate(pieces)
    at = 0
    for piece in pieces[:-1]:
        at += len(piece)
        before, after = whole[max(0, at - _FADE) : at], whole[at : at + _FADE]
        if len(before) and len(after):
            middle = (before[-1] + after[0]) / 2
            before += (middle - before[-1]) * np.linspace(0, 1, len(before), dtype=np.float32)
            after += (middle - after[0]) * np.linspace(1, 0, len(after), dtype=np.float32)
    return whole
