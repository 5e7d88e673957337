"""Damage that decoders pass over without a word: audio that is missing, there twice or in another place."""

from __future__ import annotations

import io
import re
import struct
from contextlib import suppress

import numpy as np
import pytest
import soundfile

from edgespeech.audio.io import read_audio_bytes
from edgespeech.audio.ogg import _crc, _pages
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError

SECONDS = 5.0


def noise() -> Samples:
    return (0.1 * np.random.default_rng(0).standard_normal(int(SECONDS * SAMPLE_RATE))).astype(np.float32)


def encoded(kind: str, subtype: str, samples: Samples | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(
        buffer, noise() if samples is None else samples, SAMPLE_RATE, format=kind, subtype=subtype
    )
    return buffer.getvalue()


def seconds_of(data: bytes) -> float:
    return len(read_audio_bytes("it", data)) / SAMPLE_RATE


def flac_frames(data: bytes) -> list[int]:
    """Where the frames of a FLAC file begin, in blocks of one size: by their first bytes and their numbers."""
    starts: list[int] = []
    at = data.index(b"\xff\xf8")
    head = data[at : at + 4]
    while at >= 0:
        if data[at + 4] == len(starts):
            starts.append(at)
        at = data.find(head, at + 4)
    return starts


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_flac_file_is_heard_as_libsndfile_reads_it(subtype: str, channels: int) -> None:
    data = encoded("FLAC", subtype, np.stack([noise(), 0.5 * noise()][:channels], axis=1))
    expected = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0][:, -1]
    heard = read_audio_bytes("it", data, channels=str(channels))
    assert np.array_equal(heard, expected)


def test_a_flac_file_without_one_of_its_frames_is_refused() -> None:
    data = encoded("FLAC", "PCM_16")
    starts = flac_frames(data)
    assert len(starts) > 10
    with pytest.raises(EdgeSpeechError, match="it: damaged: the MD5 of its samples is"):
        seconds_of(data[: starts[4]] + data[starts[5] :])


def test_a_flac_file_without_an_md5_is_heard() -> None:
    data = encoded("FLAC", "PCM_16")
    assert seconds_of(data[:26] + bytes(16) + data[42:]) == SECONDS


def ogg_pages(subtype: str) -> list[bytearray]:
    data = encoded("OGG", subtype)
    return [bytearray(data[page.start : page.end]) for page in _pages("it", data)]


def joined(pages: list[bytearray]) -> bytes:
    for page in pages:
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", _crc(page))
    return bytes(b"".join(pages))


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_pages_that_are_missing_there_twice_or_moved_are_refused(subtype: str, ended: bool) -> None:
    pages = ogg_pages(subtype)
    assert len(pages) > 5
    if not ended:
        pages[-1][5] &= ~4
    assert seconds_of(joined(pages)) == pytest.approx(SECONDS, abs=0.05)
    for other in (
        [*pages[:-2], pages[-1]],
        [*pages[:-2], pages[-2], *pages[-2:]],
        [*pages[:-3], pages[-2], pages[-3], pages[-1]],
    ):
        with pytest.raises(EdgeSpeechError, match=r"the Ogg page at byte \d+: number is \d, expected \d"):
            seconds_of(joined(other))


@pytest.mark.parametrize("position", [1000, -1])
@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_a_last_page_that_ends_before_the_one_before_it_is_refused(subtype: str, position: int) -> None:
    pages = ogg_pages(subtype)
    pages[-1][6:14] = struct.pack("<q", position)
    with pytest.raises(EdgeSpeechError, match=f"position.* is {position}, expected"):
        seconds_of(joined(pages))


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_a_damaged_page_of_a_stream_that_does_not_end_is_refused(subtype: str) -> None:
    pages = ogg_pages(subtype)
    pages[-1][5] &= ~4
    data = bytearray(joined(pages))
    data[-len(pages[-1]) - 100] ^= 0x55
    with pytest.raises(EdgeSpeechError, match=r"damaged: the Ogg page at byte \d+ has another checksum"):
        seconds_of(bytes(data))


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_a_running_stream_that_was_recorded_from_its_middle_is_heard(subtype: str) -> None:
    pages = ogg_pages(subtype)
    pages[-1][5] &= ~4
    headers = sum(struct.unpack("<q", page[6:14])[0] == 0 for page in pages)
    later = joined([*pages[:headers], *pages[headers + 1 :]])
    assert 0.5 * SECONDS < seconds_of(later) < SECONDS


def matroska(kind: str) -> bytes:
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream("libopus", rate=48_000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.repeat(noise(), 3)[None], format="flt", layout="mono")
        frame.sample_rate = 48_000
        resampler = av.AudioResampler(stream.format, "mono", 48_000, frame_size=stream.frame_size or None)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["matroska", "webm"])
def test_matroska_with_noise_in_it_is_heard_to_its_end_or_refused(kind: str) -> None:
    whole = matroska(kind)
    assert seconds_of(whole) == pytest.approx(SECONDS, abs=0.05)
    rng, refused = np.random.default_rng(1), 0
    for at in rng.integers(600, len(whole) - 600, 60):
        with suppress(EdgeSpeechError):
            heard = seconds_of(whole[:at] + rng.bytes(40) + whole[at + 40 :])
            assert heard == pytest.approx(SECONDS, abs=0.05)
            continue
        refused += 1
    assert refused > 3


def test_a_block_of_an_unknown_track_is_missing_audio() -> None:
    data = bytearray(matroska("matroska"))
    cluster = data.index(b"\x1f\x43\xb6\x75")
    track = re.compile(rb"\xa3(?:[\x80-\xff]|[\x40-\x7f].)\x81", re.DOTALL).search(data, cluster + 100)
    assert track is not None
    data[track.end() - 1] = 0x85
    with pytest.raises(EdgeSpeechError, match=r"damaged: \d+ of its \d+ blocks of audio could be read"):
        seconds_of(bytes(data))


def wav(channels: int, bits: int, frame: int, per_second: int, kind: int = 1) -> bytes:
    body = (noise() * 32767).astype("<i2").tobytes()
    head = struct.pack("<HHIIHH", kind, channels, SAMPLE_RATE, per_second, frame, bits)
    if kind == 0xFFFE:
        guid = b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
        head += struct.pack("<HHI", 22, bits, 4) + guid
    inside = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(inside)) + inside


@pytest.mark.parametrize("kind", [1, 0xFFFE])
@pytest.mark.parametrize(("channels", "bits"), [(2, 16), (1, 8), (1, 24), (1, 0)])
def test_a_wav_header_that_contradicts_itself_is_refused(channels: int, bits: int, kind: int) -> None:
    with pytest.raises(
        EdgeSpeechError, match=r"channels and bits of a sample is .*, expected 2 bytes together"
    ):
        read_audio_bytes("it", wav(channels, bits, 2, 2 * SAMPLE_RATE, kind), channels="average")


@pytest.mark.parametrize("kind", [1, 0xFFFE])
@pytest.mark.parametrize(("frame", "per_second"), [(2, 2 * SAMPLE_RATE), (4, 2 * SAMPLE_RATE), (2, 0)])
def test_what_only_one_field_says_is_not_believed(frame: int, per_second: int, kind: int) -> None:
    assert seconds_of(wav(1, 16, frame, per_second, kind)) == SECONDS
