"""Augmentation of training speech: talker, room, microphone, noise and level.

The steps follow the path of the sound: speaking rate and pitch, surrounding silence, the room, the microphone,
background noise, the level, overload. Random draws depend only on the seed and the utterance's key, so that a training
run gives the same bytes in any order and process.

Sources: T. Ko et al., "Audio augmentation for speech recognition", Interspeech 2015 (speed); T. Ko et al., "A study
on data augmentation of reverberant speech", ICASSP 2017 (rooms and noises); D. S. Park et al., "SpecAugment",
Interspeech 2019, arXiv:1904.08779 (masks).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from edgespeech.audio.augment_config import AugmentConfig, Range
from edgespeech.audio.channel import CHANNELS
from edgespeech.audio.features import FRAME_SHIFT_S, N_MELS, Features
from edgespeech.audio.rooms import (
    BINS,
    LEAD,
    LONGEST_RESPONSE,
    NoisePool,
    RoomPool,
    Spectrum,
    apply_response,
    measured_spectrum,
)
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError, bad

_EVALUATION_NOISE = "kitchen"
"""The noise recording of the command benchmark, which is for evaluation only."""
_MILDEST_LEVEL_DB = -26.0
_SHORTEST_S = 0.010
_SILENT = 1e-5
"""A root mean square below this (-100 dBFS) is silence."""
_FLOOR_BELOW_SPEECH_DB = 15.0
_RECORDED_SHARE = 0.5
_SECOND_NOISE_SHARE = 0.3
_CLIPPED_AT: Range = (0.3, 0.8)
_EQ_KNOTS_HZ = np.array([0.0, 125, 250, 500, 1000, 2000, 3000, 4500, 6000, 8000])
_GRID_HZ = np.linspace(0, SAMPLE_RATE / 2, LEAD + 1)
_BINS_HZ = np.linspace(0, SAMPLE_RATE / 2, BINS)
_TELEPHONE_HZ: Range = (300.0, 3400.0)
_LOW_PASS_HZ: Range = (4000.0, 7000.0)
_BAND_ORDER = 12
_BLOCK, _FADE, _SEARCH = 640, 160, 160
"""Change of tempo: samples copied at a time, faded into each other, and searched either way (40, 10, 10 ms)."""
_GRAIN = 800
_QUIET_DB = 20.0
_LARGEST_TIME_SHARE = 0.2
"""No time mask covers more of an utterance (Park et al., section 2: the bound p)."""


class _Draw:
    """The random draws of one utterance, scaled by `strength` (0 to 1)."""

    def __init__(self, seed: int, key: str, strength: float) -> None:
        digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
        self.rng = np.random.default_rng(int.from_bytes(digest[:16], "little"))
        self._strength = strength

    def happens(self, probability: float) -> bool:
        return self.rng.random() < probability * self._strength

    def between(self, bounds: Range, mildest: float) -> float:
        """Draw from the range; below full strength the value is moved towards the mildest one."""
        mildest = min(max(mildest, bounds[0]), bounds[1])
        return mildest + self._strength * (self.rng.uniform(*bounds) - mildest)


@dataclass(frozen=True, slots=True)
class Timing:
    """How augmentation moved an utterance in time.

    Attributes:
        before: samples of silence that come before it now.
        speed: its samples over those that it has now.
    """

    before: int
    speed: float


class Augmenter:
    """Makes realistic variants of an utterance.

    Args:
        config: probabilities and ranges of all steps.
        noises: recorded noises by id, 16 kHz with shape `(N,)`; may be empty. Never `kitchen`.
        seed: of the experiment, 0 or more.
        babble: utterances whose sum is the noise of other talkers; may be empty.
        rooms: measured impulse responses by id, 16 kHz with shape `(N,)`; may be empty.

    Raises:
        EdgeSpeechError: the noise `kitchen`; a noise or room that is too short, silent or not finite; a negative seed.
    """

    def __init__(
        self,
        config: AugmentConfig,
        noises: Mapping[str, Samples],
        seed: int,
        *,
        babble: Sequence[Samples] = (),
        rooms: Mapping[str, Samples] | None = None,
    ) -> None:
        if seed < 0:
            raise bad("augment", "seed", seed, "0 or more")
        if any(name.casefold() == _EVALUATION_NOISE for name in noises):
            raise bad(
                "augment", "noise", _EVALUATION_NOISE, "any other noise: that one is for evaluation only"
            )
        for name, samples in noises.items():
            _check_audio(f"augment: noise {name}", samples)
        for number, samples in enumerate(babble):
            _check_audio(f"augment: babble {number}", samples)
        for name, samples in (rooms or {}).items():
            _check_audio(f"augment: room {name}", samples)
        self._config = config
        self._seed = seed
        self._measured = [measured_spectrum(samples) for _, samples in sorted((rooms or {}).items())]
        self._recorded = [(noises[name], 1 / _rms(noises[name])) for name in sorted(noises)]
        self._made = NoisePool(seed, babble)
        self._rooms = RoomPool(config.room_rt60_s, seed)

    def __call__(
        self, samples: Samples, *, key: str, strength: float = 1.0, silence_s: Range | None = None
    ) -> Samples:
        """Augment one utterance.

        Args:
            samples: 16 kHz float32 with shape `(N,)`, 10 ms or more; not changed.
            key: of this variant, such as `epoch/utterance-id`; with the seed it determines all draws.
            strength: 1 is full augmentation, 0 only adds silence and sets a level, both at their mildest.
            silence_s: silence before and after the utterance, instead of the configured ranges.

        Returns:
            The augmented utterance with shape `(M,)`, in [-1, 1]: N samples divided by the speed, and the silence
            around them.

        Raises:
            EdgeSpeechError: samples that are too short, silent, not finite or of another shape; a strength
                outside of 0 to 1.
        """
        return self.timed(samples, key=key, strength=strength, silence_s=silence_s)[0]

    def timed(
        self, samples: Samples, *, key: str, strength: float = 1.0, silence_s: Range | None = None
    ) -> tuple[Samples, Timing]:
        """As a call; also gives how the utterance was moved in time."""
        _check_audio(f"augment {key}", samples)
        if not 0 <= strength <= 1:
            raise bad("augment", "strength", strength, "0 to 1")
        config, draw = self._config, _Draw(self._seed, key, strength)
        voice = self._voice(samples, draw)
        silences = (silence_s, silence_s) if silence_s else (config.silence_before_s, config.silence_after_s)
        before, after = (_n_samples(draw.between(bounds, bounds[0])) for bounds in silences)
        timing = Timing(before, samples.size / voice.size)
        spoken = slice(before, before + voice.size)
        sound = pad_with_background(voice, before, after, draw.rng)

        microphone = self._microphone(draw)
        room = self._room(draw)
        if room is not None:
            sound = apply_response(
                sound, room if microphone is None else room * microphone, LONGEST_RESPONSE + LEAD
            )
        elif microphone is not None:
            sound = apply_response(sound, microphone, LEAD)
        if draw.happens(config.noise_prob):
            noise = self._noise(sound.size, draw.rng)
            if microphone is not None:
                noise = apply_response(noise, microphone, LEAD)
            snr_db = draw.between(config.noise_snr_db, config.noise_snr_db[1])
            sound = sound + _noise_gain(sound[spoken], noise, noise[spoken], snr_db) * noise
        sound = self._level(sound, spoken, draw)
        # Drawn last and only if configured, so that runs without it keep the draws they had.
        if config.channel_prob and draw.happens(config.channel_prob):
            channel = CHANNELS[int(draw.rng.integers(len(CHANNELS)))]
            sound = np.clip(channel(sound, draw.rng), -1.0, 1.0)
        return sound, timing

    def _voice(self, samples: Samples, draw: _Draw) -> Samples:
        """Another speaking rate and pitch."""
        config = self._config
        speed = draw.between(config.speed, 1.0) if draw.happens(config.speed_prob) else 1.0
        pitch = speed
        if draw.happens(config.pitch_prob):
            pitch = 2 ** (draw.between(config.pitch_semitones, 0.0) / 12)
        length = round(samples.size / speed)
        if pitch != 1.0:
            samples = soxr.resample(samples, pitch * SAMPLE_RATE, SAMPLE_RATE, quality="MQ")
        return samples if pitch == speed else change_tempo(samples, length)

    def _room(self, draw: _Draw) -> Spectrum | None:
        if not draw.happens(self._config.room_prob):
            return None
        if self._measured and draw.rng.random() < self._config.measured_prob:
            return self._measured[int(draw.rng.integers(len(self._measured)))]
        return self._rooms.spectrum(int(draw.rng.integers(len(self._rooms))))

    def _microphone(self, draw: _Draw) -> NDArray[np.float32] | None:
        """The microphone's gain with shape `(BINS,)`, zero phase; None where it is flat."""
        config = self._config
        gains = np.ones(_GRID_HZ.size)
        if tilted := draw.happens(config.eq_prob):
            knots = [draw.between(config.eq_db, 0.0) for _ in _EQ_KNOTS_HZ]
            gains = 10 ** (np.interp(_GRID_HZ, _EQ_KNOTS_HZ, knots) / 20)
        if limited := draw.happens(config.band_limit_prob):
            low, high = _TELEPHONE_HZ if draw.rng.random() < 0.5 else (0.0, draw.rng.uniform(*_LOW_PASS_HZ))
            gains /= np.sqrt(1 + (_GRID_HZ / high) ** _BAND_ORDER)
            gains *= 1 if low == 0 else np.sqrt(1 - 1 / (1 + (_GRID_HZ / low) ** _BAND_ORDER))
        return np.interp(_BINS_HZ, _GRID_HZ, gains).astype(np.float32) if tilted or limited else None

    def _noise(self, length: int, rng: np.random.Generator) -> Samples:
        """One noise, or two of which the second is up to 15 dB weaker, starting at random offsets."""
        noise = self._one_noise(length, rng)
        if rng.random() < _SECOND_NOISE_SHARE:
            noise = noise + 10 ** rng.uniform(-0.75, 0.0) * self._one_noise(length, rng)
        return noise

    def _one_noise(self, length: int, rng: np.random.Generator) -> Samples:
        if self._recorded and rng.random() < _RECORDED_SHARE:
            whole, gain = self._recorded[int(rng.integers(len(self._recorded)))]
            return np.float32(gain) * _from_anywhere(whole, length, rng)
        whole = self._made.noise(self._made.kinds[int(rng.integers(len(self._made.kinds)))], rng)
        return _from_anywhere(whole, length, rng)

    def _level(self, sound: Samples, spoken: slice, draw: _Draw) -> Samples:
        """The level, the noise floor, and overload."""
        config = self._config
        level_db = draw.between(config.level_db, _MILDEST_LEVEL_DB)
        now, peak = max(_rms(sound[spoken]), _SILENT), max(float(np.abs(sound).max()), _SILENT)
        gain = min(10 ** (level_db / 20) / now, 1.0 / peak)
        sound = sound * gain
        if draw.happens(config.floor_prob):
            highest_db = 20 * math.log10(now * gain) - _FLOOR_BELOW_SPEECH_DB
            floor_db = min(draw.between(config.floor_db, config.floor_db[0]), highest_db)
            kind = "white" if draw.rng.random() < 0.5 else "pink"
            floor = _from_anywhere(self._made.noise(kind, draw.rng), sound.size, draw.rng)
            sound += 10 ** (floor_db / 20) * floor
        most = 1.0
        if draw.happens(config.clip_prob):
            most = peak * gain * draw.between(_CLIPPED_AT, _CLIPPED_AT[1])
        return np.clip(sound, -most, most)


def change_tempo(samples: Samples, length: int) -> Samples:
    """Stretch or shorten speech at the same pitch.

    Blocks of 40 ms are taken from their nominal position, shifted by up to 10 ms to continue the previous block best
    (WSOLA: W. Verhelst and M. Roelands, ICASSP 1993).

    Args:
        samples: with shape `(N,)`, N >= 1.
        length: how many samples to make of them.

    Returns:
        The samples, with shape `(length,)`.
    """
    ratio = samples.size / length
    count = -(-length // _BLOCK)
    padded = np.pad(samples, (_SEARCH, _BLOCK + _FADE + _SEARCH + math.ceil(ratio * _BLOCK)))
    rising = np.linspace(0, 1, _FADE, dtype=np.float32)
    result = np.zeros(count * _BLOCK + _FADE, dtype=np.float32)
    for start in range(0, count * _BLOCK, _BLOCK):
        place = round(start * ratio)
        continued = result[start : start + _FADE]
        if start:
            # Every other sample is enough to find the best shift: most energy of voices is below 4 kHz.
            likeness = np.correlate(padded[place : place + 2 * _SEARCH + _FADE : 2], continued[::2], "valid")
            place += 2 * int(likeness.argmax())
        else:
            place += _SEARCH
        block = padded[place : place + _BLOCK + _FADE]
        continued += rising * (block[:_FADE] - continued) if start else block[:_FADE]
        result[start + _FADE : start + _FADE + _BLOCK] = block[_FADE:]
    return result[:length]


def spec_augment(features: Features, config: AugmentConfig, rng: np.random.Generator) -> Features:
    """Mask stretches of time and bands of frequency (Park et al. 2019, section 2; no time warping).

    Each mask's width is drawn from 0 to the largest, and its position from all that fit. Masked values are set to the
    utterance's mean.

    Args:
        features: with shape `(F, 80)`, F >= 1; not changed.
        config: its `time_masks`, `time_mask_s`, `frequency_masks` and `frequency_mask_bands` count.
        rng: for the masks.

    Returns:
        A new array with shape `(F, 80)`.

    Raises:
        EdgeSpeechError: features of another shape, or no frame.
    """
    if features.ndim != 2 or features.shape[1] != N_MELS or not len(features):
        raise bad("spec_augment", "shape of the features", features.shape, f"(F, {N_MELS}) with F >= 1")
    masked = features.astype(np.float32)
    mean = masked.mean()
    widest = min(round(config.time_mask_s / FRAME_SHIFT_S), int(_LARGEST_TIME_SHARE * len(masked)))
    for _ in range(config.time_masks):
        masked[_mask(len(masked), widest, rng)] = mean
    for _ in range(config.frequency_masks):
        masked[:, _mask(N_MELS, config.frequency_mask_bands, rng)] = mean
    return masked


def _mask(length: int, widest: int, rng: np.random.Generator) -> slice:
    width = int(rng.integers(widest + 1))
    start = int(rng.integers(length - width + 1))
    return slice(start, start + width)


def _check_audio(where: str, samples: Samples) -> None:
    if samples.ndim != 1:
        raise bad(where, "shape", samples.shape, "(N,)")
    if samples.size < _n_samples(_SHORTEST_S):
        raise bad(where, "length", samples.size, f"at least {_n_samples(_SHORTEST_S)} samples (10 ms)")
    if samples.dtype != np.float32:
        raise bad(where, "type", str(samples.dtype), "float32")
    power = float(np.dot(samples, samples)) / samples.size
    if not math.isfinite(power):
        raise EdgeSpeechError(f"{where}: has NaN, infinity or samples far beyond 1, expected [-1, 1]")
    if power < _SILENT**2:
        raise EdgeSpeechError(f"{where}: is silent, expected speech or noise above -100 dBFS")


def _n_samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _rms(samples: Samples) -> float:
    return math.sqrt(float(np.dot(samples, samples)) / samples.size)


def _from_anywhere(noise: Samples, length: int, rng: np.random.Generator) -> Samples:
    """A segment at a random offset; noise that is too short is repeated."""
    start = int(rng.integers(noise.size))
    if start + length <= noise.size:
        return noise[start : start + length]
    return np.take(noise, np.arange(start, start + length), mode="wrap")


def _noise_gain(speech: Samples, noise: Samples, under: Samples, snr_db: float) -> float:
    """The gain of the noise that gives the requested ratio of speech power to noise power.

    The noise power is the larger of that under the speech and that of the whole noise, so that intermittent noise is
    not amplified because the speech falls between two knocks.
    """
    loudness = max(_rms(noise), _rms(under))
    return _rms(speech) / loudness * 10 ** (-snr_db / 20) if loudness > _SILENT else 0.0


def pad_with_background(voice: Samples, before: int, after: int, rng: np.random.Generator) -> Samples:
    """Pad with silence; for a recording, with its own background noise, so that there is no step at the edges.

    Args:
        voice: with shape `(N,)`.
        before: samples to put before it.
        after: samples to put after it.
        rng: for the background.

    Returns:
        With shape `(before + N + after,)`.
    """
    sound = np.zeros(before + voice.size + after, dtype=np.float32)
    sound[before : before + voice.size] = voice
    windows = voice[: voice.size // _GRAIN * _GRAIN].reshape(-1, _GRAIN)
    if before + after == 0 or not len(windows):
        return sound
    powers = np.einsum("ij,ij->i", windows, windows) / _GRAIN
    quiet = int(np.argsort(powers)[len(powers) // 10])
    if powers[quiet] > _rms(voice) ** 2 * 10 ** (-_QUIET_DB / 10):
        return sound  # no pause to take a background from
    # Grains of one pause with random signs, halfway over each other: noise of its level and spectrum.
    grain = windows[quiet] * np.sin(np.pi * (np.arange(_GRAIN, dtype=np.float32) + 0.5) / _GRAIN)
    count = -(-(before + after) // _GRAIN) + 1
    signs = rng.choice(np.array([-1, 1], dtype=np.float32), (2, count, 1))
    rows = (signs * grain).reshape(2, -1)
    background = rows[0, _GRAIN // 2 :] + rows[1, : -_GRAIN // 2]
    sound[:before] = background[:before]
    sound[before + voice.size :] = background[before : before + after]
    return sound
