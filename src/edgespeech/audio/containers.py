"""Lengths in container headers, and repaired bytes so that a decoder reads to the end.

Lengths in headers may be wrong: a writer that cannot seek back (a pipe, a stream, a crash) leaves them at zero or at a
large round number. Each function takes the whole file and reports where the header contradicts the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from edgespeech.audio.nested import RUBBISH
from edgespeech.errors import EdgeSpeechError, bad

_OPEN_FROM = 0x7FF0_0000
"""Sizes from here on, in a far smaller file, are placeholders of writers to a pipe: sox 0x7ffff000, arecord
0x80000000, ffmpeg 0xffffffff, each less some headers."""
_SSND_HEADER = 8
_PLAIN, _EXTENSIBLE = (1, 3), 0xFFFE
"""Kinds of WAV: whole numbers and floats, and the kind whose kind stands further back."""
_NAMES = frozenset(b" ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
"""Of which names of chunks are made."""
_OPENINGS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff")
"""Of a file, not of a chunk in it."""
_MPEG_RATES = (44_100, 48_000, 32_000)
_TAGGED = (b"fLaC", b"RIFF", b"OggS", b"FORM")
_CAF_OPEN = 0xFFFF_FFFF_FFFF_FFFF
_FLAC_TOTAL = 21
"""Offset of the low four bytes of the 36-bit number of samples; the upper four bits are half of the byte before."""
_FLAC_MD5 = 26
"""Offset of the MD5 of the samples; zeros where its writer could not go back."""
_FLAC_RATES = (None, 88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
"""Sample rates by their codes in a frame of FLAC (RFC 9639, section 9.1.2); None: that of the header."""
_ID3_V1 = 128
"""Bytes of an ID3v1 tag."""


Order = Literal["little", "big"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Bytes for a decoder, and what their header says of the audio; None: it says nothing.

    Attributes:
        data: of the file.
        claimed: the number of frames.
        md5: of the samples, as a FLAC file has it.
    """

    data: bytes
    claimed: int | None = None
    md5: bytes | None = None


def to_the_end(where: str, data: bytes) -> Part:
    """A WAV, AIFF, AU, W64, RF64, CAF or NIST file whose audio is as long as its header says, and all that there is.

    Where the size was left open it becomes that of the file; bytes of any other format are returned as they are.

    Raises:
        EdgeSpeechError: the header claims more than the file has, or less, with what is no part of the format behind
            it: nobody can tell whether that is audio.
    """
    for opening, found in _FORMATS.items():
        if data.startswith(opening):
            return Part(data=found(where, data), claimed=_caf_frames(data) if opening == b"caff" else None)
    return Part(data=data)


def _riff(where: str, data: bytes, order: Order = "little") -> bytes:
    _check_frame(where, data, order)
    at, size, start = _chunk(data, 12, b"data", order)
    if at is None:
        return data
    there = len(data) - start
    left_open = size > there and size >= _OPEN_FROM
    if left_open or (size == 0 and there > 0 and not _are_chunks(data, start, order)):
        return data[: at + 4] + there.to_bytes(4, order) + data[start:]
    return _checked(where, data, start, size, _are_chunks(data, start + size + size % 2, order))


def _check_frame(where: str, data: bytes, order: Order) -> None:
    """Refuse PCM of which the number of channels or of bits cannot be right: the other two fields agree on a frame."""
    at, size, start = _chunk(data, 12, b"fmt ", order)
    if at is None or size < 16 or start + size > len(data):
        return
    kind, channels, rate, per_second, frame, bits = (
        int.from_bytes(data[start + place : start + place + width], order)
        for place, width in ((0, 2), (2, 2), (4, 4), (8, 4), (12, 2), (14, 2))
    )
    if kind == _EXTENSIBLE:
        kind = int.from_bytes(data[start + 24 : start + 26], order)
    if kind in _PLAIN and per_second == rate * frame and frame != channels * -(-bits // 8):
        raise bad(where, "channels and bits of a sample", f"{channels} and {bits}", f"{frame} bytes together")


def _rf64(where: str, data: bytes) -> bytes:
    at, size, start = _chunk(data, 12, b"data", "little")
    if at is None:
        return data
    if size == 0xFFFF_FFFF and data[12:16] == b"ds64":
        size = int.from_bytes(data[28:36], "little")
    if size >= len(data) and size >= _OPEN_FROM:
        return data  # libsndfile reads to the end
    return _checked(where, data, start, size, _are_chunks(data, start + size + size % 2, "little"))


def _aiff(where: str, data: bytes) -> bytes:
    at, size, start = _chunk(data, 12, b"SSND", "big")
    if at is None or (size > len(data) - start and size >= _OPEN_FROM) or size <= _SSND_HEADER:
        return data  # libsndfile reads to the end
    return _checked(where, data, start, size, _are_chunks(data, start + size + size % 2, "big"))


def _au(where: str, data: bytes) -> bytes:
    order: Order = "big" if data[:1] == b"." else "little"
    start, size = int.from_bytes(data[4:8], order), int.from_bytes(data[8:12], order)
    if size >= _OPEN_FROM and size > len(data):
        return data
    return _checked(where, data, start, size, False)


def _w64(where: str, data: bytes) -> bytes:
    position = 40
    while position + 24 <= len(data):
        size = int.from_bytes(data[position + 16 : position + 24], "little")
        if data[position : position + 4] == b"data":
            _checked(where, data, position, size, _is_w64(data, position + size + -size % 8))
            return data[: position + size]  # libsndfile would hear what is behind it
        if size < 24:
            break
        position += size + -size % 8
    return data


def _is_w64(data: bytes, position: int) -> bool:
    """Whether the rest of a file is further W64 chunks to its last byte."""
    while position + 24 <= len(data):
        size = int.from_bytes(data[position + 16 : position + 24], "little")
        if size < 24 or data[position : position + 4] == b"riff":
            return False
        position += size + -size % 8
    return len(data) <= position < len(data) + 8


def _caf(where: str, data: bytes) -> bytes:
    for name, start, size in _caf_chunks(data):
        if name == b"data":
            if size == _CAF_OPEN:  # the last chunk may say so
                return data[: start - 8] + (len(data) - start).to_bytes(8, "big") + data[start:]
            return _checked(where, data, start, size, _are_chunks(data, start + size, "big", width=8))
    return data


def _caf_frames(data: bytes) -> int | None:
    """The number of frames in the table of packets of a CAF file (of ALAC); None without one."""
    for name, start, size in _caf_chunks(data):
        if name == b"pakt" and size >= 24:
            return int.from_bytes(data[start + 8 : start + 16], "big", signed=True)
    return None


def _caf_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the content and size of every chunk of a CAF file."""
    position = 8
    while position + 12 <= len(data):
        start, size = position + 12, int.from_bytes(data[position + 4 : position + 12], "big")
        yield data[position : position + 4], start, size
        position = start + size


def _nist(where: str, data: bytes) -> bytes:
    """NIST Sphere: a header of lines, `sample_count -i 16000`, whose length its second line tells."""
    lines = data[:1024].split(b"end_head")[0].split(b"\n")
    fields = {parts[0]: parts[-1] for line in lines[2:] if len(parts := line.split()) == 3}
    try:
        start = int(lines[1])
        counts = [int(fields[name]) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    except (ValueError, KeyError, IndexError):
        return data
    size = counts[0] * counts[1] * counts[2]
    _checked(where, data, start, size, False)
    return data[: start + size]  # libsndfile would hear what is behind it


def _checked(where: str, data: bytes, start: int, size: int, chunks_behind: bool) -> bytes:
    """The file, unless it ends before its audio does, or has something else behind it."""
    end = start + size
    if end > len(data):
        raise EdgeSpeechError(
            f"{where}: truncated: its header ends the audio at byte {end}, but the file has {len(data)}"
        )
    behind = len(data) - end
    if behind > RUBBISH and not chunks_behind and any(data[end:]):
        raise EdgeSpeechError(
            f"{where}: its header ends the audio at byte {end}, but {behind} bytes follow that are no part of the "
            "format: audio that the header does not count, or another file"
        )
    return data


def _chunk(data: bytes, position: int, wanted: bytes, order: Order) -> tuple[int | None, int, int]:
    """Where a chunk stands, its size, and where its content starts; None where there is none."""
    while position + 8 <= len(data):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], order)
        if name == wanted:
            return position, size, position + 8
        position += 8 + size + size % 2
    return None, 0, 0


def _are_chunks(data: bytes, position: int, order: Order, width: int = 4) -> bool:
    """Whether the rest of a file is further chunks to its last byte, each with its size in so many bytes."""
    while position + 4 + width <= len(data):
        name = data[position : position + 4]
        if name in _OPENINGS or not all(letter in _NAMES for letter in name):
            return False
        size = int.from_bytes(data[position + 4 : position + 4 + width], order)
        position += 4 + width + size + (size % 2 if width == 4 else 0)
    return position in (len(data), len(data) + 1)


_FORMATS: dict[bytes, Callable[[str, bytes], bytes]] = {
    b"RIFF": _riff,
    b"RIFX": partial(_riff, order="big"),
    b"RF64": _rf64,
    b"FORM": _aiff,
    b".snd": _au,
    b"dns.": _au,
    b"riff\x2e\x91\xcf\x11": _w64,
    b"caff": _caf,
    b"NIST_1A": _nist,
}


def without_tag(data: bytes) -> bytes:
    """A file without the tags of MP3 that some programs write before FLAC and WAV (ID3v2), or behind FLAC (ID3v1)."""
    size = _tag_bytes(data)
    if data[size : size + 4] in _TAGGED:
        data = data[size:]
    if data[:4] == b"fLaC" and data[-_ID3_V1 : -_ID3_V1 + 3] == b"TAG":
        data = data[:-_ID3_V1]
    return data


def mp3_claims(data: bytes) -> float | None:
    """Seconds of a cut MP3 file, by the counts in its first frame (Xing, LAME) of frames and of bytes.

    None: there are no such counts, or there are at least as many bytes as were counted: one wrong count proves nothing.
    """
    start = _tag_bytes(data)
    head = data[start : start + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # layer III
        return None
    version, rate = head[1] >> 3 & 3, head[2] >> 2 & 3
    if version == 1 or rate == 3:
        return None
    mono, first = head[3] >> 6 == 3, version == 3
    at = start + 4 + ((17 if mono else 32) if first else (9 if mono else 17))
    counts = data[at + 8 : at + 16]
    if data[at : at + 4] not in (b"Xing", b"Info") or len(counts) < 8 or data[at + 7] & 3 != 3:
        return None
    frames, size = int.from_bytes(counts[:4], "big"), int.from_bytes(counts[4:], "big")
    if size <= len(data) - start:
        return None
    return frames * (1152 if first else 576) / (_MPEG_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version])


def _tag_bytes(data: bytes) -> int:
    """Bytes of the ID3v2 tag before a file."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << 7 * place for place, byte in zip((3, 2, 1, 0), data[6:10], strict=True))


def flac_to_the_end(where: str, data: bytes) -> Part:
    """A FLAC file with its number of samples set to unknown, so that all frames are decoded; the stated number; and the
    MD5 of its samples, since a decoder puts silence in the place of a frame that is missing.

    Raises:
        EdgeSpeechError: its header and its first frame have different sample rates.
    """
    if data[:4] != b"fLaC" or len(data) < 42:
        return Part(data=data)
    upper, lower = data[_FLAC_TOTAL], data[_FLAC_TOTAL + 1 : _FLAC_TOTAL + 5]
    claimed = (upper & 0x0F) << 32 | int.from_bytes(lower, "big")
    rate, own = int.from_bytes(data[18:21], "big") >> 4, _flac_frame_rate(data)
    if own not in (None, rate):
        raise bad(where, "sample rate in its header", rate, f"that of its frames, {own}")
    mended = data[:_FLAC_TOTAL] + bytes([upper & 0xF0]) + bytes(4) + data[_FLAC_TOTAL + 5 :]
    md5 = data[_FLAC_MD5 : _FLAC_MD5 + 16]
    return Part(data=mended, claimed=claimed or None, md5=md5 if any(md5) else None)


def _flac_frame_rate(data: bytes) -> int | None:
    """The sample rate in the first frame of a FLAC file; None: it has none of its own."""
    at, last = 4, False
    while not last and at + 4 <= len(data):
        last = bool(data[at] & 0x80)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    head = data[at : at + 3]
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xFC != 0xF8:
        return None
    code = head[2] & 0x0F
    return _FLAC_RATES[code] if code < len(_FLAC_RATES) else None
