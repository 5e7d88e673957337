"""Telephones and codecs, another vocal tract, and measured rooms."""

from collections.abc import Callable

import numpy as np
import pytest

from edgespeech.audio.augment import Augmenter
from edgespeech.audio.augment_config import AugmentConfig
from edgespeech.audio.channel import CHANNELS, opus, telephone
from edgespeech.audio.features import log_mel_at_once, mel_centres_hz
from edgespeech.audio.rooms import LONGEST_RESPONSE, apply_response, measured_spectrum
from edgespeech.audio.vocal_tract import warp_vocal_tract
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError


def tone(hertz: float, seconds: float = 1.0) -> Samples:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(
        np.float32
    )


def power(samples: Samples) -> float:
    return float(np.square(samples[1600:-1600]).mean())


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("length", [160, 4001, 16000])
def test_a_channel_keeps_length_and_time(channel: Callable[..., Samples], length: int) -> None:
    samples = (0.1 * np.random.default_rng(7).standard_normal(length)).astype(np.float32)
    heard = channel(samples, np.random.default_rng(0))
    assert heard.shape == samples.shape
    assert heard.dtype == np.float32
    if length == 16000:
        likeness = np.correlate(heard, samples[200:-200], "valid")
        assert abs(int(likeness.argmax()) - 200) <= 8


def test_a_telephone_cuts_the_band_and_speech_passes() -> None:
    low, middle, high = (
        power(telephone(tone(hertz), np.random.default_rng(1))) / power(tone(hertz))
        for hertz in (30, 1000, 5000)
    )
    assert low < 0.2
    assert 0.8 < middle < 1.1
    assert high < 1e-3


def test_mu_law_noise_is_there_and_small() -> None:
    error = telephone(tone(1000), np.random.default_rng(1)) - tone(1000)
    smallest = min(power(telephone(tone(1000), np.random.default_rng(s)) - tone(1000)) for s in range(3))
    assert error.any()
    assert smallest < 0.01 * power(tone(1000))


def test_opus_codes_and_draws_its_rate() -> None:
    noise = np.random.default_rng(2).standard_normal(16000).astype(np.float32) * np.float32(0.05)
    heard = [opus(noise, np.random.default_rng(seed)) for seed in range(6)]
    assert 1 < len({one.tobytes() for one in heard}) <= 3


@pytest.mark.parametrize("length", [0.88, 0.95, 1.1, 1.14])
def test_a_longer_vocal_tract_lowers_formants(length: float) -> None:
    features = log_mel_at_once(tone(1500))
    centres = mel_centres_hz()
    before, after = (centres[f[20].argmax()] for f in (features, warp_vocal_tract(features, length)))
    assert after == pytest.approx(before / length, rel=0.06)


def test_the_same_vocal_tract_changes_nothing() -> None:
    features = log_mel_at_once(tone(700) + tone(5000))
    np.testing.assert_allclose(warp_vocal_tract(features, 1.0), features, atol=1e-3)


def test_mel_centres_are_where_a_tone_is_loudest() -> None:
    for hertz in (300.0, 1000.0, 4000.0):
        band = int(log_mel_at_once(tone(hertz))[50].argmax())
        assert abs(mel_centres_hz()[band] - hertz) < 0.08 * hertz + 20


def test_a_measured_room_starts_at_its_direct_sound_and_is_bounded() -> None:
    response = np.zeros(40_000, dtype=np.float32)
    response[500], response[900], response[500 + LONGEST_RESPONSE + 100] = -0.5, 0.25, 0.4
    click = np.zeros(20_000, dtype=np.float32)
    click[100] = 1.0
    heard = apply_response(click, measured_spectrum(response), LONGEST_RESPONSE)
    assert heard[100] == pytest.approx(1.0, abs=1e-3)
    assert heard[500] == pytest.approx(-0.5, abs=1e-3)
    assert np.abs(heard[100 + LONGEST_RESPONSE :]).max() < 1e-3


def quiet(**changes: object) -> AugmentConfig:
    names = ("speed", "pitch", "eq", "band_limit", "noise", "floor", "clip", "room")
    return AugmentConfig.from_mapping({f"{name}_prob": 0.0 for name in names} | changes)


def test_measured_rooms_and_channels_are_drawn_by_key_and_change_the_sound() -> None:
    rooms = {"hall": np.exp(-np.arange(8000) / 2000).astype(np.float32)}
    speech = np.random.default_rng(5).standard_normal(16000).astype(np.float32) * np.float32(0.1)
    plain = Augmenter(quiet(), {}, 1)(speech, key="a")
    for config in (quiet(room_prob=1.0, measured_prob=1.0), quiet(channel_prob=1.0)):
        made = [Augmenter(config, {}, 1, rooms=rooms)(speech, key="a") for _ in range(2)]
        np.testing.assert_array_equal(made[0], made[1])
        assert made[0].shape == plain.shape
        assert not np.allclose(made[0], plain)
        assert np.abs(made[0]).max() <= 1.0


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (np.zeros(4000, dtype=np.float32), "room hall: is silent"),
        (np.ones(20, dtype=np.float32), "room hall: length is 20"),
        (np.full(4000, np.nan, dtype=np.float32), "room hall: has NaN"),
    ],
)
def test_a_room_that_cannot_be_used_is_refused(response: Samples, said: str) -> None:
    with pytest.raises(EdgeSpeechError, match=said):
        Augmenter(quiet(), {}, 1, rooms={"hall": response})


def test_long_silences_when_asked_for() -> None:
    speech = tone(500)
    augmenter = Augmenter(quiet(silence_before_s=(0.0, 0.1), silence_after_s=(0.0, 0.1)), {}, 1)
    lengths = [augmenter(speech, key=str(n), silence_s=(2.0, 3.0)).size / SAMPLE_RATE for n in range(8)]
    assert min(lengths) >= 5.0
    assert max(lengths) <= 7.0
