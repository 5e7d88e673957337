"""Configuration of the augmentation of training speech; see `edgespeech.audio.augment`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from edgespeech.audio.features import N_MELS
from edgespeech.audio.rooms import LONGEST_RT60_S, SHORTEST_RT60_S
from edgespeech.errors import bad

Range = tuple[float, float]

_LIMITS: Mapping[str, Range] = {
    "speed": (0.5, 2.0),
    "pitch_semitones": (-12.0, 12.0),
    "silence_before_s": (0.0, 10.0),
    "silence_after_s": (0.0, 10.0),
    "room_rt60_s": (SHORTEST_RT60_S, LONGEST_RT60_S),
    "eq_db": (-30.0, 30.0),
    "noise_snr_db": (-20.0, 60.0),
    "floor_db": (-120.0, -30.0),
    "level_db": (-70.0, 0.0),
    "vocal_tract": (0.7, 1.4),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Probabilities (0 to 1) and ranges (low, high), sampled uniformly, of the augmentation of an utterance.

    Attributes:
        speed_prob: of a change of the speaking rate.
        speed: the rate: lengths are divided by it. Without `pitch_prob` it changes the pitch as well.
        pitch_prob: of a change of pitch.
        pitch_semitones: how far pitch and formants move; the speaking rate does not.
        silence_before_s: silence added before the utterance, in seconds.
        silence_after_s: silence added after it.
        room_prob: of a room.
        room_rt60_s: the simulated room's reverberation time.
        measured_prob: of a measured room instead of a simulated one, if the run has any.
        eq_prob: of a microphone that is not flat.
        eq_db: its gain at ten frequencies, smooth between them.
        band_limit_prob: of a telephone's band (300 to 3400 Hz) or a low-pass at 4 to 7 kHz, equally often.
        noise_prob: of noise, recorded or made.
        noise_snr_db: ratio of speech power to noise power during the speech.
        floor_prob: of a noise floor; otherwise silence is digital silence.
        floor_db: the floor, in dB of full scale; at least 15 dB below the speech.
        level_db: root mean square of speech and noise, in dB of full scale.
        clip_prob: of overload, at 0.3 to 0.8 of the largest sample.
        channel_prob: of a telephone or a codec, see `edgespeech.audio.channel`; rarer at low strength.
        vocal_tract_prob: of another vocal-tract length, see `edgespeech.audio.vocal_tract`.
        vocal_tract: its length, 1 as spoken: formants are divided by it, the pitch of the voice nearly stays.
        time_masks: masks over time, each of a random width.
        time_mask_s: the widest, and never above a fifth of the utterance.
        frequency_masks: masks over frequency.
        frequency_mask_bands: the widest, in mel bands.
    """

    speed_prob: float = 0.5
    speed: Range = (0.85, 1.2)
    pitch_prob: float = 0.3
    pitch_semitones: Range = (-3.0, 3.0)
    silence_before_s: Range = (0.1, 1.4)
    silence_after_s: Range = (0.1, 1.4)
    room_prob: float = 0.5
    room_rt60_s: Range = (0.15, 0.7)
    eq_prob: float = 0.7
    eq_db: Range = (-8.0, 8.0)
    band_limit_prob: float = 0.1
    noise_prob: float = 0.7
    noise_snr_db: Range = (5.0, 25.0)
    floor_prob: float = 0.9
    floor_db: Range = (-75.0, -50.0)
    level_db: Range = (-45.0, -10.0)
    clip_prob: float = 0.03
    measured_prob: float = 0.0
    channel_prob: float = 0.0
    vocal_tract_prob: float = 0.0
    vocal_tract: Range = (0.88, 1.14)
    time_masks: int = 2
    time_mask_s: float = 0.3
    frequency_masks: int = 2
    frequency_mask_bands: int = 20

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in _LIMITS:
                low, high = _LIMITS[name]
                pair = isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))
                if not pair or not low <= value[0] <= value[1] <= high:
                    raise bad("augment", name, value, f"(low, high) within {low:g} and {high:g}")
            elif name.endswith("_prob"):
                if not _is_number(value) or not 0 <= value <= 1:
                    raise bad("augment", name, value, "a probability from 0 to 1")
            elif name == "time_mask_s":
                if not _is_number(value) or not 0 <= value <= 10:
                    raise bad("augment", name, value, "seconds from 0 to 10")
            else:
                most = N_MELS if name == "frequency_mask_bands" else 100
                if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
                    raise bad("augment", name, value, f"a whole number from 0 to {most}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "augment") -> Self:
        """From a file's content; ranges may be lists, and missing keys have their defaults.

        Raises:
            EdgeSpeechError: an unknown key, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise bad(where, "key", unknown[0], "one of " + ", ".join(sorted(known)))
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**given)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
