"""Simulated rooms: impulse responses and household noises.

A room impulse response follows the image-source method for a shoebox room (Allen and Berkley, "Image method for
efficiently simulating small-room acoustics", JASA 65(4), 1979) for its first 50 ms, and is decaying noise after that,
where images are too dense to distinguish. Nothing is recorded: rooms and noises are generated from a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import bad

Spectrum = NDArray[np.complex64]
Triple = tuple[float, float, float]

SOUND_M_PER_S = 343.0
BLOCK = 32_768
"""Samples of one Fourier transform in `apply_response`."""
LEAD = 256
"""How many samples a response may begin before time 0, as a zero-phase equaliser does."""
BINS = BLOCK // 2 + 1
SHORTEST_RT60_S, LONGEST_RT60_S = 0.1, 1.0
LONGEST_RESPONSE = 12_000
"""Samples of a response with the longest RT60."""
_IMAGES_S = 0.050
_FADE_OUT = 3_200
"""Samples over which a measured response that is too long fades out."""
_KEPT = 0.75
"""Length of a response as a share of the RT60: it ends at -45 dB."""
_NEAREST_WALL_M = 0.3
_SMALLEST_ROOM_M: Triple = (2.2, 2.0, 2.2)
_LARGEST_ROOM_M: Triple = (8.0, 6.0, 3.5)
_DISTANCE_M = (0.2, 2.5)
_HIGH_PASS_POLE = 0.96
"""A first-order high-pass at 100 Hz: the images all have one sign, which piles up at 0 Hz (Allen and Berkley)."""
_NOISE_SAMPLES = 131_072
_NOISE_VARIANTS = 6
_TALKERS = (3, 8)


def _high_pass_and_delay() -> tuple[Spectrum, Spectrum]:
    turn = np.exp(-2j * np.pi * np.arange(BINS) / BLOCK)
    high_pass = (1 - turn) / (1 - _HIGH_PASS_POLE * turn)
    return high_pass.astype(np.complex64), (turn**LEAD).astype(np.complex64)


_HIGH_PASS, _DELAY = _high_pass_and_delay()


def apply_response(samples: Samples, spectrum: Spectrum | NDArray[np.float32], length: int) -> Samples:
    """Convolve a signal with a response, by overlap-add.

    Args:
        samples: with shape `(N,)`, N >= 1.
        spectrum: the response's `rfft` over `BLOCK` samples, with shape `(BINS,)`; it may reach `LEAD` samples
            before time 0 (a zero-phase equaliser does).
        length: samples from time 0 to the response's end, at most `LONGEST_RESPONSE + LEAD`.

    Returns:
        The first N samples of the convolution, not shifted.
    """
    hop = BLOCK - length - LEAD
    count = -(-samples.size // hop)
    blocks = np.zeros((count, BLOCK), dtype=np.float32)
    for row, block in enumerate(blocks):
        piece = samples[row * hop : (row + 1) * hop]
        block[: piece.size] = piece
    parts = np.fft.irfft(np.fft.rfft(blocks) * (spectrum * _DELAY), BLOCK)
    result = np.zeros((count - 1) * hop + BLOCK, dtype=np.float32)
    for row, part in enumerate(parts):
        result[row * hop : row * hop + BLOCK] += part
    return result[LEAD : LEAD + samples.size]


def room_response(
    size_m: Triple, source_m: Triple, microphone_m: Triple, rt60_s: float, rng: np.random.Generator
) -> Samples:
    """Room impulse response of an empty shoebox room (image-source method), from the arrival of the direct sound.

    All walls have the same absorption, by Eyring's formula for the given RT60. Images that arrive within 50 ms of the
    direct sound are placed one by one (Allen and Berkley, equations 8 and 10; nearest sample). The tail after them is
    Gaussian noise with the mean energy of the images: 4 pi c / V a second and square metre,
    decaying by 60 dB in `rt60_s`.

    Args:
        size_m: the room's length, width and height.
        source_m: position of the talker, from one corner.
        microphone_m: position of the microphone.
        rt60_s: time in which the reverberation decays by 60 dB.
        rng: for the tail.

    Returns:
        The response with shape `(N,)`, 50 ms to 0.75 s long; the direct sound is 1 at sample 0.

    Raises:
        EdgeSpeechError: an RT60 outside of 0.1 to 1 s; a talker or microphone outside of the room, or both at the same
            position.
    """
    if not SHORTEST_RT60_S <= rt60_s <= LONGEST_RT60_S:
        raise bad("room", "rt60_s", rt60_s, f"{SHORTEST_RT60_S:g} to {LONGEST_RT60_S:g} s")
    for name, place in (("source_m", source_m), ("microphone_m", microphone_m)):
        if not all(0 < at < side for at, side in zip(place, size_m, strict=True)):
            raise bad("room", name, place, f"a place inside of {size_m}")
    if source_m == microphone_m:
        raise bad("room", "source_m", source_m, "another place than the microphone's")
    volume = math.prod(size_m)
    length, width, height = size_m
    surface = 2 * (length * width + length * height + width * height)
    # Eyring: RT60 = 24 ln(10) V / (-c S ln(1 - absorption)), and reflection^2 = 1 - absorption.
    log_reflection = -12 * math.log(10) * volume / (SOUND_M_PER_S * surface * rt60_s)
    direct_m = math.dist(source_m, microphone_m)
    n_images = round(_IMAGES_S * SAMPLE_RATE)
    reach_m = direct_m + _IMAGES_S * SOUND_M_PER_S
    squares: NDArray[np.float64] = np.zeros(1)
    reflections: NDArray[np.float64] = np.zeros(1)
    for side, source, microphone in zip(size_m, source_m, microphone_m, strict=True):
        order = np.arange(-math.ceil(reach_m / (2 * side)) - 1, math.ceil(reach_m / (2 * side)) + 2)
        offsets = 2 * order[:, np.newaxis] * side + np.array([source, -source]) - microphone
        walls = np.abs(order[:, np.newaxis] - np.array([0, 1])) + np.abs(order[:, np.newaxis])
        near = np.abs(offsets) < reach_m
        squares = np.add.outer(squares, offsets[near] ** 2).ravel()
        reflections = np.add.outer(reflections, walls[near]).ravel()
    distances = np.sqrt(squares)
    delays = np.rint((distances - direct_m) / SOUND_M_PER_S * SAMPLE_RATE).astype(np.int64)
    heard = delays < n_images
    images = direct_m / distances[heard] * np.exp(log_reflection * reflections[heard])
    early = np.bincount(delays[heard], weights=images, minlength=n_images)

    n_tail = max(0, round(_KEPT * rt60_s * SAMPLE_RATE) - n_images)
    times = (n_images + np.arange(n_tail)) / SAMPLE_RATE + direct_m / SOUND_M_PER_S
    power = 4 * math.pi * SOUND_M_PER_S * direct_m**2 / (volume * SAMPLE_RATE)
    tail = rng.standard_normal(n_tail) * math.sqrt(power) * 10 ** (-3 * times / rt60_s)
    spectrum = np.fft.rfft(np.concatenate([early, tail]), BLOCK) * _HIGH_PASS
    response: Samples = np.fft.irfft(spectrum, BLOCK)[: early.size + n_tail].astype(np.float32)
    response /= response[0]
    return response


class RoomPool:
    """Room responses, generated on first use and cached.

    Args:
        rt60_s: shortest and longest reverberation, within 0.1 to 1 s.
        seed: determines every room.
        size: how many rooms there are.
    """

    def __init__(self, rt60_s: tuple[float, float], seed: int, size: int = 200) -> None:
        self._rt60_s = rt60_s
        self._seed = seed
        self._spectra: list[Spectrum | None] = [None] * size

    def __len__(self) -> int:
        return len(self._spectra)

    def response(self, index: int) -> Samples:
        """The response of room `index`, as `room_response` gives it: a talker 0.2 to 2.5 m away."""
        rng = np.random.default_rng([self._seed, index])
        low, high = np.array(_SMALLEST_ROOM_M), np.array(_LARGEST_ROOM_M)
        size = rng.uniform(low, high)
        microphone = rng.uniform(_NEAREST_WALL_M, size - _NEAREST_WALL_M)
        direction = rng.standard_normal(3) * (1.0, 1.0, 0.3)  # a talker's mouth is about as high
        distance = math.exp(rng.uniform(math.log(_DISTANCE_M[0]), math.log(_DISTANCE_M[1])))
        source = microphone + distance * direction / np.linalg.norm(direction)
        # A step through a wall is taken in the opposite direction; if that leaves the room too, it ends at the wall.
        outside = (source < _NEAREST_WALL_M) | (source > size - _NEAREST_WALL_M)
        source = np.where(outside, 2 * microphone - source, source)
        source = np.clip(source, _NEAREST_WALL_M / 2, size - _NEAREST_WALL_M / 2)
        return room_response(
            _triple(size), _triple(source), _triple(microphone), rng.uniform(*self._rt60_s), rng
        )

    def spectrum(self, index: int) -> Spectrum:
        """Its spectrum for `apply_response`, with shape `(BINS,)`."""
        kept = self._spectra[index]
        if kept is None:
            kept = np.fft.rfft(self.response(index), BLOCK).astype(np.complex64)
            self._spectra[index] = kept
        return kept


def measured_spectrum(response: Samples) -> Spectrum:
    """The spectrum of a measured impulse response for `apply_response`.

    It starts at its largest sample, which is assumed to be the direct sound, and fades out before `LONGEST_RESPONSE`
    (0.75 s), so that a hall becomes a long but bounded reverberation.

    Args:
        response: 16 kHz with shape `(N,)`, not silent.

    Returns:
        Its spectrum with shape `(BINS,)`; the direct sound is 1 at sample 0.
    """
    start = int(np.abs(response).argmax())
    kept = response[start : start + LONGEST_RESPONSE] / response[start]
    if response.size > start + LONGEST_RESPONSE:
        kept[-_FADE_OUT:] *= np.linspace(1, 0, _FADE_OUT, dtype=np.float32)
    return np.fft.rfft(kept, BLOCK).astype(np.complex64)


def _triple(values: NDArray[np.float64]) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])


def _shaped(amplitudes: NDArray[np.float64], rng: np.random.Generator) -> Samples:
    """Gaussian noise that repeats without a seam, with the given spectrum."""
    phases = rng.standard_normal((2, amplitudes.size))
    return np.fft.irfft(amplitudes * (phases[0] + 1j * phases[1]), _NOISE_SAMPLES).astype(np.float32)


def _frequencies() -> NDArray[np.float64]:
    """The bins of a noise in hertz; the first is not 0, so that one can divide by it."""
    order = np.maximum(np.arange(_NOISE_SAMPLES // 2 + 1), 1)
    return order * (SAMPLE_RATE / _NOISE_SAMPLES)


def _coloured(exponent: float) -> Callable[[np.random.Generator], Samples]:
    """White (0), pink (1) or brown (2) noise above 40 Hz: power falls with frequency to that exponent."""

    def make(rng: np.random.Generator) -> Samples:
        hertz = _frequencies()
        return _shaped((hertz > 40) * hertz ** (-exponent / 2), rng)

    return make


def _lines(base_hz: float, count: int, fall: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Amplitudes of a tone and its harmonics, with random strengths that decrease as k^-fall."""
    amplitudes = np.zeros(_NOISE_SAMPLES // 2 + 1)
    order = np.arange(1, count + 1)
    places = np.rint(order * base_hz * _NOISE_SAMPLES / SAMPLE_RATE).astype(np.int64)
    amplitudes[places] = rng.uniform(0.1, 1.0, count) / order**fall
    return amplitudes


def _hum(rng: np.random.Generator) -> Samples:
    """Mains: 50 or 60 Hz with its harmonics, even or buzzing, above a little hiss."""
    amplitudes = _lines(float(rng.choice([50.0, 60.0])), 40, rng.uniform(0.3, 1.5), rng)
    hiss = rng.uniform(0.02, 0.2) * np.linalg.norm(amplitudes) / math.sqrt(amplitudes.size)
    return _shaped(amplitudes + hiss, rng)


def _fan(rng: np.random.Generator) -> Samples:
    """Moving air, strongest somewhere low and falling above, with the tone of the blades."""
    hertz = _frequencies()
    corner = rng.uniform(150, 1500)
    air = (hertz > 40) / np.sqrt(1 + (hertz / corner) ** rng.uniform(1.5, 4))
    blades = _lines(rng.uniform(60, 250), 8, 1.0, rng)
    share = rng.uniform(0.0, 0.7) * np.linalg.norm(air) / np.linalg.norm(blades)
    return _shaped(air + share * blades, rng)


def _clatter(rng: np.random.Generator) -> Samples:
    """Dishes and cutlery: now and then a knock that rings in a few tones and dies away."""
    result = np.zeros(_NOISE_SAMPLES)
    for _ in range(int(rng.integers(10, 40))):
        tones = int(rng.integers(3, 7))
        decay_s = rng.uniform(0.005, 0.06, tones)
        time = np.arange(round(5 * decay_s.max() * SAMPLE_RATE)) / SAMPLE_RATE
        hertz = rng.uniform(600, 6500, tones)
        waves = np.exp(-time / decay_s[:, np.newaxis]) * np.sin(2 * np.pi * hertz[:, np.newaxis] * time)
        knock = 10 ** rng.uniform(-1.0, 0.0) * (rng.uniform(0.2, 1.0, tones) @ waves)
        start = int(rng.integers(_NOISE_SAMPLES))
        result[(start + np.arange(knock.size)) % _NOISE_SAMPLES] += knock
    return result.astype(np.float32)


def _babble(utterances: Sequence[Samples]) -> Callable[[np.random.Generator], Samples]:
    """Several talkers at once, each as loud as the other, out of the given utterances."""

    def make(rng: np.random.Generator) -> Samples:
        result = np.zeros(_NOISE_SAMPLES, dtype=np.float32)
        for _ in range(int(rng.integers(*_TALKERS, endpoint=True))):
            talker = unit_power(utterances[int(rng.integers(len(utterances)))])
            start = int(rng.integers(talker.size))
            result += np.take(talker, np.arange(start, start + _NOISE_SAMPLES), mode="wrap")
        return result

    return make


def unit_power(samples: Samples) -> Samples:
    """A copy with a mean square of 1; the samples must not be silent."""
    return samples / math.sqrt(float(np.dot(samples, samples)) / samples.size)


class NoisePool:
    """Household noises, generated on first use and cached.

    Args:
        seed: determines every noise.
        babble: utterances of other talkers; without them there is no `babble`.

    Attributes:
        kinds: the available kinds: white, pink, brown, hum, fan, clatter and perhaps babble.
    """

    def __init__(self, seed: int, babble: Sequence[Samples] = ()) -> None:
        self._seed = seed
        self._makers: dict[str, Callable[[np.random.Generator], Samples]] = {
            "white": _coloured(0.0),
            "pink": _coloured(1.0),
            "brown": _coloured(2.0),
            "hum": _hum,
            "fan": _fan,
            "clatter": _clatter,
        }
        if babble:
            self._makers["babble"] = _babble(babble)
        self.kinds = tuple(self._makers)
        self._kept: dict[tuple[str, int], Samples] = {}

    def noise(self, kind: str, rng: np.random.Generator) -> Samples:
        """One of a kind's few noises, with shape `(131072,)` and unit power; it repeats without a seam."""
        place = (kind, int(rng.integers(_NOISE_VARIANTS)))
        if place not in self._kept:
            own = np.random.default_rng([self._seed, self.kinds.index(kind), place[1]])
            self._kept[place] = unit_power(self._makers[kind](own))
        return self._kept[place]
