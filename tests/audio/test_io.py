from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgespeech.audio.io import ends_properly, read_audio, write_audio
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError


def tone(seconds: float, rate: int = SAMPLE_RATE, hz: float = 440.0) -> Samples:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_lossless_formats_come_back_to_the_16_bit_step(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tone{suffix}"
    write_audio(path, tone(0.5))
    read = read_audio(path)
    assert read.dtype == np.float32
    assert read.shape == (8000,)
    assert np.abs(read - tone(0.5)).max() <= 1 / 32768


def test_opus_comes_back_with_its_length_and_level(tmp_path: Path) -> None:
    path = tmp_path / "tone.opus"
    write_audio(path, tone(1.0))
    read = read_audio(path)
    assert read.shape == (16000,)
    assert np.sqrt(np.mean(read**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)


def test_a_part_is_read_by_offset_and_duration(tmp_path: Path) -> None:
    path = tmp_path / "ramp.wav"
    ramp = (np.arange(16000) / 32768).astype(np.float32)
    write_audio(path, ramp)
    assert np.array_equal(read_audio(path, offset=0.25, duration=0.5), ramp[4000:12000])
    assert np.array_equal(read_audio(path, offset=0.25), ramp[4000:])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"gone\.wav: no such audio file"):
        read_audio(tmp_path / "gone.wav")
    with pytest.raises(EdgeSpeechError, match="is a folder, expected an audio file"):
        read_audio(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    with pytest.raises(EdgeSpeechError, match=r"empty\.wav: is empty"):
        read_audio(path)


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    soundfile.write(path, np.empty(0, dtype=np.float32), SAMPLE_RATE)
    with pytest.raises(EdgeSpeechError, match="has 0 samples"):
        read_audio(path)


def test_a_file_that_is_not_audio_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("this is not audio, whatever it is called")
    with pytest.raises(EdgeSpeechError, match=r"text\.wav: could not be decoded"):
        read_audio(path)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.01])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"cut{suffix}"
    write_audio(path, tone(10.0))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(EdgeSpeechError, match=rf"cut{suffix}: "):
        read_audio(path)


def test_an_ogg_file_cut_between_pages_is_read_and_says_that_it_does_not_end(tmp_path: Path) -> None:
    path = tmp_path / "cut.opus"
    write_audio(path, tone(10.0))
    whole = path.read_bytes()
    assert ends_properly(whole)
    path.write_bytes(whole[: whole.rindex(b"OggS")])
    assert not ends_properly(path.read_bytes())
    assert 8.0 < len(read_audio(path)) / SAMPLE_RATE < 10.0
    with pytest.raises(EdgeSpeechError, match=r"duration is 10\.0, expected at most the"):
        read_audio(path, duration=10.0)


def test_a_wav_file_with_a_chunk_before_the_data_is_read(tmp_path: Path) -> None:
    path = tmp_path / "chunk.wav"
    write_audio(path, tone(0.1))
    whole = path.read_bytes()
    data = whole.index(b"data")
    extra = b"LIST" + (3).to_bytes(4, "little") + b"abc\0"
    size = len(whole) - 8 + len(extra)
    path.write_bytes(b"RIFF" + size.to_bytes(4, "little") + whole[8:data] + extra + whole[data:])
    assert read_audio(path).shape == (1600,)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_another_rate_is_resampled(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "rate.wav"
    write_audio(path, tone(1.0, rate), sample_rate=rate)
    read = read_audio(path)
    assert abs(len(read) - SAMPLE_RATE) <= 1
    middle = slice(2000, 14000)
    assert np.abs(read[middle] - tone(1.0)[middle]).max() < 0.01


def test_stereo_is_averaged_only_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone(0.1), np.zeros(1600, np.float32)], axis=1), SAMPLE_RATE)
    with pytest.raises(EdgeSpeechError, match="channels is 2, expected 1"):
        read_audio(path)
    assert np.abs(read_audio(path, channels="average") - tone(0.1) / 2).max() < 1e-4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    path = tmp_path / "nan.wav"
    samples = tone(0.1)
    samples[7] = value
    soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(EdgeSpeechError, match=r"sample 7 is -?(nan|inf), expected a finite number"):
        read_audio(path)
    with pytest.raises(EdgeSpeechError, match="expected a finite number"):
        write_audio(tmp_path / "out.wav", samples)


def test_samples_in_integer_units_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "units.wav"
    soundfile.write(path, 32768 * tone(0.1), SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(EdgeSpeechError, match=r"expected samples in \[-1, 1\]"):
        read_audio(path)


def test_slight_overshoot_is_clipped(tmp_path: Path) -> None:
    path = tmp_path / "over.wav"
    soundfile.write(path, 4 * tone(0.1), SAMPLE_RATE, subtype="FLOAT")
    assert np.abs(read_audio(path)).max() == 1.0


@pytest.mark.parametrize("rate", [16000, 8000, 48000])
def test_one_sample_is_read(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "one.wav"
    write_audio(path, np.array([0.5], dtype=np.float32), sample_rate=rate)
    if rate > SAMPLE_RATE:
        with pytest.raises(EdgeSpeechError, match="samples is 1, expected enough for one sample at 16000 Hz"):
            read_audio(path)
    else:
        assert read_audio(path).shape == (SAMPLE_RATE // rate,)


def test_ten_minutes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    write_audio(path, tone(600.0))
    assert read_audio(path).shape == (9_600_000,)


@pytest.mark.parametrize(
    ("offset", "duration", "message"),
    [
        (1.0, None, "offset is 1.0, expected less than the file's 1.000 s"),
        (-0.1, None, "offset is -0.1, expected 0 s or more"),
        (0.5, 0.6, "duration is 0.6, expected at most the 0.500 s"),
        (0.0, 0.0, "duration is 0.0, expected more than 0 s"),
    ],
)
def test_a_part_that_is_not_there_is_refused(
    tmp_path: Path, offset: float, duration: float | None, message: str
) -> None:
    path = tmp_path / "second.wav"
    write_audio(path, tone(1.0))
    with pytest.raises(EdgeSpeechError, match=message):
        read_audio(path, offset=offset, duration=duration)


def test_writing_checks_what_it_is_given(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"suffix is '.mp3', expected one of"):
        write_audio(tmp_path / "tone.mp3", tone(0.1))
    with pytest.raises(EdgeSpeechError, match=r"shape is \(0,\), expected \(N,\)"):
        write_audio(tmp_path / "tone.wav", np.empty(0, dtype=np.float32))
    assert list(tmp_path.iterdir()) == []
