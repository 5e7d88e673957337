"""The update file, version 1: what turns one packed model into another, and is for no other model.

Little-endian. Header (`_HEADER`): magic, version, kind, number of tensors, bytes of this file, bytes of the new model,
SHA-256 of the old and of the new model, CRC-32 of what the new model recognises in the self-check
(`edgespeech.updates.selfcheck`). Then the new model's metadata, deflated with the old metadata as dictionary; then a
block for each tensor of the new model, in its order: its name or the number of the old tensor with that name, what is
said of it (`edgespeech.updates.deltas.Op`), and the content. Last a CRC-32 of all before. A reader checks every length
before it allocates; what the update makes must have the hash in the header, so that a wrong update cannot be applied.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from edgespeech.core.files import TEMPORARY, regular, sha256_file
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.packed.edge_file import EdgeFile, Tensor, read_edge, write_edge
from edgespeech.updates.deltas import Delta, Op, added, get_delta, put_delta
from edgespeech.updates.entropy import Reader, Writer
from edgespeech.updates.exact import form_of, get_tensor, put_tensor

MAGIC = b"EDGEUPDT"
VERSION = 1
MAX_BYTES = 1 << 26
"""Bytes that an update, and the model that it makes, may have."""
_HEADER = struct.Struct("<8sHHIQQ32s32sI")
_CRC = 4
_MAX_META = 1 << 20
_MAX_NAME = 56
_WINDOW = 1 << 15
"""Bytes of deflate's dictionary."""
_LEAST_BITS = 1
"""Bits of a weight in the smallest form: a mask without codes. It bounds the weights of a model by its bytes."""


class Kind(IntEnum):
    """How an update is made."""

    EXACT = 0
    SPARSE = 1
    LOW_RANK = 2
    HASHED = 3


class Header(NamedTuple):
    """The header of an update file.

    Attributes:
        kind: see `Kind`; it tells readers of the update what it is, and decides nothing.
        tensors: of the new model.
        file_bytes: of the update.
        new_bytes: of the new model.
        old_sha256: of the model that it is for, in hexadecimal.
        new_sha256: of the model that it makes.
        said: CRC-32 of the new model's outcome in the self-check.
    """

    kind: Kind
    tensors: int
    file_bytes: int
    new_bytes: int
    old_sha256: str
    new_sha256: str
    said: int


class Part(NamedTuple):
    """What an update says of one tensor: its name or the number of the old tensor that has it, and the content."""

    name: str | int
    op: Op
    content: bytes


@dataclass(frozen=True, slots=True)
class Update:
    """An update file in its parts.

    Attributes:
        header: see there.
        meta: the new model's metadata, deflated.
        parts: of its tensors.
        where: the file, for messages.
    """

    header: Header
    meta: bytes
    parts: tuple[Part, ...]
    where: str


Said = Mapping[str, Delta | None]
"""By tensor the delta, or None for an exact copy of the new one; tensors without an entry are as before."""


def body(old: EdgeFile, new: Mapping[str, Tensor], meta: Mapping[str, Any], said: Said) -> bytes:
    """Everything between the header and the checksum.

    Args:
        old: the old model.
        new: the new model's tensors in their order; of those with a delta only the names count.
        meta: of the new model.
        said: see `Said`.
    """
    out = Writer()
    # One encoder of the standard library, so that the metadata costs the few bytes that changed.
    packer = zlib.compressobj(9, zdict=_dictionary(old.meta))
    out.block(packer.compress(_text(meta)) + packer.flush())
    numbers = {name: number for number, name in enumerate(old.tensors)}
    for name, tensor in new.items():
        if name in numbers:
            out.number(1 + numbers[name])
        else:
            out.number(0)
            out.block(name.encode())
        content, op = Writer(), Op.SAME
        if name in said:
            delta = said[name]
            if delta is None:
                put_tensor(content, tensor, old.tensors.get(name))
                op = Op.EXACT
            else:
                op = put_delta(content, delta)
        out.number(op)
        out.block(content.finish())
    return out.finish()


def sealed(
    kind: Kind, tensors: int, content: bytes, *, old: Path, new: Path, said: int
) -> tuple[Header, bytes]:
    """An update file from its body, for the two models.

    Raises:
        EdgeSpeechError: it, or the new model, is larger than `MAX_BYTES`.
    """
    total = _HEADER.size + len(content) + _CRC
    size = new.stat().st_size
    for field, value in (("size of the update", total), ("size of the new model", size)):
        if value > MAX_BYTES:
            raise bad("update", field, value, f"at most {MAX_BYTES} bytes")
    header = Header(kind, tensors, total, size, sha256_file(old), sha256_file(new), said)
    ends = bytes.fromhex(header.old_sha256), bytes.fromhex(header.new_sha256)
    told = _HEADER.pack(MAGIC, VERSION, kind, tensors, total, size, *ends, said) + content
    return header, told + zlib.crc32(told).to_bytes(_CRC, "little")


def read_update(path: Path, *, most: int = MAX_BYTES) -> Update:
    """Read an update file and check all that can be checked without the old model.

    Args:
        path: the file.
        most: bytes that it and the new model may have.

    Raises:
        EdgeSpeechError: it is missing, foreign, of another version, cut, damaged, or too large; the message names the
            file, the field, the value and the expectation.
    """
    where = str(path)
    try:
        size = regular(path).stat().st_size
        content = path.read_bytes() if size <= most else b""
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be read: {error.strerror or error}") from error
    if size > most:
        raise bad(where, "size", size, f"at most {most} bytes")
    return parse_update(content, where, most=most)


def parse_update(content: bytes, where: str, *, most: int = MAX_BYTES) -> Update:
    """As `read_update`, of the bytes of a file."""
    header = _header(content, where, most)
    reader = Reader(content[_HEADER.size : -_CRC], where)
    meta = reader.block(_MAX_META, "metadata")
    parts = []
    for _ in range(header.tensors):
        number = reader.number(header.tensors + MAX_BYTES, "number of an old tensor")
        name = number - 1 if number else _name(reader.block(_MAX_NAME, "name"), where)
        op = reader.number(max(Op), "operation of a tensor")
        parts.append(Part(name, Op(op), reader.block(reader.left, "bytes of a tensor")))
    if reader.left:
        raise bad(where, "bytes behind the last tensor", reader.left, "0")
    return Update(header, meta, tuple(parts), where)


def rebuilt(update: Update, old: EdgeFile) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The new model's tensors and metadata.

    Raises:
        EdgeSpeechError: the update's content is not valid for this model.
    """
    meta = _inflated(update, old)
    names = list(old.tensors)
    left = update.header.new_bytes * 8 // _LEAST_BITS
    tensors: dict[str, Tensor] = {}
    for part in update.parts:
        name = part.name
        if isinstance(name, int):
            if name >= len(names):
                raise bad(update.where, "number of an old tensor", name, f"below {len(names)}")
            name = names[name]
        about = f"{update.where}: tensor {name!r}"
        if name in tensors:
            raise bad(update.where, "name", name, "a name that no earlier tensor has")
        before = old.tensors.get(name)
        reader = Reader(part.content, about)
        try:
            tensors[name] = _tensor(part.op, reader, before, left, about)
        except EdgeSpeechError as error:
            raise error if str(error).startswith(about) else EdgeSpeechError(f"{about}: {error}") from error
        if reader.left:
            raise bad(about, "bytes behind the tensor", reader.left, "0")
        rows, cols = form_of(tensors[name])[-2:]
        left -= rows * cols
    return tensors, meta


def apply_update(old: Path, update: Path, out: Path, *, most: int = MAX_BYTES) -> Header:
    """Make the new model from the old one and an update.

    The file takes its name only after its hash is that of the header: there is no wrong or partial model at any moment.

    Args:
        old: the packed model that the update is for.
        update: the update file.
        out: the new model; an existing file is replaced. It may not be the old one's.
        most: bytes that the update and the new model may have.

    Raises:
        EdgeSpeechError: as `read_update`; the model is another one, or the new one already; what the update makes is
            not what its header says.
    """
    if out.exists() and out.samefile(old):
        raise bad(
            str(out),
            "out",
            str(out),
            "another file than the old model, which stays until the new one is whole",
        )
    read = read_update(update, most=most)
    check_base(read, sha256_file(old), str(old))
    write_new(read, read_edge(old), out)
    return read.header


def check_base(update: Update, sha256: str, where: str) -> None:
    """Refuse an update for another model.

    Raises:
        EdgeSpeechError: the model has another hash than the update's old model.
    """
    header = update.header
    if sha256 == header.old_sha256:
        return
    if sha256 == header.new_sha256:
        raise EdgeSpeechError(f"{update.where}: {where} is the new model already: nothing is left to do")
    raise bad(
        update.where, "old model", header.old_sha256, f"{sha256}, which {where} has: it is for another model"
    )


def write_new(update: Update, old: EdgeFile, out: Path) -> None:
    """Write the new model, once its hash is right.

    Raises:
        EdgeSpeechError: as `rebuilt`, or the hash or the size is another one; or it cannot be written.
    """
    tensors, meta = rebuilt(update, old)
    scratch = out.with_name(f".{out.name}.new")
    try:
        write_edge(scratch, tensors, meta)
        found, size = sha256_file(scratch), scratch.stat().st_size
        if (found, size) != (update.header.new_sha256, update.header.new_bytes):
            raise bad(
                update.where, "new model", update.header.new_sha256, f"{found}, which was made ({size} bytes)"
            )
        scratch.replace(out)
    except OSError as error:
        raise EdgeSpeechError(f"{out}: could not be written: {error.strerror or error}") from error
    finally:
        for left in (scratch, scratch.with_name(f".{scratch.name}{TEMPORARY}")):
            left.unlink(missing_ok=True)


def described(update: Update, old: EdgeFile | None = None) -> Iterator[str]:
    """An update in lines: the header, then each tensor with its operation and bytes.

    Args:
        update: which.
        old: the old model, whose names replace numbers; None if it is not at hand.
    """
    header = update.header
    yield f"version {VERSION}, {header.kind.name.lower()}, {header.file_bytes} bytes"
    yield f"old {header.old_sha256}"
    yield f"new {header.new_sha256}, {header.new_bytes} bytes"
    yield f"self-check {header.said:08x}"
    yield f"metadata: {len(update.meta)} bytes"
    names = [] if old is None else list(old.tensors)
    for part in update.parts:
        name = part.name
        if isinstance(name, int):
            name = names[name] if name < len(names) else f"old tensor {name}"
        yield f"{name}: {part.op.name.lower()}, {len(part.content)} bytes"


def _tensor(op: Op, reader: Reader, before: Tensor | None, most: int, about: str) -> Tensor:
    if op is Op.EXACT:
        return get_tensor(reader, before, most)
    if before is None:
        raise bad(about, "operation", op.name, f"{Op.EXACT.name}: the old model has no such tensor")
    rows, cols = form_of(before)[-2:]
    if rows * cols > most:
        raise bad(about, "weights", rows * cols, f"at most the {most} that the new model's bytes hold")
    return before if op is Op.SAME else added(before, get_delta(reader, op, rows, cols))


def _header(content: bytes, where: str, most: int) -> Header:
    if content[: len(MAGIC)] != MAGIC:
        raise bad(where, "magic", content[: len(MAGIC)], f"{MAGIC!r}, as every update has")
    if len(content) < _HEADER.size + _CRC:
        raise bad(where, "size", len(content), f"at least {_HEADER.size + _CRC} bytes")
    _, version, kind, tensors, total, size, old, new, said = _HEADER.unpack_from(content)
    if version != VERSION:
        raise bad(where, "version", version, f"{VERSION}, the one that this program reads")
    if total != len(content):
        raise bad(
            where, "file_bytes", total, f"{len(content)}, the size of the file: it was cut, or has more"
        )
    found = zlib.crc32(content[:-_CRC])
    if (stored := int.from_bytes(content[-_CRC:], "little")) != found:
        raise bad(where, "checksum", f"{stored:08x}", f"{found:08x}, that of the content")
    if kind not in list(Kind):
        raise bad(where, "kind", kind, f"0 to {max(Kind)}")
    if not 0 < size <= most:
        raise bad(where, "size of the new model", size, f"1 to {most} bytes")
    return Header(Kind(kind), tensors, total, size, old.hex(), new.hex(), said)


def _name(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise bad(where, "name", content, "UTF-8") from error


def _inflated(update: Update, old: EdgeFile) -> dict[str, Any]:
    packer = zlib.decompressobj(zdict=_dictionary(old.meta))
    try:
        text = packer.decompress(update.meta, _MAX_META)
        if not packer.eof or packer.unused_data:
            raise bad(update.where, "metadata", "a deflated text that goes on", f"at most {_MAX_META} bytes")
        meta = json.loads(text.decode())
    except (zlib.error, ValueError, RecursionError) as error:
        raise bad(update.where, "metadata", str(error), "a deflated JSON object") from error
    if not isinstance(meta, dict):
        raise bad(update.where, "metadata", meta, "a JSON object")
    return meta


def _dictionary(meta: Mapping[str, Any]) -> bytes:
    return _text(meta)[-_WINDOW:]


def _text(meta: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(meta), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
