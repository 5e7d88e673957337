"""Ogg files: their pages (RFC 3533), and files with the same bytes every time, since libsndfile gives each stream a
random serial number.

Decoders leave out a page that is damaged and hear one that is there twice, both without a word.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgespeech.errors import EdgeSpeechError, bad

_HEADER = 27
_FIRST, _LAST = 2, 4
_NO_PACKET = -1
"""The position of a page on which no packet ends."""


@dataclass(frozen=True, slots=True)
class _Page:
    """One page: where it starts and ends in the file, and its header's fields.

    Attributes:
        start: its first byte in the file.
        end: the byte behind it.
        flags: `_FIRST`, `_LAST`.
        serial: of its stream.
        number: in its stream.
        position: samples up to the end of its last packet, or `_NO_PACKET`.
        ends_packet: whether a packet ends on it.
    """

    start: int
    end: int
    flags: int
    serial: int
    number: int
    position: int
    ends_packet: bool


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


_TABLE = _crc_table()


def with_serial(data: bytes, serial: int = 1) -> bytes:
    """A copy of a one-stream Ogg file with another serial number and new page checksums (RFC 3533).

    Args:
        data: the whole file.
        serial: 0 to 2**32 - 1.
    """
    pages = bytearray(data)
    start = 0
    while start < len(pages):
        segments = pages[start + _HEADER - 1]
        table_end = start + _HEADER + segments
        end = table_end + sum(pages[start + _HEADER : table_end])
        pages[start + 14 : start + 18] = struct.pack("<I", serial)
        pages[start + 22 : start + 26] = bytes(4)
        pages[start + 22 : start + 26] = struct.pack("<I", _crc(pages[start:end]))
        start = end
    return bytes(pages)


def _crc(page: bytearray) -> int:
    crc = 0
    for byte in page:
        crc = ((crc << 8) & 0xFFFFFFFF) ^ _TABLE[(crc >> 24) ^ byte]
    return crc


def ogg_links(where: str, data: bytes) -> tuple[list[bytes], bool]:
    """The links of a chained Ogg file, each as a separate file, and whether the last one has an end-of-stream flag.

    Raises:
        EdgeSpeechError: a page is damaged, cut, missing, there twice or in another place, or several streams are
            multiplexed.
    """
    links: list[list[_Page]] = []
    for page in _pages(where, data):
        if page.flags & _FIRST:
            if links and len(links[-1]) == 1 and not links[-1][0].flags & _LAST:
                raise EdgeSpeechError(f"{where}: has several multiplexed streams, expected one")
            links.append([])
        elif not links or page.serial != links[-1][0].serial:
            raise EdgeSpeechError(f"{where}: byte {page.start}: a page of a stream that has not begun")
        links[-1].append(page)
    if not links:
        raise EdgeSpeechError(f"{where}: has no Ogg page")
    for link in links:
        _check_order(where, link)
    ended = bool(links[-1][-1].flags & _LAST)
    if not ended:  # how much there should be, nothing says
        _check_sums(where, data, links[-1])
    return [data[link[0].start : link[-1].end] for link in links], ended


def _pages(where: str, data: bytes) -> Iterator[_Page]:
    """Every page; other bytes are an error."""
    start = 0
    while start < len(data):
        if data[start : start + 4] != b"OggS":
            raise EdgeSpeechError(f"{where}: damaged: no Ogg page at byte {start}")
        body = start + _HEADER
        table = data[body : body + data[body - 1]] if body <= len(data) else b""
        end = body + len(table) + sum(table)
        if body > len(data) or len(table) < data[body - 1] or end > len(data):
            raise EdgeSpeechError(f"{where}: truncated: the Ogg page at byte {start} is cut")
        position, serial, number = struct.unpack("<qII", data[start + 6 : start + 22])
        ends = any(size < 255 for size in table)
        yield _Page(start, end, data[start + 5], serial, number, position, ends)
        start = end


def _check_order(where: str, link: Sequence[_Page]) -> None:
    """Refuse a stream whose pages are not one behind the other. Who records a running stream has its header, and then
    what is sent at that time: there may be pages between the two.
    """
    last = 0
    for page, following in pairwise(link):
        last = max(last, page.position)
        where_now = f"{where}: the Ogg page at byte {following.start}"
        if last > 0 and following.number != (page.number + 1) % 2**32:
            raise bad(where_now, "number", following.number, f"{page.number + 1}: pages are missing or moved")
        if following.position == _NO_PACKET and following.ends_packet:
            raise bad(where_now, "position", _NO_PACKET, "samples, since a packet ends on it")
        if following.position not in (_NO_PACKET, 0) and following.position < last:
            raise bad(where_now, "position in samples", following.position, f"at least {last}, as before it")


def _check_sums(where: str, data: bytes, link: Sequence[_Page]) -> None:
    for page in link:
        own = bytearray(data[page.start : page.end])
        stated = struct.unpack("<I", own[22:26])[0]
        own[22:26] = bytes(4)
        if _crc(own) != stated:
            raise EdgeSpeechError(f"{where}: damaged: the Ogg page at byte {page.start} has another checksum")
