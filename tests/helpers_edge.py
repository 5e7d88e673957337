"""`.edge` files for tests: written by the book, taken apart and changed by the format's text alone."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import EdgeFile, Tensor, read_edge, write_edge

# The format's text, apart from the module's: where each field is, and its struct letter.
HEADER = {
    "magic": (0, "8s"),
    "version": (8, "I"),
    "tensor_count": (12, "I"),
    "file_bytes": (16, "Q"),
    "table_offset": (24, "Q"),
    "meta_offset": (32, "Q"),
    "meta_bytes": (40, "Q"),
    "checksum": (48, "Q"),
    "reserved": (56, "Q"),
}
ENTRY = {
    "name": (0, "56s"),
    "encoding": (56, "B"),
    "bits": (57, "B"),
    "sparse": (58, "B"),
    "codebook": (59, "B"),
    "group": (60, "I"),
    "rows": (64, "I"),
    "cols": (68, "I"),
    "masks_offset": (72, "Q"),
    "values_offset": (80, "Q"),
    "values_bytes": (88, "Q"),
    "scales_offset": (96, "Q"),
    "codebook_offset": (104, "Q"),
    "non_zeros": (112, "Q"),
    "reserved": (120, "Q"),
}
DENSE, SPARSE, GROUPED, BIAS, HALF = range(5)


def place(field: str, tensor: int | None) -> tuple[int, str]:
    if tensor is None:
        return HEADER[field]
    offset, kind = ENTRY[field]
    return 64 + 128 * tensor + offset, kind


def get(content: bytes, field: str, tensor: int | None = None) -> Any:
    offset, kind = place(field, tensor)
    return struct.unpack_from("<" + kind, content, offset)[0]


def put(content: bytes, field: str, value: Any, tensor: int | None = None) -> bytes:
    offset, kind = place(field, tensor)
    changed = bytearray(content)
    struct.pack_into("<" + kind, changed, offset, value)
    return bytes(changed)


def poke(content: bytes, offset: int, *values: int) -> bytes:
    return content[:offset] + bytes(values) + content[offset + len(values) :]


def seal(content: bytes) -> bytes:
    """The content with the checksum that it should have."""
    total = 14695981039346656037
    for (word,) in struct.iter_unpack("<Q", content[64:]):
        total = (total ^ word) * 1099511628211 % 2**64
    return put(content, "checksum", total)


def random_codes(
    rng: np.random.Generator,
    shape: tuple[int, int],
    bits: int,
    group: int,
    *,
    sparsity: float | None,
    codebook: bool,
) -> Codes:
    """Codes of any value, not only those that quantisation makes."""
    mask = None if sparsity is None else rng.random(shape) >= sparsity
    codes = rng.integers(0, 2**bits, shape, dtype=np.uint8)
    groups = -(-shape[1] // group) if group else 1
    return Codes(
        codes=codes if mask is None else np.where(mask, codes, np.uint8(0)),
        mask=mask,
        scales=rng.random((shape[0], groups), np.float32),
        bits=bits,
        group=group,
        codebook=rng.integers(-128, 128, 2**bits, dtype=np.int8) if codebook else None,
    )


def equal(a: Tensor, b: Tensor) -> bool:
    if isinstance(a, Codes) and isinstance(b, Codes):
        arrays = [(a.codes, b.codes), (a.mask, b.mask), (a.scales, b.scales), (a.codebook, b.codebook)]
        return (a.bits, a.group) == (b.bits, b.group) and all(
            x is y is None
            or (x is not None and y is not None and x.dtype == y.dtype and np.array_equal(x, y))
            for x, y in arrays
        )
    if isinstance(a, Codes) or isinstance(b, Codes):
        return False
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def there_and_back(folder: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> EdgeFile:
    path = folder / "model.edge"
    write_edge(path, tensors, meta)
    found = read_edge(path)
    assert list(found.tensors) == list(tensors)
    assert found.meta == meta
    for name, tensor in tensors.items():
        assert equal(found.tensors[name], tensor), name
    return found


def small() -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    return {
        "dense": random_codes(rng, (3, 70), 4, 0, sparsity=None, codebook=False),
        "sparse": random_codes(rng, (5, 65), 3, 0, sparsity=0.5, codebook=True),
        "grouped": random_codes(rng, (2, 130), 5, 64, sparsity=0.5, codebook=False),
        "bias": rng.standard_normal((1, 7), np.float32),
        "half": rng.standard_normal((2, 3)).astype(np.float16),
    }
