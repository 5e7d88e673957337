import numpy as np
import pytest

from edgespeech.audio.features import N_MELS, StreamingLogMel, log_mel, log_mel_at_once
from edgespeech.contracts import Samples
from edgespeech.errors import EdgeSpeechError


def audio(length: int) -> Samples:
    return (0.1 * np.random.default_rng(0).standard_normal(length)).astype(np.float32)


@pytest.mark.parametrize("chunk", [1, 7, 159, 160, 161, 333, 1280, 5001])
@pytest.mark.parametrize("length", [1, 79, 400, 3001, 5000])
def test_streaming_equals_offline_bit_for_bit(chunk: int, length: int) -> None:
    samples = audio(length)
    stream = StreamingLogMel()
    pieces = [stream.accept(samples[start : start + chunk]) for start in range(0, length, chunk)]
    streamed = np.concatenate([*pieces, stream.finish()])
    assert np.array_equal(streamed, log_mel(samples))


def test_two_streams_do_not_disturb_each_other() -> None:
    first, second = audio(2000), audio(2000)[::-1].copy()
    one, two = StreamingLogMel(), StreamingLogMel()
    got: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for start in range(0, 2000, 250):
        got[0].append(one.accept(first[start : start + 250]))
        got[1].append(two.accept(second[start : start + 250]))
    assert np.array_equal(np.concatenate([*got[0], one.finish()]), log_mel(first))
    assert np.array_equal(np.concatenate([*got[1], two.finish()]), log_mel(second))


@pytest.mark.parametrize(
    ("length", "frames"), [(0, 0), (1, 0), (79, 0), (80, 1), (239, 1), (240, 2), (16000, 100)]
)
def test_number_of_frames(length: int, frames: int) -> None:
    features = log_mel(audio(length))
    assert features.shape == (frames, N_MELS)
    assert features.dtype == np.float32


def test_a_tone_lights_its_own_band() -> None:
    """Band centres are equally spaced on the mel scale, 1127 ln(1 + f / 700), from 20 Hz to 7,600 Hz."""

    def mel(hz: float) -> float:
        return float(1127 * np.log(1 + hz / 700))

    for hz in (300.0, 1000.0, 4000.0):
        wave = (0.3 * np.sin(2 * np.pi * hz * np.arange(16000) / 16000)).astype(np.float32)
        brightest = int(log_mel(wave)[20:80].mean(axis=0).argmax())
        width = (mel(7600) - mel(20)) / (N_MELS + 1)
        assert abs(mel(20) + (brightest + 1) * width - mel(hz)) <= width


def test_twice_the_amplitude_is_log_four_more() -> None:
    samples = audio(4000)
    assert log_mel(2 * samples) - log_mel(samples) == pytest.approx(np.log(4), abs=1e-3)


def test_misuse_is_refused() -> None:
    stream = StreamingLogMel()
    stream.finish()
    with pytest.raises(EdgeSpeechError, match="samples after the end"):
        stream.accept(audio(10))
    with pytest.raises(EdgeSpeechError, match=r"shape of the samples is \(2, 5\)"):
        log_mel(audio(10).reshape(2, 5))


@pytest.mark.parametrize("length", [240, 399, 400, 3001, 16000])
def test_at_once_is_the_same_within_a_thousandth(length: int) -> None:
    samples = audio(length)
    np.testing.assert_allclose(log_mel_at_once(samples), log_mel(samples), atol=1e-3)


def test_at_once_silence_is_the_same() -> None:
    silence = np.zeros(8000, dtype=np.float32)
    assert np.array_equal(log_mel_at_once(silence), log_mel(silence))
