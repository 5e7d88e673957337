"""Ends of MP4 and Matroska files, by the sizes of their boxes and elements.

FFmpeg reads the first of several files and says nothing of the others, takes a WebM file that was cut for a whole one,
and looks for the next cluster where one is damaged. WebM as browsers record it leaves its size open; nobody can tell
whether such a file is whole if it ends with an element.
"""

from __future__ import annotations

from edgespeech.errors import EdgeSpeechError

RUBBISH = 1024
"""Bytes behind the audio that are too few to be some: a twentieth of a second, or the tag of some program."""
_SEGMENT = b"\x18\x53\x80\x67"
_CLUSTER = b"\x1f\x43\xb6\x75"
_OUTER = (
    _CLUSTER,
    *(
        bytes.fromhex(name)
        for name in ("114d9b74", "1549a966", "1654ae6b", "1c53bb6b", "1941a469", "1043a770")
    ),
    *(bytes.fromhex(name) for name in ("1254c367", "ec", "bf")),
)
"""What a segment of Matroska holds (RFC 9559, section 5.1): clusters, indices, tracks, tags, padding, checksums."""
_INNER = tuple(bytes.fromhex(name) for name in ("e7", "5854", "a7", "ab", "a0", "a3", "af", "ec", "bf"))
"""What a cluster holds: times, blocks, padding, checksums."""
_BLOCKS = (b"\xa0", b"\xa3", b"\xaf")
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


def check_matroska(where: str, data: bytes) -> int:
    """Refuse a Matroska or WebM file that is cut or damaged, or has another file behind it.

    Returns:
        The number of its blocks, of all tracks; each holds one packet, or several.

    Raises:
        EdgeSpeechError: it is such a file.
    """
    size, at = _element_size(data, 4)
    if size is None:
        return 0
    at += size
    if data[at : at + 4] != _SEGMENT:
        return 0  # FFmpeg says what is wrong
    size, at = _element_size(data, at + 4)
    if size is not None and at + size > len(data):
        raise _cut(where, at + size, data)
    end = len(data) if size is None else at + size
    _check_rest(where, data, end)
    return _blocks_in(where, data, at, end)


def _blocks_in(where: str, data: bytes, at: int, end: int) -> int:
    """The number of blocks in a segment; where it or a cluster holds something else than whole elements, an error."""
    blocks = 0
    while at < end:
        name = _one_of(_OUTER, data, at)
        if name is None:
            raise _damaged(where, at)
        size, start = _element_size(data, at + len(name))
        if name != _CLUSTER:
            if size is None or start + size > end:
                raise _damaged(where, at)
            at = start + size
            continue
        inside, stop = start, end if size is None else start + size
        while inside < stop and (inner := _one_of(_INNER, data, inside)) is not None:
            length, content = _element_size(data, inside + len(inner))
            if length is None or content + length > stop:
                break
            inside = content + length
            blocks += inner in _BLOCKS
        if stop > end or (inside != stop and (size is not None or _one_of(_OUTER, data, inside) is None)):
            raise _damaged(where, inside)
        at = inside
    return blocks


def _one_of(names: tuple[bytes, ...], data: bytes, at: int) -> bytes | None:
    return next((name for name in names if data.startswith(name, at)), None)


def _damaged(where: str, at: int) -> EdgeSpeechError:
    return EdgeSpeechError(f"{where}: damaged or cut: no whole element of Matroska is at byte {at}")


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
