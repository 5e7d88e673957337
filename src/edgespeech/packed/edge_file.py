"""The `.edge` file, version 1: a model's tensors in the layout that the engine maps into memory, with a checksum.

Everything is little-endian; every offset and the file's size are multiples of 64.

- Header, 64 bytes: magic, u32 version, u32 tensor_count, u64 file_bytes, table_offset (64), meta_offset,
  meta_bytes, checksum, reserved (0). The checksum is 64-bit FNV-1a over the words that follow the header.
- Table, 128 bytes a tensor (`_Entry`): its name, zero-padded; encoding (fp32, fp16, codes); bits; sparse;
  codebook; group; rows; cols; offsets of its sections; number of stored values.
- Meta: a JSON object in UTF-8, without surrounding white space.
- Sections. Masks: rows of 64-bit words, bit j of word k is set if column 64 k + j is stored. Values of codes:
  each row's stored codes in column order, the first in the lowest bits of the first byte, the row padded to a
  whole byte; values of floats: row after row. Scales: fp32, `(rows, groups)`. Codebook: 2^bits int8.

Sections do not overlap, the gaps between them are zero, and 64 bytes of the file follow each, so that a kernel may read
up to 63 bytes beyond a section's end.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgespeech.core.files import regular, write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.packed.codes import (
    CODEBOOK_BITS,
    GROUP_STEP,
    GROUPS,
    MAX_COLS,
    MAX_ROWS,
    Codes,
    group_count,
)

Tensor: TypeAlias = NDArray[np.float32] | NDArray[np.float16] | Codes
"""A matrix of floats with shape `(rows, cols)` (a vector is `(1, N)`), or of codes."""

MAGIC = b"EDGESPCH"
VERSION = 1

_HEADER = struct.Struct("<8sIIQQQQQQ")
_ENTRY = struct.Struct("<56s4B3I7Q")
_ALIGN = 64
_NAME_BYTES = 56
_FLOATS = (np.dtype("<f4"), np.dtype("<f2"))
"""Of encoding 0 and 1."""
_CODES = 2


class _Header(NamedTuple):
    magic: bytes
    version: int
    tensor_count: int
    file_bytes: int
    table_offset: int
    meta_offset: int
    meta_bytes: int
    checksum: int
    reserved: int = 0


class _Entry(NamedTuple):
    name: bytes
    encoding: int
    bits: int
    sparse: int
    codebook: int
    group: int
    rows: int
    cols: int
    masks_offset: int
    values_offset: int
    values_bytes: int
    scales_offset: int
    codebook_offset: int
    non_zeros: int
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class EdgeFile:
    """The content of a file: metadata of the model, and its tensors in the file's order."""

    meta: dict[str, Any]
    tensors: dict[str, Tensor]


def write_edge(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write a file atomically. The same tensors in the same order and the same metadata give the same bytes.

    Args:
        path: the file to write.
        tensors: by name (1 to 56 bytes of UTF-8), in the file's order.
        meta: metadata of the model; any JSON values.

    Raises:
        EdgeSpeechError: a name, a tensor or the meta cannot be stored, or the file cannot be written.
    """
    where = str(path)
    # Header and table are filled in at the end.
    body = bytearray(_HEADER.size + _ENTRY.size * len(tensors))

    def place(section: bytes) -> int:
        body.extend(bytes(-len(body) % _ALIGN))
        offset = len(body)
        body.extend(section)
        return offset

    told = _meta_bytes(meta, where)
    meta_offset = place(told)
    for index, (name, tensor) in enumerate(tensors.items()):
        about = f"{where}: tensor {name!r}"
        label = _name_bytes(name, about)
        if isinstance(tensor, Codes):
            values = pack_values(tensor)
            entry = _Entry(
                name=label,
                encoding=_CODES,
                bits=tensor.bits,
                sparse=int(tensor.mask is not None),
                codebook=int(tensor.codebook is not None),
                group=tensor.group,
                rows=tensor.rows,
                cols=tensor.cols,
                masks_offset=0 if tensor.mask is None else place(pack_masks(tensor.mask).tobytes()),
                values_offset=place(values),
                values_bytes=len(values),
                scales_offset=place(tensor.scales.astype("<f4").tobytes()),
                codebook_offset=0 if tensor.codebook is None else place(tensor.codebook.tobytes()),
                non_zeros=tensor.non_zeros,
            )
        else:
            dtype = _check_floats(tensor, about)
            entry = _Entry(
                name=label,
                encoding=_FLOATS.index(dtype),
                bits=0,
                sparse=0,
                codebook=0,
                group=0,
                rows=tensor.shape[0],
                cols=tensor.shape[1],
                masks_offset=0,
                values_offset=place(tensor.astype(dtype).tobytes()),
                values_bytes=tensor.nbytes,
                scales_offset=0,
                codebook_offset=0,
                non_zeros=tensor.size,
            )
        _ENTRY.pack_into(body, _HEADER.size + _ENTRY.size * index, *entry)
    place(bytes(_ALIGN))  # the last section, too, is followed by 64 bytes
    _HEADER.pack_into(
        body,
        0,
        *_Header(
            magic=MAGIC,
            version=VERSION,
            tensor_count=len(tensors),
            file_bytes=len(body),
            table_offset=_HEADER.size,
            meta_offset=meta_offset,
            meta_bytes=len(told),
            checksum=checksum(body[_HEADER.size :]),
        ),
    )
    write_atomic(path, bytes(body))


def read_edge(path: Path) -> EdgeFile:
    """Read and check a whole file.

    Raises:
        EdgeSpeechError: it is missing, foreign, of another version, cut, or damaged; the message names the file, the
            tensor, the field, the value and the expectation.
    """
    try:
        content = regular(path).read_bytes()
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be read: {error.strerror or error}") from error
    return _Reader(content, str(path)).read()


def bits_per_weight(tensor: Tensor) -> float:
    """Bits per weight without padding: 1 + b (1 - s) if sparse, b if dense, plus scales and codebook.

    b is the bits of a code, s the share of weights that are not stored (papers.md section 10).
    """
    if not isinstance(tensor, Codes):
        return 8.0 * tensor.itemsize
    bits = tensor.bits * tensor.non_zeros + 32 * tensor.scales.size
    if tensor.mask is not None:
        bits += tensor.mask.size
    if tensor.codebook is not None:
        bits += 8 * tensor.codebook.size
    return bits / tensor.codes.size


def pack_masks(mask: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """The masks section: from `(rows, cols)` to words with shape `(rows, ceil(cols / 64))`."""
    rows, cols = mask.shape
    padded = np.zeros((rows, -(-cols // 64) * 64), np.bool_)
    padded[:, :cols] = mask
    return np.packbits(padded, axis=1, bitorder="little").view("<u8")


def pack_values(codes: Codes) -> bytes:
    """The values section of a matrix of codes."""
    rows = []
    for row in range(codes.rows):
        stored = codes.codes[row] if codes.mask is None else codes.codes[row, codes.mask[row]]
        bits = np.unpackbits(stored[:, None], axis=1, count=codes.bits, bitorder="little")
        rows.append(np.packbits(bits, bitorder="little").tobytes())
    return b"".join(rows)


def checksum(content: bytes | bytearray) -> int:
    """64-bit FNV-1a over 64-bit words; a change within one word always changes it.

    Source: Fowler, Noll and Vo, the FNV non-cryptographic hash (draft-eastlake-fnv), here a word at a time.
    """
    value = 14695981039346656037
    for word in np.frombuffer(content, "<u8").tolist():
        value = (value ^ word) * 1099511628211 & 0xFFFF_FFFF_FFFF_FFFF
    return value


def _meta_bytes(meta: Mapping[str, Any], where: str) -> bytes:
    try:
        text = json.dumps(
            dict(meta), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise bad(where, "meta", meta, f"JSON values ({error})") from error


def _name_bytes(name: str, about: str) -> bytes:
    try:
        label = name.encode()
    except UnicodeEncodeError as error:
        raise bad(about, "name", name, "UTF-8") from error
    if not 1 <= len(label) <= _NAME_BYTES or b"\0" in label:
        raise bad(about, "name", name, f"1 to {_NAME_BYTES} bytes, none of them 0")
    return label


def _check_floats(tensor: NDArray[np.float32] | NDArray[np.float16], about: str) -> np.dtype[Any]:
    """The stored type of the floats."""
    if not isinstance(tensor, np.ndarray) or tensor.dtype.newbyteorder("<") not in _FLOATS:
        raise bad(about, "type", getattr(tensor, "dtype", type(tensor)), "float32, float16 or Codes")
    if tensor.ndim != 2 or not (1 <= tensor.shape[0] <= MAX_ROWS and 1 <= tensor.shape[1] <= MAX_COLS):
        raise bad(
            about, "shape", tensor.shape, f"(rows, cols), at most {MAX_COLS} columns; a vector is (1, N)"
        )
    return tensor.dtype.newbyteorder("<")


class _Reader:
    """One pass over a file: each section is read once, checked, and recorded in `taken`."""

    def __init__(self, content: bytes, where: str) -> None:
        self.content = content
        self.where = where
        self.taken: list[tuple[int, int, str]] = []  # first byte, end, what it is

    def read(self) -> EdgeFile:
        header = self._header()
        self.taken.append((0, _HEADER.size + _ENTRY.size * header.tensor_count, "the header and the table"))
        meta = self._meta(header)
        tensors: dict[str, Tensor] = {}
        for index in range(header.tensor_count):
            fields = _ENTRY.unpack_from(self.content, _HEADER.size + _ENTRY.size * index)
            entry = _Entry._make(fields)
            name = self._name(entry.name, f"{self.where}: tensor {index}")
            about = f"{self.where}: tensor {name!r}"
            if name in tensors:
                raise bad(about, "name", name, "a name that no earlier tensor has")
            tensors[name] = self._tensor(entry, about)
        self._check_gaps()
        return EdgeFile(meta, tensors)

    def _header(self) -> _Header:
        size = len(self.content)
        if self.content[: len(MAGIC)] != MAGIC:
            raise bad(self.where, "magic", self.content[: len(MAGIC)], f"{MAGIC!r}, as every .edge file has")
        if size < _HEADER.size:
            raise bad(self.where, "size", size, f"at least the {_HEADER.size} bytes of a header")
        header = _Header._make(_HEADER.unpack_from(self.content))
        _expect(self.where, "version", header.version, VERSION, f"{VERSION}, the one that this program reads")
        _expect(self.where, "file_bytes", header.file_bytes, size, f"{size}, the size of the file")
        if size % _ALIGN:
            raise bad(self.where, "file_bytes", size, f"a multiple of {_ALIGN}")
        _expect(self.where, "table_offset", header.table_offset, _HEADER.size)
        _expect(self.where, "reserved", header.reserved, 0)
        room = (size - _HEADER.size) // _ENTRY.size
        if header.tensor_count > room:
            raise bad(self.where, "tensor_count", header.tensor_count, f"at most {room} in {size} bytes")
        found = checksum(self.content[_HEADER.size :])
        if header.checksum != found:
            raise bad(self.where, "checksum", f"{header.checksum:016x}", f"{found:016x}, that of the content")
        return header

    def _meta(self, header: _Header) -> dict[str, Any]:
        section = self._take(self.where, "meta", header.meta_offset, header.meta_bytes)
        try:
            meta = json.loads(section.decode(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise bad(self.where, "meta", section, f"JSON in UTF-8 ({error})") from error
        if not isinstance(meta, dict) or section != section.strip():
            raise bad(self.where, "meta", section, "a JSON object, with nothing around it")
        return meta

    def _name(self, field: bytes, about: str) -> str:
        label = field.rstrip(b"\0")
        try:
            name = label.decode()
        except UnicodeDecodeError as error:
            raise bad(about, "name", label, "UTF-8") from error
        if not name or "\0" in name:
            raise bad(about, "name", name, "1 to 56 bytes, zeros only after the last")
        return name

    def _tensor(self, entry: _Entry, about: str) -> Tensor:
        if entry.encoding not in (0, 1, _CODES):
            raise bad(about, "encoding", entry.encoding, "0 (fp32), 1 (fp16) or 2 (codes)")
        if entry.rows < 1:
            raise bad(about, "rows", entry.rows, "at least 1")
        if not 1 <= entry.cols <= MAX_COLS:
            raise bad(about, "cols", entry.cols, f"1 to {MAX_COLS}")
        _expect(about, "reserved", entry.reserved, 0)
        return self._codes(entry, about) if entry.encoding == _CODES else self._floats(entry, about)

    def _floats(self, entry: _Entry, about: str) -> NDArray[np.float32] | NDArray[np.float16]:
        for field in (
            "bits",
            "sparse",
            "codebook",
            "group",
            "masks_offset",
            "scales_offset",
            "codebook_offset",
        ):
            _expect(about, field, getattr(entry, field), 0, "0 for floats")
        dtype = _FLOATS[entry.encoding]
        count = entry.rows * entry.cols
        _expect(about, "non_zeros", entry.non_zeros, count)
        _expect(about, "values_bytes", entry.values_bytes, count * dtype.itemsize)
        section = self._take(about, "values", entry.values_offset, entry.values_bytes)
        values = np.frombuffer(section, dtype).reshape(entry.rows, entry.cols)
        return values.astype(np.float16) if entry.encoding else values.astype(np.float32)

    def _codes(self, entry: _Entry, about: str) -> Codes:
        if not 2 <= entry.bits <= 8:
            raise bad(about, "bits", entry.bits, "2 to 8")
        for field, value in (("sparse", entry.sparse), ("codebook", entry.codebook)):
            if value > 1:
                raise bad(about, field, value, "0 or 1")
        if entry.codebook and entry.bits > CODEBOOK_BITS:
            raise bad(about, "bits", entry.bits, f"at most {CODEBOOK_BITS} with a codebook")
        if entry.group % GROUP_STEP:
            raise bad(about, "group", entry.group, GROUPS)
        mask = self._mask(entry, about)
        if mask is None:
            stored, values_bytes = entry.rows * entry.cols, entry.rows * -(-entry.cols * entry.bits // 8)
        else:
            by_row = mask.sum(axis=1)
            stored, values_bytes = int(by_row.sum()), int((-(-by_row * entry.bits // 8)).sum())
        _expect(about, "non_zeros", entry.non_zeros, stored)
        _expect(about, "values_bytes", entry.values_bytes, values_bytes)
        groups = group_count(entry.cols, entry.group)
        values = self._take(about, "values", entry.values_offset, values_bytes)
        scales = self._take(about, "scales", entry.scales_offset, 4 * entry.rows * groups)
        codebook = None
        if entry.codebook:
            codebook = np.frombuffer(
                self._take(about, "codebook", entry.codebook_offset, 2**entry.bits), np.int8
            )
        else:
            _expect(about, "codebook_offset", entry.codebook_offset, 0, "0 without a codebook")
        try:
            return Codes(
                codes=_unpack_values(values, entry, mask, about),
                mask=mask,
                scales=np.frombuffer(scales, "<f4").reshape(entry.rows, groups).astype(np.float32),
                bits=entry.bits,
                group=entry.group,
                codebook=codebook,
            )
        except EdgeSpeechError as error:
            raise EdgeSpeechError(f"{about}: {error}") from error

    def _mask(self, entry: _Entry, about: str) -> NDArray[np.bool_] | None:
        if not entry.sparse:
            _expect(about, "masks_offset", entry.masks_offset, 0, "0 for a dense matrix")
            return None
        row_bytes = -(-entry.cols // 64) * 8
        section = self._take(about, "masks", entry.masks_offset, entry.rows * row_bytes)
        packed = np.frombuffer(section, np.uint8).reshape(entry.rows, row_bytes)
        bits = np.unpackbits(packed, axis=1, bitorder="little")
        beyond = np.flatnonzero(bits[:, entry.cols :].any(axis=1))
        if len(beyond):
            raise bad(about, "masks", f"row {beyond[0]} with bits beyond its columns", "zeros there")
        return bits[:, : entry.cols].astype(np.bool_)

    def _take(self, about: str, field: str, offset: int, size: int) -> bytes:
        """The bytes of a section, which must be aligned and followed by 64 bytes of the file."""
        last = len(self.content) - _ALIGN - size
        if offset % _ALIGN or not self.taken[0][1] <= offset <= last:
            room = f"a multiple of {_ALIGN} from {self.taken[0][1]} to {last}, for {size} bytes and {_ALIGN} more"
            raise bad(
                about, f"{field}_offset", offset, room if last >= 0 else f"a file of at least {size} bytes"
            )
        if size:
            self.taken.append((offset, offset + size, f"{about}: {field}"))
        return self.content[offset : offset + size]

    def _check_gaps(self) -> None:
        end = 0
        for first, next_end, what in sorted(self.taken):
            if first < end:
                raise bad(what, "offset", first, f"at least {end}, where another section ends")
            self._check_zeros(end, first)
            end = next_end
        self._check_zeros(end, len(self.content))

    def _check_zeros(self, first: int, end: int) -> None:
        gap = self.content[first:end]
        if gap.strip(b"\0"):
            at = first + len(gap) - len(gap.lstrip(b"\0"))
            raise bad(self.where, f"byte {at}", self.content[at], "0, since it is in no section")


def _unpack_values(
    values: bytes, entry: _Entry, mask: NDArray[np.bool_] | None, about: str
) -> NDArray[np.uint8]:
    """Codes with shape `(rows, cols)`, 0 where none is stored."""
    codes = np.zeros((entry.rows, entry.cols), np.uint8)
    at = 0
    for row in range(entry.rows):
        count = entry.cols if mask is None else int(mask[row].sum())
        size = -(-count * entry.bits // 8)
        bits = np.unpackbits(np.frombuffer(values, np.uint8, size, at), bitorder="little")
        at += size
        if bits[count * entry.bits :].any():
            raise bad(about, "values", f"row {row} with bits beyond its codes", "zeros there")
        unpacked = np.packbits(
            bits[: count * entry.bits].reshape(count, entry.bits), axis=1, bitorder="little"
        )
        codes[row, slice(None) if mask is None else mask[row]] = unpacked[:, 0]
    return codes


def _expect(about: str, field: str, value: int, wanted: int, expected: str | None = None) -> None:
    if value != wanted:
        raise bad(about, field, value, expected or str(wanted))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class Sections(NamedTuple):
    """Bytes of a tensor's sections in a file."""

    masks: int
    values: int
    scales: int
    codebook: int


def sections(tensor: Tensor) -> Sections:
    """Bytes of each section of a tensor in a file, without the padding between sections."""
    if not isinstance(tensor, Codes):
        return Sections(0, tensor.nbytes, 0, 0)
    by_row = np.full(tensor.rows, tensor.cols) if tensor.mask is None else tensor.mask.sum(axis=1)
    return Sections(
        masks=0 if tensor.mask is None else 8 * tensor.rows * -(-tensor.cols // 64),
        values=int((-(-by_row * tensor.bits // 8)).sum()),
        scales=4 * tensor.scales.size,
        codebook=0 if tensor.codebook is None else tensor.codebook.size,
    )
