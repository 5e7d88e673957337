import numpy as np
import pytest

from edgespeech.audio.rooms import (
    BINS,
    BLOCK,
    LEAD,
    LONGEST_RESPONSE,
    NoisePool,
    RoomPool,
    apply_response,
    room_response,
)
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError


def decay_time(response: Samples) -> float:
    """RT60 out of the fall from -5 to -25 dB of the backward-integrated energy (Schroeder 1965)."""
    energy = np.cumsum(np.square(response.astype(np.float64))[::-1])[::-1]
    level = 10 * np.log10(energy / energy[0])
    fit = (level <= -5) & (level >= -25)
    slope = np.polyfit(np.flatnonzero(fit) / SAMPLE_RATE, level[fit], 1)[0]
    return float(-60 / slope)


@pytest.mark.parametrize("rt60_s", [0.2, 0.4, 0.7, 1.0])
def test_a_room_decays_as_asked_for(rt60_s: float) -> None:
    pool = RoomPool((rt60_s, rt60_s), seed=5)
    measured = [decay_time(pool.response(index)) for index in range(12)]
    assert measured == pytest.approx([rt60_s] * 12, rel=0.25)


def test_the_direct_sound_comes_first_and_is_the_strongest() -> None:
    pool = RoomPool((0.15, 0.7), seed=1)
    for index in range(20):
        response = pool.response(index)
        assert response[0] == 1.0
        assert np.abs(response[1:]).max() < 1.0
        assert response.size <= LONGEST_RESPONSE


def test_the_first_reflection_is_where_geometry_puts_it() -> None:
    # Talker and microphone 2 m apart in the middle of 20 m by 20 m, both 1 m above the floor, ceiling far:
    # the floor's image is sqrt(2^2 + 2^2) m away.
    response = room_response((20, 20, 20), (9, 10, 1), (11, 10, 1), 1.0, np.random.default_rng(0))
    late = round((np.sqrt(8) - 2) / 343 * SAMPLE_RATE)
    assert np.abs(response[20:300]).argmax() + 20 == late
    # Eyring: reflection^2 = exp(-24 ln 10 V / (c S T)); spreading: 2 / sqrt(8).
    reflection = np.exp(-12 * np.log(10) * 20 / (343 * 6 * 1.0))
    # The high-pass leaves a little of what came before.
    assert response[late] == pytest.approx(reflection / np.sqrt(2), abs=0.04)


def test_a_pool_repeats_itself_in_any_order() -> None:
    first, second = RoomPool((0.2, 0.5), seed=3), RoomPool((0.2, 0.5), seed=3)
    forwards = [first.spectrum(index) for index in (0, 1, 2)]
    backwards = [second.spectrum(index) for index in (2, 1, 0)][::-1]
    assert all((a == b).all() for a, b in zip(forwards, backwards, strict=True))
    assert not (forwards[0] == forwards[1]).all()
    assert not (forwards[0] == RoomPool((0.2, 0.5), seed=4).spectrum(0)).all()
    assert first.spectrum(1) is forwards[1]


@pytest.mark.parametrize(
    ("source", "microphone", "rt60_s", "message"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.3, "another place"),
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.3, "source_m"),
        ((2.0, 1.0, 1.0), (1.0, 1.0, 0.0), 0.3, "microphone_m"),
        ((2.0, 1.0, 1.0), (1.0, 1.0, 1.0), 3.0, "rt60_s is 3.0, expected 0.1 to 1 s"),
    ],
)
def test_impossible_rooms_are_refused(
    source: tuple[float, float, float], microphone: tuple[float, float, float], rt60_s: float, message: str
) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        room_response((4, 3, 2.5), source, microphone, rt60_s, np.random.default_rng(0))


@pytest.mark.parametrize("n_samples", [1, 160, 20_000, BLOCK - 12_000 - LEAD, BLOCK, 70_001])
def test_block_convolution_is_convolution(n_samples: int) -> None:
    rng = np.random.default_rng(n_samples)
    samples = rng.standard_normal(n_samples).astype(np.float32)
    response = np.zeros(LONGEST_RESPONSE)
    response[[0, 1, 7, 3000, LONGEST_RESPONSE - 1]] = [1.0, -0.5, 0.25, 0.3, 0.2]
    expected = np.zeros(n_samples + LONGEST_RESPONSE)
    for delay in np.flatnonzero(response):
        expected[delay : delay + n_samples] += response[delay] * samples
    spectrum = np.fft.rfft(response, BLOCK).astype(np.complex64)
    result = apply_response(samples, spectrum, LONGEST_RESPONSE)
    assert result.dtype == np.float32
    assert result == pytest.approx(expected[:n_samples], abs=2e-5)


def test_a_response_may_lead_its_time() -> None:
    samples = np.zeros(40_000, dtype=np.float32)
    places = [300, 20_000, BLOCK - 2 * LEAD, BLOCK - LEAD, 39_000]
    samples[places] = 1.0
    response = np.zeros(BLOCK)
    response[[0, LEAD, -LEAD]] = [1.0, 0.5, 0.25]
    result = apply_response(samples, np.fft.rfft(response).astype(np.complex64), LEAD + 1)
    expected = np.zeros(40_000)
    for place in places:
        expected[[place, place + LEAD, place - LEAD]] += [1.0, 0.5, 0.25]
    assert result == pytest.approx(expected, abs=1e-5)
    assert apply_response(samples, np.ones(BINS, dtype=np.float32), LEAD) == pytest.approx(samples, abs=1e-5)


def slope_db_per_octave(noise: Samples) -> float:
    """Of the power between 100 Hz and 6400 Hz."""
    power = np.abs(np.fft.rfft(noise.astype(np.float64))) ** 2
    hertz = np.fft.rfftfreq(noise.size, 1 / SAMPLE_RATE)
    edges = 100.0 * 2 ** np.arange(7)
    bands = [power[(hertz >= low) & (hertz < 2 * low)].mean() for low in edges[:-1]]
    return float(np.polyfit(np.arange(6), 10 * np.log10(bands), 1)[0])


@pytest.mark.parametrize(("kind", "slope"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_colours_fall_as_their_names_say(kind: str, slope: float) -> None:
    noise = NoisePool(2).noise(kind, np.random.default_rng(0))
    assert slope_db_per_octave(noise) == pytest.approx(slope, abs=0.3)


def test_hum_lies_on_harmonics_of_the_mains() -> None:
    power = np.abs(np.fft.rfft(NoisePool(2).noise("hum", np.random.default_rng(1)).astype(np.float64))) ** 2
    hertz = np.arange(power.size) * SAMPLE_RATE / 131_072
    near = [np.abs(hertz - base * np.rint(hertz / base)) < 0.5 for base in (50.0, 60.0)]
    share = max(power[lines].sum() / power.sum() for lines in near)
    assert share > 0.85


def test_clatter_comes_in_knocks_and_a_fan_does_not() -> None:
    pool = NoisePool(2)

    def crest(kind: str) -> float:
        noise = pool.noise(kind, np.random.default_rng(0))
        return float(np.abs(noise).max())  # of unit power

    assert crest("clatter") > 10
    assert crest("fan") < 7


def test_every_noise_has_unit_power_and_repeats_itself() -> None:
    talkers = [np.sin(np.arange(4000 + 500 * k) / (5 + k)).astype(np.float32) for k in range(3)]
    pool, again = NoisePool(7, talkers), NoisePool(7, talkers)
    assert pool.kinds == ("white", "pink", "brown", "hum", "fan", "clatter", "babble")
    for kind in pool.kinds:
        noise = pool.noise(kind, np.random.default_rng(3))
        assert noise.dtype == np.float32
        assert np.square(noise).mean() == pytest.approx(1.0, rel=1e-3)
    for kind in reversed(pool.kinds):
        assert (
            again.noise(kind, np.random.default_rng(3)) == pool.noise(kind, np.random.default_rng(3))
        ).all()


def test_without_talkers_there_is_no_babble() -> None:
    assert "babble" not in NoisePool(7).kinds
