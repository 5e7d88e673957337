"""Made whispers: no voice, the same envelope; the same treatment leaves a voice where it is."""

from __future__ import annotations

import numpy as np
import pytest

from edgespeech.audio.voicing import FRAME, voicing
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError
from edgespeech.whispers.making import Treatment, revoiced, whispered

AS_IT_IS = Treatment()


def vowel(seconds: float = 1.0, pitch_hz: float = 120.0, formant_hz: float = 1000.0) -> Samples:
    """Pulses through one resonance."""
    count = round(seconds * SAMPLE_RATE)
    pulses = np.zeros(count)
    pulses[:: round(SAMPLE_RATE / pitch_hz)] = 1.0
    times = np.arange(400) / SAMPLE_RATE
    resonance = np.exp(-400 * times) * np.sin(2 * np.pi * formant_hz * times)
    return (0.3 * np.convolve(pulses, resonance)[:count]).astype(np.float32)


def spectrum(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::128] * np.hanning(FRAME)
    return np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE), np.sqrt((np.abs(np.fft.rfft(frames)) ** 2).mean(0))


def peak_hz(samples: Samples) -> float:
    hz, power = spectrum(samples)
    smooth = np.convolve(power, np.ones(9) / 9, "same")
    return float(hz[smooth.argmax()])


def test_without_treatment_a_voice_comes_back_as_it_was() -> None:
    assert np.abs(revoiced(vowel(), AS_IT_IS) - vowel()).max() < 1e-6


def test_a_whisper_has_no_voice() -> None:
    made = whispered(vowel(), AS_IT_IS, np.random.default_rng(0))
    assert made.shape == vowel().shape
    assert np.median(voicing(vowel())) > 0.9
    assert np.median(voicing(made)) < 0.6
    assert np.median(voicing(revoiced(vowel(), Treatment(1.1, 3.0, 10.0)))) > 0.8


def test_it_keeps_envelope_and_loudness() -> None:
    made = whispered(vowel(), AS_IT_IS, np.random.default_rng(0))
    assert peak_hz(made) == pytest.approx(peak_hz(vowel()), abs=130)
    assert made.std() == pytest.approx(vowel().std(), rel=0.3)


@pytest.mark.parametrize("make", ["whisper", "voice"])
def test_the_warp_moves_formants_alike_in_both_classes(make: str) -> None:
    def made(treatment: Treatment) -> Samples:
        rng = np.random.default_rng(1)
        return whispered(vowel(), treatment, rng) if make == "whisper" else revoiced(vowel(), treatment)

    assert peak_hz(made(Treatment(warp=1.2))) == pytest.approx(1.2 * peak_hz(made(AS_IT_IS)), rel=0.08)


def test_the_tilt_takes_low_frequencies_away() -> None:
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32) * 0.1
    hz, before = spectrum(revoiced(noise, AS_IT_IS))
    _, after = spectrum(revoiced(noise, Treatment(tilt_db=6.0)))
    change = 20 * np.log10(after / before)
    assert change[(hz > 450) & (hz < 550)].mean() == pytest.approx(-12, abs=1)
    assert change[hz > 2500].mean() == pytest.approx(0, abs=0.2)


def test_the_drop_makes_voiced_frames_weaker_and_no_others() -> None:
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32) * 0.1
    assert revoiced(noise, Treatment(drop_db=20.0)).std() == pytest.approx(noise.std(), rel=0.25)
    assert revoiced(vowel(), Treatment(drop_db=20.0)).std() == pytest.approx(0.1 * vowel().std(), rel=0.3)


def test_the_generator_decides_the_noise() -> None:
    first, again, other = (whispered(vowel(), AS_IT_IS, np.random.default_rng(n)) for n in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_silence_stays_silent() -> None:
    made = whispered(np.zeros(SAMPLE_RATE, np.float32), AS_IT_IS, np.random.default_rng(0))
    assert np.isfinite(made).all()
    assert np.abs(made).max() < 1e-3


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"warp": 2.0}, "warp is 2.0"),
        ({"tilt_db": -1.0}, "tilt_db is -1.0"),
        ({"drop_db": np.nan}, "drop_db is nan"),
    ],
)
def test_treatments_out_of_range(values: dict[str, float], named: str) -> None:
    with pytest.raises(EdgeSpeechError, match=named):
        Treatment(**values)


@pytest.mark.parametrize("shape", [(FRAME - 1,), (2, SAMPLE_RATE)])
def test_too_short_or_of_several_channels(shape: tuple[int, ...]) -> None:
    with pytest.raises(EdgeSpeechError, match="whispers: samples"):
        whispered(np.zeros(shape, np.float32), AS_IT_IS, np.random.default_rng(0))
