"""Every uncompressed container: a cut file, a header that claims less than there is, other files behind it."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgespeech.audio.io import read_audio, read_audio_bytes
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.errors import EdgeSpeechError

N = 16_000
FORMATS = ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "NIST"]
ENCODINGS = ["PCM_16", "PCM_24", "FLOAT", "ULAW"]
RNG = np.random.default_rng(0)
SOUND = np.clip(0.2 * RNG.standard_normal(N), -0.9, 0.9).astype(np.float32)


def written(kind: str, encoding: str = "PCM_16", **options: str) -> bytes:
    if encoding not in soundfile.available_subtypes(kind):
        pytest.skip(f"{kind} holds no {encoding}")
    buffer = io.BytesIO()
    soundfile.write(buffer, SOUND, SAMPLE_RATE, format=kind, subtype=encoding, **options)
    return buffer.getvalue()


def samples_of(data: bytes) -> int:
    return len(read_audio_bytes("it", data))


def put(data: bytes, at: int, kind: str, value: int) -> bytes:
    packed = struct.pack(kind, value)
    return data[:at] + packed + data[at + len(packed) :]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", FORMATS)
def test_whole_files_are_heard_whole(kind: str, encoding: str) -> None:
    assert samples_of(written(kind, encoding)) == N


@pytest.mark.parametrize("missing", [3, N // 2])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_file_is_refused(kind: str, missing: int) -> None:
    with pytest.raises(EdgeSpeechError, match="truncated: its header ends the audio at byte"):
        samples_of(written(kind)[:-missing])


def test_a_cut_file_of_packets_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="truncated"):
        samples_of(written("CAF", "ALAC_16")[:-5])


def test_a_table_of_packets_that_counts_other_samples_is_refused() -> None:
    data = written("CAF", "ALAC_16")
    for frames in (N // 2, 2 * N):
        with pytest.raises(EdgeSpeechError, match=f"truncated: {N} of {frames} samples"):
            samples_of(put(data, data.index(b"pakt") + 20, ">q", frames))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_behind_another_is_no_audio_of_the_first(kind: str) -> None:
    whole = written(kind)
    with pytest.raises(EdgeSpeechError, match=r"no part of the format|could not be decoded"):
        samples_of(whole + whole)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_few_bytes_behind_are_not_heard(kind: str) -> None:
    assert samples_of(written(kind) + RNG.bytes(500)) == N
    assert samples_of(written(kind) + bytes(4096)) == N  # the padding of a tape or a disk


HALF = N // 2


def half_claimed(kind: str) -> bytes:
    """A file whose header counts half of its audio, as one that is still written to."""
    data = written(kind)
    if kind == "WAV":
        return put(data, data.index(b"data") + 4, "<I", 2 * HALF)
    if kind == "RF64":
        return put(data, data.index(b"ds64") + 16, "<Q", 2 * HALF)
    if kind == "W64":
        return put(data, data.index(b"data", 40) + 16, "<Q", 24 + 2 * HALF)
    if kind == "AIFF":
        return put(data, data.index(b"SSND") + 4, ">I", 8 + 2 * HALF)
    if kind == "AU":
        return put(data, 8, ">I", 2 * HALF)
    if kind == "CAF":
        return put(data, data.index(b"data") + 4, ">Q", 4 + 2 * HALF)
    return data.replace(b"sample_count -i 16000", b"sample_count -i 8000\n")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_header_that_counts_less_than_there_is(kind: str) -> None:
    with pytest.raises(EdgeSpeechError, match="no part of the format: audio that the header does not count"):
        samples_of(half_claimed(kind))


def test_a_size_that_was_left_open_is_the_files() -> None:
    assert samples_of(put(written("AU"), 8, ">I", 0xFFFFFFFF)) == N
    caf = written("CAF")
    assert samples_of(put(caf, caf.index(b"data") + 4, ">Q", 0xFFFFFFFFFFFFFFFF)) == N
    aiff = written("AIFF")
    for size in (0, 0x7FFFFFFF, 0xFFFFFFFF):
        assert samples_of(put(aiff, aiff.index(b"SSND") + 4, ">I", size)) == N
    for frames in (0, 8_000, 2**31):  # libsndfile counts the bytes
        assert samples_of(put(aiff, aiff.index(b"COMM") + 10, ">I", frames)) == N


def test_a_tag_before_the_file() -> None:
    tag = b"ID3\x04\0\0\0\0\x07\x76" + bytes(1014)
    assert samples_of(tag + written("FLAC")) == N
    assert samples_of(tag + written("WAV")) == N


@pytest.mark.parametrize("kind", ["VOC", "IRCAM", "SVX", "PAF", "MAT5", "PVF", "HTK", "SDS", "AVR", "XI"])
def test_formats_whose_claims_nobody_checks_are_refused(kind: str) -> None:
    encoding = {"XI": "DPCM_16"}.get(kind, "PCM_16")
    with pytest.raises(EdgeSpeechError, match=f"it: format is '{kind}', expected one of WAV.*: convert it"):
        samples_of(written(kind, encoding))


def wav(channels: int = 1, rate: int = SAMPLE_RATE, block: int = 2, bits: int = 16, tag: int = 1) -> bytes:
    body = (SOUND * 32767).astype("<i2").tobytes()
    fmt = struct.pack("<HHIIHH", tag, channels, rate, min(rate * block, 2**32 - 1), block, bits)
    inside = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(inside)) + inside


@pytest.mark.parametrize("rate", [0, 1, 1_999, 2_000_000, 4_000_000_000])
def test_a_sample_rate_that_no_recording_has(rate: int) -> None:
    with pytest.raises(EdgeSpeechError, match=r"it: (sample rate is|could not be decoded)"):
        samples_of(wav(rate=rate))


@pytest.mark.parametrize(
    "fields",
    [{"channels": 0}, {"bits": 0}, {"tag": 0x1234}, {"tag": 3, "bits": 16}, {"channels": 8, "block": 16}],
)
def test_a_header_that_makes_no_sense(fields: dict[str, int]) -> None:
    with pytest.raises(
        EdgeSpeechError, match=r"it: (could not be decoded|channels is 8|channels and bits of a sample is)"
    ):
        samples_of(wav(**fields))


def test_what_is_no_file_of_audio(tmp_path: Path) -> None:
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "folder.wav").mkdir()
    for path in (tmp_path / "loop.wav", tmp_path / "folder.wav", tmp_path / ("x" * 5000), Path("a\0b")):
        with pytest.raises(EdgeSpeechError, match=r"no such audio file|could not be read|is a folder"):
            read_audio(path)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(EdgeSpeechError, match="is a pipe or a device, expected an audio file"):
        read_audio(tmp_path / "pipe.wav")
