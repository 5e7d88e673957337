"""Deltas of a packed tensor: few changed codes, a low-rank or a hashed matrix; and the re-quantisation after them.

A delta D is a whole-number matrix times one unit, and the new weights are the old ones plus D at the old levels, under
the old zeros: scales stay. Sums are of whole numbers that a double holds exactly, in any order; what follows is one
multiplication, one division, one addition and one rounding to nearest even of doubles per weight. So both ends compute
the same file. Sources: papers.md section 11 (arXiv:2108.01561); hashing: W. Chen et al., "Compressing neural networks
with the hashing trick" (ICML 2015, arXiv:1504.04788).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import bad
from edgespeech.packed.codes import Codes, group_count
from edgespeech.packed.edge_file import Tensor
from edgespeech.updates.entropy import MAX_SYMBOLS, WHERE, Reader, Symbols, Writer, unzigzag, zigzag
from edgespeech.updates.exact import codes_of, form_of, symbols_of

MAX_RANK = 1 << 10
_MAX_SHIFT = 15
_LEVELS = 127
_UNIT = struct.Struct("<f")


class Op(IntEnum):
    """What an update says of one tensor of the new model."""

    SAME = 0
    EXACT = 1
    SPARSE = 2
    LOW_RANK = 3
    HASHED = 4


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """Whole numbers that are added: to codes, or times `unit` to floats.

    Args:
        steps: with shape `(rows, cols)`, most of them 0.
        unit: of a matrix of floats; 1 for codes.
    """

    steps: Symbols
    unit: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """D = unit * sum over k of 2^shift[k] * left[:, k] * right[k, :].

    Args:
        left: with shape `(rows, rank)`, -127 to 127.
        right: with shape `(rank, cols)`, -127 to 127.
        shifts: with shape `(rank,)`, 0 to 15.
        unit: above 0.
    """

    left: Symbols
    right: Symbols
    shifts: Symbols
    unit: float


@dataclass(frozen=True, slots=True, eq=False)
class Hashed:
    """D[i, j] = unit * sign(i, j) * values[bucket(i, j)].

    Args:
        values: with shape `(buckets,)`, -127 to 127.
        unit: above 0.
        seed: of the hash.
    """

    values: Symbols
    unit: float
    seed: int


Delta = Sparse | LowRank | Hashed


def put_delta(out: Writer, delta: Delta) -> Op:
    """Write a delta; returns what it is."""
    if isinstance(delta, Sparse):
        out.raw(_UNIT.pack(delta.unit))
        out.rare(zigzag(delta.steps).reshape(-1), MAX_SYMBOLS)
        return Op.SPARSE
    out.raw(_UNIT.pack(delta.unit))
    if isinstance(delta, LowRank):
        out.number(len(delta.shifts))
        out.symbols(delta.shifts, _MAX_SHIFT + 1)
        for factor in (delta.left.T, delta.right):  # a component's numbers are alike
            out.symbols(factor.reshape(-1) + _LEVELS, 2 * _LEVELS + 1)
        return Op.LOW_RANK
    out.number(delta.seed)
    out.number(len(delta.values))
    out.symbols(delta.values + _LEVELS, 2 * _LEVELS + 1)
    return Op.HASHED


def get_delta(reader: Reader, op: Op, rows: int, cols: int) -> Delta:
    """Read a delta of a tensor with this shape.

    Raises:
        EdgeSpeechError: a value out of range, or as `Reader`.
    """
    (unit,) = _UNIT.unpack(reader.raw(_UNIT.size))
    if not (np.isfinite(unit) and unit > 0):
        raise bad(WHERE, "unit of a delta", unit, "a finite number above 0")
    if op is Op.SPARSE:
        return Sparse(unzigzag(reader.rare(rows * cols, MAX_SYMBOLS)).reshape(rows, cols), unit)
    if op is Op.LOW_RANK:
        rank = reader.number(min(MAX_RANK, rows * cols), "rank")
        shifts = reader.symbols(rank, _MAX_SHIFT + 1)
        left = reader.symbols(rank * rows, 2 * _LEVELS + 1).reshape(rank, rows).T - _LEVELS
        right = reader.symbols(rank * cols, 2 * _LEVELS + 1).reshape(rank, cols) - _LEVELS
        return LowRank(left, right, shifts, unit)
    seed = reader.number((1 << 32) - 1, "seed")
    buckets = reader.number(rows * cols, "buckets")
    if not buckets:
        raise bad(WHERE, "buckets", 0, "at least 1")
    return Hashed(reader.symbols(buckets, 2 * _LEVELS + 1) - _LEVELS, unit, seed)


def added(old: Tensor, delta: Delta) -> Tensor:
    """The old tensor plus a delta, in the old form.

    Raises:
        EdgeSpeechError: a low-rank or hashed delta of codes with a codebook.
    """
    if isinstance(delta, Sparse):
        return _stepped(old, delta)
    dense = dense_of(delta, *form_of(old)[-2:])
    if not isinstance(old, Codes):
        return _floats(old, dense)
    if old.codebook is not None:
        raise bad(WHERE, "delta of a matrix with a codebook", type(delta).__name__, "Sparse")
    scales = _spread(old)
    steps = np.divide(dense, scales, out=np.zeros_like(dense), where=scales > 0)
    return from_integers(old, np.rint(old.int8().astype(np.float64) + steps), old.mask)


def dense_of(delta: LowRank | Hashed, rows: int, cols: int) -> NDArray[np.float64]:
    """The matrix D, with shape `(rows, cols)`."""
    if isinstance(delta, LowRank):
        left = (delta.left << delta.shifts).astype(np.float64)
        whole = left @ delta.right.astype(np.float64)
    else:
        bucket, sign = buckets(rows, cols, len(delta.values), delta.seed)
        whole = (delta.values[bucket] * sign).astype(np.float64)
    return whole * np.float64(np.float32(delta.unit))


def buckets(rows: int, cols: int, count: int, seed: int) -> tuple[Symbols, Symbols]:
    """Bucket and sign of each weight, both with shape `(rows, cols)`.

    The hash is the finaliser of SplitMix64 (G. Steele et al., "Fast splittable pseudorandom number generators",
    OOPSLA 2014) of the weight's place and the seed.
    """
    place = np.arange(rows * cols, dtype=np.uint64) + (np.uint64(seed) << np.uint64(32))
    x = place * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    sign = 1 - 2 * (x & np.uint64(1)).astype(np.int64)
    bucket = (x >> np.uint64(1)) % np.uint64(count)
    return bucket.astype(np.int64).reshape(rows, cols), sign.reshape(rows, cols)


def from_integers(
    old: Codes, integers: NDArray[np.float64] | Symbols, mask: NDArray[np.bool_] | None
) -> Codes:
    """Uniform codes of whole numbers, at the old scales and within the old bits; a zero is not stored if sparse."""
    limit = 2 ** (old.bits - 1) - 1
    whole = np.clip(integers, -limit, limit).astype(np.int64)
    symbols = whole + (limit + 1)
    if mask is not None:
        symbols = np.where(mask & (whole != 0), symbols + 1, 0)
    return codes_of(symbols, form_of(old), old.scales, None)


def _stepped(old: Tensor, delta: Sparse) -> Tensor:
    if not isinstance(old, Codes):
        return _floats(old, delta.steps * np.float64(np.float32(delta.unit)))
    if old.codebook is not None:
        symbols = symbols_of(old)
        moved = np.clip(symbols + delta.steps, 0, form_of(old).symbols - 1)
        return codes_of(moved, form_of(old), old.scales, old.codebook)
    changed = delta.steps != 0
    mask = None if old.mask is None else old.mask | changed
    before = old.int8().astype(np.int64)
    after = from_integers(old, before + delta.steps, mask)
    # What a delta does not touch stays as it is, even a stored zero or the level below all others.
    symbols = np.where(changed, symbols_of(after), symbols_of(old))
    return codes_of(symbols, form_of(old), old.scales, None)


def _floats(
    old: NDArray[np.float32] | NDArray[np.float16], change: NDArray[np.float64]
) -> NDArray[np.float32] | NDArray[np.float16]:
    sums = old.astype(np.float64) + change
    with np.errstate(over="ignore"):
        new = sums.astype(np.float16) if old.dtype == np.float16 else sums.astype(np.float32)
    if not np.isfinite(new).all():
        raise bad(WHERE, "weight", float(new[~np.isfinite(new)][0]), "finite weights")
    return new


def _spread(codes: Codes) -> NDArray[np.float64]:
    """The scales of a matrix expanded to columns."""
    scales = codes.scales.astype(np.float64)
    if group_count(codes.cols, codes.group) == 1:
        return scales
    return scales[:, np.arange(codes.cols) // codes.group]
