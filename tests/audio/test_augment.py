import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgespeech.audio.augment import Augmenter, change_tempo, spec_augment
from edgespeech.audio.augment_config import AugmentConfig
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError

NOTHING = AugmentConfig(
    speed_prob=0.0,
    pitch_prob=0.0,
    silence_before_s=(0.0, 0.0),
    silence_after_s=(0.0, 0.0),
    room_prob=0.0,
    eq_prob=0.0,
    band_limit_prob=0.0,
    noise_prob=0.0,
    floor_prob=0.0,
    level_db=(-26.0, -26.0),
    clip_prob=0.0,
)
EVERYTHING = AugmentConfig(
    speed_prob=1.0,
    pitch_prob=1.0,
    room_prob=1.0,
    eq_prob=1.0,
    band_limit_prob=1.0,
    noise_prob=1.0,
    floor_prob=1.0,
    clip_prob=1.0,
)


def voice(seed: int = 0, seconds: float = 1.5, level: float = 0.05) -> Samples:
    """A buzz at 120 Hz that swells and fades, with no pause."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * time + seed) / k for k in range(1, 20))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)
    return np.asarray(level * swell * buzz, dtype=np.float32)


def hiss(seed: int, seconds: float = 3.0, level: float = 0.02) -> Samples:
    noise = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    return (level * noise).astype(np.float32)


def rms_db(samples: Samples) -> float:
    return float(10 * np.log10(np.square(samples, dtype=np.float64).mean()))


def augmenter(config: AugmentConfig, seed: int = 1, **noises: Samples) -> Augmenter:
    return Augmenter(config, noises or {"tap": hiss(9)}, seed, babble=[hiss(3), hiss(4)])


def main_hertz(samples: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(spectrum.argmax() * SAMPLE_RATE / samples.size)


def test_the_key_alone_decides_and_not_the_order() -> None:
    one, other = augmenter(AugmentConfig()), augmenter(AugmentConfig())
    keys = [f"{epoch}/utterance-{n}" for epoch in range(2) for n in range(4)]
    forwards = {key: one(voice(), key=key) for key in keys}
    backwards = {key: other(voice(), key=key) for key in reversed(keys)}
    assert all(forwards[key].tobytes() == backwards[key].tobytes() for key in keys)
    assert all(one(voice(), key=key).tobytes() == forwards[key].tobytes() for key in keys)
    assert len({samples.tobytes() for samples in forwards.values()}) == len(keys)


def test_another_seed_is_another_augmentation() -> None:
    assert (
        augmenter(EVERYTHING, 1)(voice(), key="a").tobytes()
        != augmenter(EVERYTHING, 2)(voice(), key="a").tobytes()
    )


def test_the_input_is_not_changed() -> None:
    samples = voice()
    before = samples.copy()
    augmenter(EVERYTHING)(samples, key="a")
    assert (samples == before).all()


def test_strength_zero_changes_only_level_and_padding() -> None:
    config = replace(
        EVERYTHING, silence_before_s=(0.1, 1.0), silence_after_s=(0.2, 1.0), level_db=(-45.0, -10.0)
    )
    samples = voice()
    result = augmenter(config)(samples, key="a", strength=0.0)
    assert result.size == 1600 + samples.size + 3200
    assert not result[:1600].any()
    assert not result[-3200:].any()
    spoken = result[1600:-3200]
    assert rms_db(spoken) == pytest.approx(-26.0, abs=0.01)
    assert spoken * (samples[100] / spoken[100]) == pytest.approx(samples, abs=1e-6)


def test_strength_draws_towards_the_mildest() -> None:
    config = replace(NOTHING, silence_before_s=(0.0, 1.0), level_db=(-45.0, -10.0))
    make = augmenter(config)
    samples = voice()
    lengths = [[make(samples, key=str(n), strength=s).size for n in range(20)] for s in (0.0, 0.25, 1.0)]
    longest = [(max(each) - samples.size) / SAMPLE_RATE for each in lengths]
    assert longest[0] == 0.0
    assert 0.15 < longest[1] <= 0.25
    assert 0.7 < longest[2] <= 1.0


def test_probabilities_scale_with_strength() -> None:
    make = augmenter(replace(NOTHING, noise_prob=1.0))
    plain = augmenter(NOTHING)(voice(), key="0")
    noisy = sum(not np.allclose(make(voice(), key=str(n), strength=0.5), plain) for n in range(60))
    assert 18 <= noisy <= 42  # binomial, 3 standard deviations


@pytest.mark.parametrize("snr_db", [5.0, 12.0, 25.0])
def test_noise_has_the_ratio_asked_for(snr_db: float) -> None:
    make = augmenter(replace(NOTHING, noise_prob=1.0, noise_snr_db=(snr_db, snr_db)))
    samples = voice().astype(np.float64)
    for n in range(20):
        result = make(voice(), key=str(n)).astype(np.float64)
        # result = scale * (speech + noise), and the noise knows nothing of the speech.
        scale = result @ samples / (samples @ samples)
        noise = result - scale * samples
        measured = 10 * np.log10(scale**2 * (samples @ samples) / (noise @ noise))
        assert measured == pytest.approx(snr_db, abs=0.5)


def test_recorded_and_made_noises_are_both_used() -> None:
    config = replace(NOTHING, noise_prob=1.0, noise_snr_db=(0.0, 0.0))
    tone = np.sin(2 * np.pi * 5000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    make = Augmenter(config, {"tone": tone}, 1)
    at_tone = 0
    for n in range(30):
        result = make(voice(), key=str(n))
        power = np.abs(np.fft.rfft(result * np.hanning(result.size))) ** 2
        hertz = np.fft.rfftfreq(result.size, 1 / SAMPLE_RATE)
        at_tone += bool(power[np.abs(hertz - 5000) < 5].sum() > 0.2 * power.sum())
    assert 5 < at_tone < 25


@pytest.mark.parametrize("level_db", [-45.0, -30.0, -20.0])
def test_the_level_is_the_one_asked_for(level_db: float) -> None:
    result = augmenter(replace(NOTHING, level_db=(level_db, level_db)))(voice(), key="a")
    assert rms_db(result) == pytest.approx(level_db, abs=0.1)


def test_the_level_is_that_of_the_speech_and_not_of_the_silence() -> None:
    config = replace(NOTHING, silence_before_s=(1.0, 1.0), level_db=(-30.0, -30.0))
    result = augmenter(config)(voice(), key="a")
    assert rms_db(result[SAMPLE_RATE:]) == pytest.approx(-30.0, abs=0.1)


def test_a_level_beyond_full_scale_is_lowered_and_not_clipped() -> None:
    result = augmenter(replace(NOTHING, level_db=(0.0, 0.0)))(voice(), key="a")
    assert np.abs(result).max() == pytest.approx(1.0)
    assert result == pytest.approx(voice() / np.abs(voice()).max(), abs=1e-6)


def test_clipping_flattens_the_peaks() -> None:
    result = augmenter(replace(NOTHING, clip_prob=1.0))(voice(), key="a")
    peak = np.abs(result).max()
    assert (np.abs(result) == peak).sum() > 20
    unclipped = np.abs(augmenter(NOTHING)(voice(), key="a")).max()
    assert 0.3 * unclipped <= peak <= 0.8 * unclipped


def test_silence_lies_before_and_after_within_its_ranges() -> None:
    make = augmenter(replace(NOTHING, silence_before_s=(0.3, 0.5), silence_after_s=(0.6, 0.9)))
    samples = voice()
    seen = set()
    for n in range(20):
        result = make(samples, key=str(n))
        sounding = np.flatnonzero(result)
        before, after = sounding[0], result.size - 1 - sounding[-1]
        assert 0.3 * SAMPLE_RATE <= before + 2 <= 0.5 * SAMPLE_RATE + 2
        assert 0.6 * SAMPLE_RATE <= after + 2 <= 0.9 * SAMPLE_RATE + 2
        assert abs(before + samples.size + after - result.size) <= 4
        seen.add(before)
    assert len(seen) > 10


def test_a_recording_is_padded_with_its_own_background() -> None:
    config = replace(NOTHING, silence_before_s=(1.0, 1.0), silence_after_s=(0.5, 0.5))
    background = hiss(1, 2.0, level=10 ** (-60 / 20))
    recording = background.copy()
    recording[8000:24_000] += voice(seconds=1.0)
    result = augmenter(config)(recording, key="a")
    assert result.size == recording.size + 24_000
    own = result[16_000:-8000]
    gain_db = rms_db(own) - rms_db(recording)
    assert rms_db(result[:16_000]) - gain_db == pytest.approx(-60, abs=1.5)
    assert rms_db(result[-8000:]) - gain_db == pytest.approx(-60, abs=1.5)


def test_a_noise_floor_lies_everywhere_at_its_level() -> None:
    config = replace(
        NOTHING,
        floor_prob=1.0,
        floor_db=(-60.0, -60.0),
        silence_before_s=(1.0, 1.0),
        silence_after_s=(1.0, 1.0),
    )
    result = augmenter(config)(voice(), key="a")
    assert rms_db(result[:16_000]) == pytest.approx(-60, abs=1)
    assert rms_db(result[-16_000:]) == pytest.approx(-60, abs=1)


def test_a_noise_floor_stays_below_faint_speech() -> None:
    config = replace(
        NOTHING,
        floor_prob=1.0,
        floor_db=(-40.0, -40.0),
        silence_before_s=(1.0, 1.0),
        level_db=(-45.0, -45.0),
    )
    assert rms_db(augmenter(config)(voice(), key="a")[:16_000]) == pytest.approx(-60, abs=1)


@pytest.mark.parametrize("speed", [0.8, 0.93, 1.15, 1.3])
def test_speed_divides_length_and_moves_pitch(speed: float) -> None:
    tone = (0.1 * np.sin(2 * np.pi * 440 * np.arange(32_000) / SAMPLE_RATE)).astype(np.float32)
    result = augmenter(replace(NOTHING, speed_prob=1.0, speed=(speed, speed)))(tone, key="a")
    assert abs(result.size - 32_000 / speed) <= 4
    assert main_hertz(result) == pytest.approx(440 * speed, abs=2)


@pytest.mark.parametrize("speed", [0.85, 1.0, 1.2])
@pytest.mark.parametrize("semitones", [-3.0, 2.0])
def test_pitch_moves_by_semitones_whatever_the_speed(speed: float, semitones: float) -> None:
    tone = (0.1 * np.sin(2 * np.pi * 440 * np.arange(32_000) / SAMPLE_RATE)).astype(np.float32)
    config = replace(
        NOTHING,
        speed_prob=1.0,
        speed=(speed, speed),
        pitch_prob=1.0,
        pitch_semitones=(semitones, semitones),
    )
    result = augmenter(config)(tone, key="a")
    assert abs(result.size - 32_000 / speed) <= 4
    assert main_hertz(result) == pytest.approx(440 * 2 ** (semitones / 12), abs=2)


@pytest.mark.parametrize("ratio", [0.7, 0.9, 1.0, 1.2, 1.4])
def test_change_of_tempo_joins_without_steps(ratio: float) -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(24_000) / SAMPLE_RATE).astype(np.float32)
    length = round(24_000 / ratio)
    result = change_tempo(tone, length)
    assert result.size == length
    # A sine of 200 Hz at 16 kHz moves by at most 0.0785 a sample.
    body = result[:-1000]
    assert np.abs(np.diff(body)).max() < 0.1
    assert np.sqrt(np.square(body).mean()) == pytest.approx(np.sqrt(0.5), abs=0.02)


def test_a_room_keeps_onsets_in_place_and_rings_into_the_silence() -> None:
    config = replace(NOTHING, room_prob=1.0, silence_before_s=(0.2, 0.2), silence_after_s=(0.5, 0.5))
    samples = voice()
    plain, roomy = (augmenter(c)(samples, key="a") for c in (replace(config, room_prob=0.0), config))
    assert roomy.size == plain.size
    assert np.abs(roomy[:3199]).max() < 1e-5
    assert np.abs(roomy[3200:3300]).max() > 1e-3
    assert rms_db(roomy[-8000:-7000]) > -60
    assert not plain[-8000:].any()


def test_the_microphone_tilts_the_spectrum_smoothly_within_its_range() -> None:
    config = replace(NOTHING, eq_prob=1.0, eq_db=(-8.0, 8.0))
    samples = hiss(2)
    result = augmenter(config)(samples, key="a")
    ratio = np.abs(np.fft.rfft(result)) / np.abs(np.fft.rfft(samples))
    gain = 20 * np.log10(np.median(ratio[:24_000].reshape(60, 400), axis=1))
    assert 3 < np.ptp(gain) < 17
    assert np.abs(np.diff(gain)).max() < 3


def test_a_limited_band_has_nothing_above_it_and_its_noise_neither() -> None:
    config = replace(NOTHING, band_limit_prob=1.0, noise_prob=1.0, noise_snr_db=(5.0, 5.0))
    make = augmenter(config)
    telephones = 0
    for n in range(20):
        power = np.abs(np.fft.rfft(make(hiss(2), key=str(n)))) ** 2
        hertz = np.fft.rfftfreq(48_000, 1 / SAMPLE_RATE)
        middle = power[(hertz > 1000) & (hertz < 2500)].mean()
        assert power[hertz > 7900].mean() < 0.5 * middle
        if power[hertz < 100].mean() < 0.01 * middle:
            telephones += 1
            assert power[hertz > 6000].mean() < 0.01 * middle
    assert 3 <= telephones <= 17


@pytest.mark.parametrize("level", [1e-4, 0.05, 1.0])
@pytest.mark.parametrize("seconds", [0.01, 0.3, 4.0])
def test_everything_at_once_is_finite_and_within_full_scale(level: float, seconds: float) -> None:
    make = augmenter(EVERYTHING)
    for n in range(8):
        result = make(voice(n, seconds, level), key=str(n), strength=n / 7)
        assert result.dtype == np.float32
        assert result.ndim == 1
        assert np.isfinite(result).all()
        assert 1e-4 < np.abs(result).max() <= 1.0


def test_a_constant_is_no_reason_for_nan() -> None:
    result = augmenter(EVERYTHING)(np.full(8000, 0.5, dtype=np.float32), key="a")
    assert np.isfinite(result).all()


@pytest.mark.parametrize("name", ["kitchen", "Kitchen"])
def test_the_evaluation_noise_is_refused(name: str) -> None:
    with pytest.raises(EdgeSpeechError, match=r"noise is 'kitchen'.*evaluation only"):
        Augmenter(NOTHING, {"tap": hiss(1), name: hiss(2)}, 1)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0, dtype=np.float32), "augment 0/a: length is 0, expected at least 160 samples"),
        (np.zeros(100, dtype=np.float32), "length is 100"),
        (np.zeros(16_000, dtype=np.float32), "augment 0/a: is silent"),
        (np.full(16_000, np.nan, dtype=np.float32), "NaN"),
        (np.full((2, 16_000), 0.1, dtype=np.float32), r"shape is \(2, 16000\)"),
        (np.full(16_000, 0.1), "type is 'float64', expected float32"),
    ],
)
def test_bad_audio_is_refused_by_name(samples: Any, message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        augmenter(NOTHING)(samples, key="0/a")


def test_bad_noise_seed_and_strength_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="augment: noise tap: is silent"):
        Augmenter(NOTHING, {"tap": np.zeros(16_000, dtype=np.float32)}, 1)
    with pytest.raises(EdgeSpeechError, match="augment: babble 0: length is 3"):
        Augmenter(NOTHING, {}, 1, babble=[hiss(1)[:3]])
    with pytest.raises(EdgeSpeechError, match="seed is -1"):
        Augmenter(NOTHING, {}, -1)
    with pytest.raises(EdgeSpeechError, match=r"strength is 1\.5, expected 0 to 1"):
        augmenter(NOTHING)(voice(), key="a", strength=1.5)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("noise_prob", 1.5, "a probability from 0 to 1"),
        ("noise_prob", "often", "a probability from 0 to 1"),
        ("speed", [1.2, 0.8], "(low, high) within 0.5 and 2"),
        ("speed", 1.1, "(low, high) within 0.5 and 2"),
        ("speed", [0.0, 1.0], "(low, high) within 0.5 and 2"),
        ("level_db", [-20, float("nan")], "(low, high) within -70 and 0"),
        ("room_rt60_s", [0.2, 2.0], "(low, high) within 0.1 and 1"),
        ("time_masks", -1, "a whole number from 0 to 100"),
        ("time_masks", 1.5, "a whole number from 0 to 100"),
        ("frequency_mask_bands", 81, "a whole number from 0 to 80"),
        ("time_mask_s", -0.1, "seconds from 0 to 10"),
    ],
)
def test_bad_values_are_refused(key: str, value: object, expected: str) -> None:
    with pytest.raises(EdgeSpeechError, match=f"augment: {key} is .*{re.escape(expected)}"):
        AugmentConfig.from_mapping({key: value})


def test_a_mapping_gives_the_config_and_an_unknown_key_an_error() -> None:
    config = AugmentConfig.from_mapping({"speed": [0.9, 1.1], "noise_prob": 1})
    assert config == AugmentConfig(speed=(0.9, 1.1), noise_prob=1)
    with pytest.raises(EdgeSpeechError, match=r"train\.yaml: key is 'sped', expected one of .*speed"):
        AugmentConfig.from_mapping({"sped": [0.9, 1.1]}, "train.yaml")


def features(frames: int) -> Any:
    return np.random.default_rng(frames).normal(-6, 2, (frames, 80)).astype(np.float32)


def runs(changed: Any) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], changed.astype(int), [0]])))
    return [int(end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def test_masks_keep_their_number_and_width() -> None:
    config = AugmentConfig(time_masks=2, time_mask_s=0.25, frequency_masks=3, frequency_mask_bands=10)
    original = features(400)
    kept = original.copy()
    rng = np.random.default_rng(0)
    widest_time, widest_band = 0, 0
    for _ in range(100):
        masked = spec_augment(original, config, rng)
        changed = masked != original
        in_time, in_bands = runs(changed.all(axis=1)), runs(changed.all(axis=0))
        assert len(in_time) <= 2
        assert len(in_bands) <= 3
        assert sum(in_time) <= 50
        assert sum(in_bands) <= 30
        assert set(np.unique(masked[changed])) <= {original.mean()}
        widest_time = max(widest_time, max(in_time, default=0))
        widest_band = max(widest_band, max(in_bands, default=0))
    assert widest_time >= 24
    assert widest_band >= 10
    assert (original == kept).all()


def test_a_short_utterance_keeps_four_fifths_of_its_frames() -> None:
    config = AugmentConfig(time_masks=1, time_mask_s=2.0, frequency_masks=0)
    original = features(50)
    rng = np.random.default_rng(0)
    hidden = [int((spec_augment(original, config, rng) != original).all(axis=1).sum()) for _ in range(100)]
    assert max(hidden) == 10


def test_no_masks_is_a_copy() -> None:
    original = features(3)
    masked = spec_augment(original, AugmentConfig(time_masks=0, frequency_masks=0), np.random.default_rng(0))
    assert (masked == original).all()
    assert masked is not original


@pytest.mark.parametrize("shape", [(0, 80), (10, 40), (80,)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(EdgeSpeechError, match="shape of the features"):
        spec_augment(np.zeros(shape, dtype=np.float32), NOTHING, np.random.default_rng(0))
