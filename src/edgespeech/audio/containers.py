"""Lengths in container headers, and repaired bytes so that a decoder reads to the end.

Lengths in headers may be wrong: a writer that cannot seek back (a pipe, a stream, a crash) leaves them at zero or at a
large round number. Each function takes the whole file and reports where the header contradicts the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgespeech.errors import EdgeSpeechError

_OPEN_FROM = 0x7FF0_0000
"""Sizes from here on, in a far smaller file, are placeholders of writers to a pipe: sox 0x7ffff000, arecord
0x80000000, ffmpeg 0xffffffff, each less some headers."""
_FLAC_TOTAL = 21
"""Offset of the low four bytes of the 36-bit number of samples; the upper four bits are half of the byte before."""
_OGG_HEADER = 27
_CONTINUED, _FIRST, _LAST = 1, 2, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Bytes for a decoder, and the number of frames in the header; None: not stated."""

    data: bytes
    claimed: int | None = None


def wav_to_the_end(where: str, data: bytes) -> bytes:
    """A RIFF or RIFX file; a `data` chunk of unknown size is extended to the end of the file.

    Raises:
        EdgeSpeechError: the chunk claims more than the file has.
    """
    order = "little" if data[:4] == b"RIFF" else "big"
    position = 12
    while position + 8 <= len(data):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], order)  # type: ignore[arg-type]  # one of the two words
        start = position + 8
        if name == b"data":
            there = len(data) - start
            left_open = size > there and size >= _OPEN_FROM
            if left_open or (size == 0 and there > 0 and not _are_chunks(data, start, order)):
                return data[: position + 4] + there.to_bytes(4, order) + data[start:]  # type: ignore[arg-type]  # as above
            if size > there:
                raise EdgeSpeechError(
                    f"{where}: truncated: its header ends the audio at byte {start + size}, "
                    f"but the file has {len(data)}"
                )
            return data
        position = start + size + size % 2
    return data


def _are_chunks(data: bytes, position: int, order: str) -> bool:
    """Whether the rest of a file consists of chunks up to its last byte: then an empty `data` chunk is really empty."""
    while position + 8 <= len(data):
        if not data[position : position + 4].isalnum():
            return False
        size = int.from_bytes(data[position + 4 : position + 8], order)  # type: ignore[arg-type]  # "little" or "big"
        position += 8 + size + size % 2
    return position in (len(data), len(data) + 1)


def flac_to_the_end(data: bytes) -> Part:
    """A FLAC file with its number of samples set to unknown, so that all frames are decoded, and the stated number."""
    if data[:4] != b"fLaC" or len(data) < 42:
        return Part(data=data)
    upper, lower = data[_FLAC_TOTAL], data[_FLAC_TOTAL + 1 : _FLAC_TOTAL + 5]
    claimed = (upper & 0x0F) << 32 | int.from_bytes(lower, "big")
    mended = data[:_FLAC_TOTAL] + bytes([upper & 0xF0]) + bytes(4) + data[_FLAC_TOTAL + 5 :]
    return Part(data=mended, claimed=claimed or None)


def ogg_links(where: str, data: bytes) -> tuple[list[bytes], bool]:
    """The links of a chained Ogg file, each as a separate file, and whether the last one has an end-of-stream flag.

    Raises:
        EdgeSpeechError: a page is damaged or cut, or several streams are multiplexed.
    """
    starts: list[int] = []
    open_serials: set[int] = set()
    ended = False
    for start, end, flags, serial in _ogg_pages(where, data):
        if flags & _FIRST:
            if open_serials and not ended and _is_fresh(data, starts[-1], start):
                raise EdgeSpeechError(f"{where}: has several multiplexed streams, expected one")
            starts.append(start)
            open_serials = {serial}
        elif serial not in open_serials:
            raise EdgeSpeechError(f"{where}: byte {start}: a page of a stream that has not begun")
        ended = bool(flags & _LAST)
        del end
    if not starts:
        raise EdgeSpeechError(f"{where}: has no Ogg page")
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)], ended


def _is_fresh(data: bytes, first: int, second: int) -> bool:
    """Whether one first page follows another without a page between them."""
    table = data[first + 26]
    size = _OGG_HEADER + table + sum(data[first + _OGG_HEADER : first + _OGG_HEADER + table])
    return first + size == second


def _ogg_pages(where: str, data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Start, end, flags and serial number of every page; other bytes are an error."""
    position = 0
    while position < len(data):
        if data[position : position + 4] != b"OggS":
            raise EdgeSpeechError(f"{where}: damaged: no Ogg page at byte {position}")
        body = position + _OGG_HEADER
        table = data[body : body + data[position + 26]] if body <= len(data) else b""
        end = body + len(table) + sum(table)
        if body > len(data) or len(table) < data[position + 26] or end > len(data):
            raise EdgeSpeechError(f"{where}: truncated: the Ogg page at byte {position} is cut")
        serial = int.from_bytes(data[position + 14 : position + 18], "little")
        yield position, end, data[position + 5], serial
        position = end
