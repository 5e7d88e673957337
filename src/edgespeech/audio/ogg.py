"""Ogg files with the same bytes every time: libsndfile gives each stream a random serial number."""

from __future__ import annotations

import struct

_HEADER = 27


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
