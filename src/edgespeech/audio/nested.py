"""Ends of MP4 and Matroska files, by the sizes of their outermost boxes and elements.

FFmpeg reads the first of several files and says nothing of the others, and takes a WebM file that was cut for a whole
one. WebM as browsers record it leaves its size open; nobody can tell whether such a file is whole.
"""

from __future__ import annotations

from edgespeech.errors import EdgeSpeechError

RUBBISH = 1024
"""Bytes behind the audio that are too few to be some: a twentieth of a second, or the tag of some program."""
_SEGMENT = b"\x18\x53\x80\x67"
_MEDIA = (b"mdat", b"moov", b"moof")


def check_mp4(where: str, data: bytes) -> None:
    """Refuse an MP4 file that is cut, or has another file behind it.

    Raises:
        EdgeSpeechError: it is one.
    """
    at = 0
    while at + 8 <= len(data):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if name == b"ftyp" and at > 0:
            raise EdgeSpeechError(f"{where}: another file begins at byte {at}: one file holds one recording")
        if size == 0:  # to the end of the file
            return
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if at + size > len(data) and (name in _MEDIA or len(data) - at > RUBBISH):
            raise _cut(where, at + size, data)
        if size < 8 or at + size > len(data):
            break
        at += size
    _check_rest(where, data, at)


def check_matroska(where: str, data: bytes) -> None:
    """Refuse a Matroska or WebM file that is cut, or has another file behind it.

    Raises:
        EdgeSpeechError: it is one.
    """
    size, at = _element_size(data, 4)
    if size is None:
        return
    at += size
    if data[at : at + 4] != _SEGMENT:
        return  # FFmpeg says what is wrong
    size, at = _element_size(data, at + 4)
    if size is None:
        return
    if at + size > len(data):
        raise _cut(where, at + size, data)
    _check_rest(where, data, at + size)


def _element_size(data: bytes, at: int) -> tuple[int | None, int]:
    """The size of an EBML element (RFC 8794, section 4), and where its content starts; None: it was left open."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    if length > 8:
        return None, at
    bits = 7 * length
    size = int.from_bytes(data[at : at + length], "big") & ((1 << bits) - 1)
    return (None if size == (1 << bits) - 1 else size), at + length


def _cut(where: str, end: int, data: bytes) -> EdgeSpeechError:
    return EdgeSpeechError(f"{where}: truncated: it should end at byte {end}, but the file has {len(data)}")


def _check_rest(where: str, data: bytes, at: int) -> None:
    behind = len(data) - at
    if behind > RUBBISH and any(data[at:]):
        raise EdgeSpeechError(f"{where}: {behind} bytes follow its end at byte {at}: another file, or damage")
