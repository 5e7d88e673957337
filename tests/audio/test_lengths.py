"""The length of audio is measured: whatever a container claims, all of the audio is heard, or an error says why not."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgespeech.audio import io as audio_io
from edgespeech.audio.containers import _tag_bytes, mp3_claims
from edgespeech.audio.io import file_bytes, read_audio, read_audio_bytes
from edgespeech.audio.ogg import with_serial
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError

SECONDS = 2.0
av = pytest.importorskip("av")


def sound(seconds: float = SECONDS, rate: int = SAMPLE_RATE) -> Samples:
    rng = np.random.default_rng(1)
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (200 + 100 * time) * time) + 0.01 * rng.standard_normal(len(time))
    return wave.astype(np.float32)


def wav(size: int | None = None, riff: int | None = None, behind: bytes = b"") -> bytes:
    """A WAV file with another size in its `data` chunk, and further chunks behind it."""
    body = (sound() * 32767).astype("<i2").tobytes()
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    inside = b"WAVE" + head + b"data" + struct.pack("<I", len(body) if size is None else size) + body + behind
    return b"RIFF" + struct.pack("<I", len(inside) if riff is None else riff) + inside


def by_libsndfile(kind: str, subtype: str, seconds: float = SECONDS) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound(seconds), SAMPLE_RATE, format=kind, subtype=subtype)
    return buffer.getvalue()


def by_ffmpeg(
    kind: str,
    codec: str,
    rate: int = SAMPLE_RATE,
    options: dict[str, str] | None = None,
    to: Path | None = None,
) -> bytes:
    buffer = io.BytesIO()
    with av.open(to or buffer, "w", format=kind, options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(sound(rate=rate).reshape(1, -1), format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.frame_size or None)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return to.read_bytes() if to else buffer.getvalue()


def mp3(**options: str) -> bytes:
    return by_ffmpeg("mp3", "libmp3lame", options=options)


def seconds_of(data: bytes) -> float:
    return len(read_audio_bytes("it", data)) / SAMPLE_RATE


OPEN = [0, 0x7FFFF000, 0x7FFFEFDC, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFDB, 0xFFFFF000]


@pytest.mark.parametrize("size", OPEN, ids=hex)
def test_a_wav_file_written_to_a_pipe_is_decoded_to_its_end(size: int) -> None:
    assert seconds_of(wav(size=size, riff=min(size + 36, 0xFFFFFFFF))) == SECONDS


def test_a_wav_file_whose_size_is_wrong_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="truncated: its header ends the audio at byte"):
        seconds_of(wav(size=100_000))


def test_a_wav_file_that_is_really_empty_is_refused() -> None:
    head = wav()[:40]
    with pytest.raises(EdgeSpeechError, match="has 0 samples"):
        seconds_of(head + struct.pack("<I", 0))
    with pytest.raises(EdgeSpeechError, match="has 0 samples"):
        seconds_of(head + struct.pack("<I", 0) + b"LIST" + struct.pack("<I", 4) + b"abcd")


def test_chunks_after_the_audio_are_not_decoded() -> None:
    assert seconds_of(wav(behind=b"LIST" + struct.pack("<I", 4) + b"abcd")) == SECONDS


def flac_claiming(samples: int, data: bytes | None = None) -> bytes:
    data = data or by_libsndfile("FLAC", "PCM_16")
    return (
        data[:21]
        + bytes([data[21] & 0xF0 | samples >> 32])
        + (samples & 0xFFFFFFFF).to_bytes(4, "big")
        + data[26:]
    )


def test_a_flac_file_of_unknown_length_is_decoded_to_its_end() -> None:
    assert seconds_of(flac_claiming(0)) == SECONDS


@pytest.mark.parametrize("claimed", [1, 31_999, 32_001, 10**10, 2**36 - 1])
def test_a_flac_file_with_another_length_than_it_claims_is_refused(claimed: int) -> None:
    with pytest.raises(EdgeSpeechError, match=f"32000 of {claimed} samples could be decoded"):
        seconds_of(flac_claiming(claimed))


def ogg(seconds: float, subtype: str = "OPUS") -> bytes:
    return by_libsndfile("OGG", subtype, seconds)


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_a_chained_ogg_file_is_decoded_to_its_end(subtype: str) -> None:
    data = ogg(1.0, subtype) + ogg(0.5, subtype) + ogg(0.25, subtype)
    assert seconds_of(data) == pytest.approx(1.75, abs=0.01)


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_an_ogg_stream_that_does_not_end_is_decoded_as_far_as_it_goes(subtype: str) -> None:
    data = ogg(3.0, subtype)
    last = data.rindex(b"OggS")
    unmarked = with_serial(data[: last + 5] + bytes([data[last + 5] & ~4]) + data[last + 6 :])
    assert seconds_of(unmarked) == pytest.approx(3.0, abs=0.05)
    assert not audio_io.ends_properly(unmarked)


def test_a_cut_or_damaged_ogg_page_is_refused() -> None:
    data = ogg(3.0)
    for damaged in (data[:-10], data[:-1], data + b"x", data[:100] + b"\0" + data[100:], data[:30]):
        with pytest.raises(EdgeSpeechError, match=r"damaged|truncated|not begun|decoded"):
            seconds_of(damaged)


def test_a_missing_ogg_page_is_refused() -> None:
    data = ogg(5.0)
    pages = [n for n in range(len(data)) if data.startswith(b"OggS", n)]
    assert len(pages) > 4
    with pytest.raises(EdgeSpeechError, match="pages are missing"):
        seconds_of(data[: pages[3]] + data[pages[4] :])


def test_two_streams_beside_each_other_are_refused() -> None:
    a, b = ogg(0.5), ogg(0.5)
    first = [data[: data.index(b"OggS", 4)] for data in (a, b)]
    with pytest.raises(EdgeSpeechError, match="several multiplexed streams"):
        seconds_of(first[0] + first[1] + a[len(first[0]) :] + b[len(first[1]) :])


def without_xing(data: bytes) -> bytes:
    """An MP3 without the frame that tells its length, as a live stream has none."""
    at = next(data.find(mark) for mark in (b"Xing", b"Info") if mark in data)
    start = data.rindex(b"\xff", 0, at)
    return data[data.index(data[start : start + 2], at) :]


@pytest.mark.parametrize("options", [{}, {"write_xing": "0"}, {"id3v2_version": "0"}], ids=str)
def test_mp3_is_decoded_to_its_end(options: dict[str, str]) -> None:
    assert seconds_of(mp3(**options)) == pytest.approx(SECONDS, abs=0.12)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_cut_mp3_file_that_counts_its_frames_is_refused(rate: int, tmp_path: Path) -> None:
    whole = by_ffmpeg("mp3", "libmp3lame", rate, to=tmp_path / "whole.mp3")
    cut = whole[: len(whole) // 2]
    assert mp3_claims(whole) is None
    assert (claimed := mp3_claims(cut)) is not None
    assert SECONDS <= claimed < SECONDS + 0.2
    tagged = b"ID3\x04\0\0\0\0\x07\x76" + bytes(1014) + cut[_tag_bytes(cut) :]
    assert mp3_claims(tagged) == claimed
    with pytest.raises(EdgeSpeechError, match=r"truncated: .* s could be decoded|could not be decoded"):
        read_audio_bytes("it", cut)


def test_concatenated_mp3_files_are_decoded_to_the_end() -> None:
    assert seconds_of(mp3() * 3) == pytest.approx(3 * SECONDS, abs=0.4)
    assert seconds_of(mp3(write_xing="0") * 2) == pytest.approx(2 * SECONDS, abs=0.3)
    assert seconds_of(without_xing(mp3())) == pytest.approx(SECONDS, abs=0.12)


def test_an_mp3_with_a_wrong_length_in_its_header_is_decoded_completely() -> None:
    data = bytearray(mp3())
    at = data.index(b"Xing") if b"Xing" in data else data.index(b"Info")
    for frames in (3, 10_000_000):
        data[at + 8 : at + 12] = frames.to_bytes(4, "big")
        assert seconds_of(bytes(data)) == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize(
    ("kind", "codec", "rate"),
    [("mp4", "aac", 16000), ("mp4", "aac", 44100), ("webm", "libopus", 48000),
     ("adts", "aac", 16000), ("matroska", "pcm_s16le", 16000)],
)  # fmt: skip
def test_formats_of_phones_and_browsers_are_decoded(kind: str, codec: str, rate: int) -> None:
    data = by_ffmpeg(kind, codec, rate=rate)
    assert seconds_of(data) == pytest.approx(SECONDS, abs=0.15)
    heard = read_audio_bytes("it", data)
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(np.sqrt(np.mean(sound() ** 2)), rel=0.1)


def test_an_mp4_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    data = by_ffmpeg("mp4", "aac", options={"movflags": "faststart"}, to=tmp_path / "a.mp4")
    with pytest.raises(EdgeSpeechError, match=r"truncated|could not be decoded"):
        seconds_of(data[: len(data) * 2 // 3])


@pytest.mark.parametrize(
    "data",
    [b"ffconcat version 1.0\nfile '/etc/hostname'\n", b"#EXTM3U\n/etc/hostname\n", b"RIFF", b"OggS", b"fLaC", b"ID3",
     b"\xff\xfb", b"\x1a\x45\xdf\xa3", b"\0\0\0\x18ftypM4A ", b"RIFF\0\0\0\0WAVE",
     b"\xff\xfb\x90\x00" * 30, b"\0" * 99],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_audio_is_one_error(data: bytes) -> None:
    with pytest.raises(EdgeSpeechError, match=r"^it: "):
        seconds_of(data)


def test_few_bytes_that_hold_endless_silence_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_io, "MAX_SAMPLES", 10_000)
    with pytest.raises(EdgeSpeechError, match="samples is 'more than 10000'"):
        seconds_of(wav())


def test_a_file_that_is_too_large_to_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    monkeypatch.setattr(audio_io, "MAX_BYTES", 1000)
    with pytest.raises(EdgeSpeechError, match="size in bytes is 64044, expected at most 1000"):
        file_bytes(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("offset", "duration", "heard"),
    [(None, 2.0, 32000), (None, 2.02, 32000), (0.0, 0.5, 8000), (0.0, 1.98, 32000), (1.0, 1.0, 16000),
     (1.0, 1.04, 16000), (0.5, None, 24000), (None, None, 32000)],
)  # fmt: skip
def test_a_part_is_as_long_as_asked_for(offset: float | None, duration: float | None, heard: int) -> None:
    assert len(read_audio_bytes("it", wav(), offset=offset, duration=duration)) == heard


@pytest.mark.parametrize(
    ("offset", "duration"),
    [(None, 600.0), (None, 1e6), (None, 1.0), (0.0, 2.1), (1.5, 1.0), (None, float("nan")), (float("nan"), 1.0),
     (float("inf"), 1.0), (0.0, float("inf")), (2.0, 1.0), (-1.0, 1.0)],
)  # fmt: skip
def test_a_part_or_length_that_the_audio_does_not_have_is_refused(
    offset: float | None, duration: float
) -> None:
    with pytest.raises(EdgeSpeechError, match=r"^it: (offset|duration) is"):
        read_audio_bytes("it", wav(), offset=offset, duration=duration)


def test_another_file_of_the_same_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav())
    sha256 = hashlib.sha256(wav()).hexdigest()
    assert len(read_audio(path, sha256=sha256)) == 32000
    path.write_bytes(wav()[:-2] + b"\1\1")
    with pytest.raises(EdgeSpeechError, match=rf"sha256 is [0-9a-f]{{64}}, expected {sha256}"):
        read_audio(path, sha256=sha256)


def stereo(left: Samples, right: Samples) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([left, right], axis=1), SAMPLE_RATE, format="FLAC")
    return buffer.getvalue()


def test_one_of_several_channels_is_chosen() -> None:
    data = stereo(sound(), np.zeros_like(sound()))
    assert np.abs(read_audio_bytes("it", data, channels="1") - sound()).max() < 1e-4
    assert not read_audio_bytes("it", data, channels="2").any()
    assert np.abs(read_audio_bytes("it", data, channels="average") - sound() / 2).max() < 1e-4
    with pytest.raises(EdgeSpeechError, match="channels is 2, expected at least 3"):
        read_audio_bytes("it", data, channels="3")
    for wrong in ("0", "left", "-1", "65", ""):
        with pytest.raises(EdgeSpeechError, match="expected mono, average, or the number of one"):
            read_audio_bytes("it", data, channels=wrong)


def test_channels_that_cancel_each_other_are_not_averaged() -> None:
    with pytest.raises(EdgeSpeechError, match="cancel each other"):
        read_audio_bytes("it", stereo(sound(), -sound()), channels="average")
    silence = np.zeros_like(sound())
    assert not read_audio_bytes("it", stereo(silence, silence), channels="average").any()


@pytest.mark.parametrize(
    ("kind", "codec", "rate"),
    [
        ("mp4", "aac", 16_000),
        ("mov", "pcm_s16le", 16_000),
        ("matroska", "libopus", 48_000),
        ("webm", "libopus", 48_000),
    ],
)
def test_one_file_of_boxes_holds_one_recording_to_its_end(kind: str, codec: str, rate: int) -> None:
    data = by_ffmpeg(kind, codec, rate=rate)
    for rubbish in (b"TAG" + bytes(125), bytes(5000)):
        assert seconds_of(data + rubbish) == seconds_of(data)
    for second in (data, wav()):
        with pytest.raises(EdgeSpeechError, match=r"another file|truncated: it should end"):
            seconds_of(data + second)
    for part in (0.6, 0.9):
        with pytest.raises(EdgeSpeechError, match=r"truncated: it should end|could not be decoded"):
            seconds_of(data[: round(part * len(data))])


def test_webm_whose_size_is_open_is_decoded_to_its_end() -> None:
    """As browsers record it: the size of the segment is all ones."""
    data = by_ffmpeg("webm", "libopus", rate=48_000)
    at = data.index(b"\x18\x53\x80\x67") + 4
    assert data[at] == 1  # a size of 8 bytes
    opened = data[:at] + b"\x01" + b"\xff" * 7 + data[at + 8 :]
    assert seconds_of(opened) == seconds_of(data)


def test_a_flac_header_of_another_rate_than_its_frames_is_refused() -> None:
    data = by_libsndfile("FLAC", "PCM_16")
    rate = (8_000 << 4 | data[20] & 0x0F).to_bytes(3, "big")
    with pytest.raises(
        EdgeSpeechError, match="sample rate in its header is 8000, expected that of its frames, 16000"
    ):
        seconds_of(data[:18] + rate + data[21:])


def test_a_tag_behind_flac_is_no_audio() -> None:
    data = by_libsndfile("FLAC", "PCM_16")
    assert seconds_of(data + b"TAG" + bytes(125)) == SECONDS


def test_mp3_in_wav_is_refused_by_its_name() -> None:
    with pytest.raises(EdgeSpeechError, match="is MPEG audio in or behind other data"):
        seconds_of(by_ffmpeg("wav", "mp3"))
