"""Weight matrices as low-bit codes: uniform or with a codebook, dense or with zeros that are not stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import bad

MAX_COLS = 1 << 16
"""Columns of a matrix: |weight * activation| <= 2^14, so the sum of 2^16 of them fits into int32."""
MAX_ROWS = (1 << 32) - 1
CODEBOOK_BITS = 6
"""The widest codes that may index a codebook: 64 int8 levels fit one vector register."""
GROUP_STEP = 64
GROUPS = f"0 or a multiple of {GROUP_STEP}, below 2^32"

_SHRINK = np.linspace(1.0, 0.2, 33, dtype=np.float32)
"""Scales that `clip="mse"` tries, relative to the one that covers the largest weight; the largest first, so that it
wins ties. The best for Gaussian rows is about 0.3 at 2 bits and 1.0 at 8 bits."""
_FINE = 16
"""Bins per int8 step of the histogram that the codebook is learned from."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Codes:
    """A weight matrix: weight[r, c] = scales[r, c // group] * int8[r, c], and 0 where no code is stored.

    The int8 is code - 2^(bits - 1), or codebook[code].

    Args:
        codes: with shape `(rows, cols)`, each below 2^bits; 0 where no code is stored.
        mask: with shape `(rows, cols)`, true where a code is stored; None for a dense matrix.
        scales: with shape `(rows, max(1, ceil(cols / group)))`, finite, not negative.
        bits: 2 to 8.
        group: columns that share a scale, a multiple of 64; 0 for the whole row.
        codebook: with shape `(2^bits,)`, for bits <= 6; None for uniform codes.

    Raises:
        EdgeSpeechError: any of these conditions is violated.
    """

    codes: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    scales: NDArray[np.float32]
    bits: int
    group: int
    codebook: NDArray[np.int8] | None

    def __post_init__(self) -> None:
        _check_options(self.bits, self.group)
        _check_array("codes", self.codes, np.uint8, None)
        _check_size(self.codes.shape)
        if int(self.codes.max()) >= 2**self.bits:
            raise bad(
                "codes", "codes", int(self.codes.max()), f"at most {2**self.bits - 1} at {self.bits} bits"
            )
        if self.mask is not None:
            _check_array("mask", self.mask, np.bool_, self.codes.shape)
            if self.codes[~self.mask].any():
                raise bad("codes", "codes", int(self.codes[~self.mask].max()), "0 where no code is stored")
        _check_array("scales", self.scales, np.float32, (self.rows, self.groups))
        _check_values(
            "scales", self.scales, np.isfinite(self.scales) & (self.scales >= 0), "finite, not negative"
        )
        if self.codebook is not None:
            _check_codebook_bits(self.bits)
            _check_array("codebook", self.codebook, np.int8, (2**self.bits,))

    @property
    def rows(self) -> int:
        """Outputs of the product."""
        return int(self.codes.shape[0])

    @property
    def cols(self) -> int:
        """Inputs of the product."""
        return int(self.codes.shape[1])

    @property
    def groups(self) -> int:
        """Scales of a row."""
        return group_count(self.cols, self.group)

    @property
    def non_zeros(self) -> int:
        """How many codes are stored."""
        return self.codes.size if self.mask is None else int(self.mask.sum())

    def int8(self) -> NDArray[np.int8]:
        """The integer weights before scaling, with shape `(rows, cols)`; 0 where no code is stored."""
        levels = self.codebook
        if levels is None:
            levels = (np.arange(2**self.bits) - 2 ** (self.bits - 1)).astype(np.int8)
        weights = levels[self.codes]
        return weights if self.mask is None else np.where(self.mask, weights, np.int8(0))


def group_count(cols: int, group: int) -> int:
    """Scales of a row of `cols` columns of which `group` share one (0: all)."""
    return -(-cols // group) if group else 1


def quantise(
    weights: NDArray[np.float32],
    *,
    bits: int,
    group: int = 0,
    mask: NDArray[np.bool_] | None = None,
    clip: Literal["max", "mse"] = "max",
) -> Codes:
    """Symmetric uniform codes: rint(weight / scale), half to even, within +-(2^(bits - 1) - 1).

    Args:
        weights: with shape `(rows, cols)`, finite.
        bits: 2 to 8.
        group: columns that share a scale, a multiple of 64; 0 for the whole row.
        mask: with shape `(rows, cols)`, true where a weight is stored; None for a dense matrix. A stored weight that
            rounds to zero is removed from it, since it then costs one bit with the same value.
        clip: `max`, the scale that covers the largest weight, max|w| / (2^(bits - 1) - 1); or `mse`, that scale or a
            smaller one, whichever minimises the squared error of the row's or group's weights.

    Raises:
        EdgeSpeechError: a shape, a type, a value or an option is not as told here.
    """
    _check_options(bits, group)
    kept = _kept(weights, mask)
    if clip not in ("max", "mse"):
        raise bad("quantise", "clip", clip, "max or mse")
    limit = 2 ** (bits - 1) - 1
    cols = kept.shape[1]
    largest: NDArray[np.float32] = np.maximum.reduceat(np.abs(kept), _starts(cols, group), axis=1)
    scales = largest / np.float32(limit)
    if clip == "mse":
        scales = _least_error(kept, scales, group, limit)
    return encode(weights, scales=scales, bits=bits, group=group, mask=mask)


def lloyd_max(
    weights: NDArray[np.float32],
    *,
    bits: int,
    mask: NDArray[np.bool_] | None = None,
    iterations: int = 50,
    seed: int = 0,
) -> Codes:
    """Codes for one codebook of 2^bits int8 levels, learned over the matrix (Lloyd 1982, Max 1960).

    Each row is scaled so that its largest weight becomes 127. The levels are initialised by k-means++, moved
    iteratively to the means of their nearest weights, and rounded to int8 at the end.

    Args:
        weights: with shape `(rows, cols)`, finite.
        bits: 2 to 6.
        mask: with shape `(rows, cols)`, true where a weight is stored; None for a dense matrix. A stored weight whose
            level is zero is removed from it, as in `quantise`.
        iterations: maximum number of iterations, at least 0; fewer on convergence.
        seed: of the initial levels.

    Raises:
        EdgeSpeechError: a shape, a type, a value or an option is not as told here.
    """
    _check_options(bits, 0)
    _check_codebook_bits(bits)
    kept = _kept(weights, mask)
    if iterations < 0:
        raise bad("lloyd_max", "iterations", iterations, "at least 0")
    scales = np.abs(kept).max(axis=1, keepdims=True) / np.float32(127)
    steps = np.divide(kept, scales, out=np.zeros_like(kept), where=scales > 0).clip(-127, 127)
    used = steps if mask is None else steps[mask]
    values = np.arange(-127 * _FINE, 127 * _FINE + 1) / _FINE
    bins = np.rint(used * _FINE).astype(np.int64) + 127 * _FINE
    levels = _learn_levels(
        values, np.bincount(bins.ravel(), minlength=len(values)), 2**bits, iterations, seed
    )
    codebook = np.rint(levels).astype(np.int8)
    return encode(weights, scales=scales, bits=bits, mask=mask, codebook=codebook)


def encode(
    weights: NDArray[np.float32],
    *,
    scales: NDArray[np.float32],
    bits: int,
    group: int = 0,
    mask: NDArray[np.bool_] | None = None,
    codebook: NDArray[np.int8] | None = None,
) -> Codes:
    """Codes for given scales and levels: each weight's nearest level, the lower one in a tie.

    Uniform levels are the whole numbers within +-(2^(bits - 1) - 1); a tie goes to the even one.

    Args:
        weights: with shape `(rows, cols)`, finite.
        scales: as in `Codes`.
        bits: 2 to 8.
        group: as in `Codes`.
        mask: as in `quantise`: a stored weight whose level is zero is removed from it.
        codebook: with shape `(2^bits,)`, non-decreasing; None for uniform levels.

    Raises:
        EdgeSpeechError: a shape, a type, a value or an option is not as told here.
    """
    _check_options(bits, group)
    kept = _kept(weights, mask)
    _check_array("scales", scales, np.float32, (len(kept), group_count(kept.shape[1], group)))
    columns = _spread(scales, kept.shape[1], group)
    if codebook is None:
        limit = 2 ** (bits - 1) - 1
        integers = _rounded(kept, columns, limit)
        codes = (integers + (limit + 1)).astype(np.uint8)
        return _stored(codes, integers, mask, scales, bits, group, None)
    steps = np.divide(kept, columns, out=np.zeros_like(kept), where=columns > 0)
    ends = (codebook[:-1].astype(np.float32) + codebook[1:]) / 2
    codes = np.searchsorted(ends, steps).astype(np.uint8)
    return _stored(codes, codebook[codes], mask, scales, bits, group, codebook)


def dequantise(codes: Codes) -> NDArray[np.float32]:
    """The decoded weights, with shape `(rows, cols)`."""
    return codes.int8() * _spread(codes.scales, codes.cols, codes.group)


def _stored(
    codes: NDArray[np.uint8],
    integers: NDArray[np.float32] | NDArray[np.int8],
    mask: NDArray[np.bool_] | None,
    scales: NDArray[np.float32],
    bits: int,
    group: int,
    codebook: NDArray[np.int8] | None,
) -> Codes:
    """Codes of which a sparse matrix stores only those of non-zero weights."""
    if mask is not None:
        mask = mask & (integers != 0)
        codes = np.where(mask, codes, np.uint8(0))
    return Codes(codes=codes, mask=mask, scales=scales, bits=bits, group=group, codebook=codebook)


def _spread(scales: NDArray[np.float32], cols: int, group: int) -> NDArray[np.float32]:
    """Expand scales with shape `(rows, groups)` to columns: `(rows, cols)`, or `(rows, 1)`."""
    return scales[:, np.arange(cols) // group] if group else scales


def _starts(cols: int, group: int) -> NDArray[np.int64]:
    """The first column of each group."""
    return np.arange(group_count(cols, group)) * group


def _rounded(weights: NDArray[np.float32], scales: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
    """Whole numbers within +-limit; 0 if the scale is 0, as for a row of zeros."""
    steps = np.divide(weights, scales, out=np.zeros_like(weights), where=scales > 0)
    return np.rint(steps).clip(-limit, limit)


def _least_error(
    weights: NDArray[np.float32], largest: NDArray[np.float32], group: int, limit: int
) -> NDArray[np.float32]:
    """Of the scales `_SHRINK * largest`, each row's or group's with the least squared error."""
    cols = weights.shape[1]
    best, least = largest, np.full(largest.shape, np.inf)
    for factor in _SHRINK:
        scales = largest * factor
        columns = _spread(scales, cols, group)
        difference = weights - _rounded(weights, columns, limit) * columns.astype(np.float64)
        error = np.add.reduceat(difference**2, _starts(cols, group), axis=1)
        best = np.where(error < least, scales, best)
        least = np.minimum(error, least)
    return best


def _learn_levels(
    values: NDArray[np.float64], counts: NDArray[np.int64], size: int, iterations: int, seed: int
) -> NDArray[np.float64]:
    """`size` increasing levels that approximately minimise the mean squared distance to values with these counts."""
    rng = np.random.default_rng(seed)
    levels = np.zeros(size)
    remaining = counts.astype(np.float64)  # a value is drawn with the probability of its squared distance
    distance = np.full(len(values), np.inf)
    for index in range(size):
        total = remaining.sum()
        if total == 0:  # fewer values than levels: the remaining levels are 0
            break
        levels[index] = values[rng.choice(len(values), p=remaining / total)]
        distance = np.minimum(distance, (values - levels[index]) ** 2)
        remaining = counts * distance
    levels.sort()
    for _ in range(iterations):
        nearest = np.searchsorted((levels[:-1] + levels[1:]) / 2, values)
        weight = np.bincount(nearest, counts, size)
        moved = np.divide(
            np.bincount(nearest, counts * values, size), weight, out=levels.copy(), where=weight > 0
        )
        if (moved == levels).all():
            break
        levels = moved
    return levels


def _kept(weights: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """The weights, checked, with zeros where the mask is false."""
    _check_array("weights", weights, np.float32, None)
    _check_size(weights.shape)
    _check_values("weights", weights, np.isfinite(weights), "finite")
    if mask is None:
        return weights
    _check_array("mask", mask, np.bool_, weights.shape)
    return np.where(mask, weights, np.float32(0))


def _check_options(bits: int, group: int) -> None:
    if not 2 <= bits <= 8:
        raise bad("codes", "bits", bits, "2 to 8")
    if not 0 <= group < 1 << 32 or group % GROUP_STEP:
        raise bad("codes", "group", group, GROUPS)


def _check_codebook_bits(bits: int) -> None:
    if bits > CODEBOOK_BITS:
        raise bad("codes", "bits", bits, f"at most {CODEBOOK_BITS} with a codebook")


def _check_size(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or not (1 <= shape[0] <= MAX_ROWS and 1 <= shape[1] <= MAX_COLS):
        raise bad("codes", "shape", shape, f"(rows, cols) of at least 1, at most {MAX_COLS} columns")


def _check_values(field: str, array: NDArray[np.float32], right: NDArray[np.bool_], expected: str) -> None:
    if not right.all():
        raise bad("codes", field, float(array[~right][0]), f"values that are {expected}")


def _check_array(field: str, array: object, dtype: type[np.generic], shape: tuple[int, ...] | None) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise bad("codes", field, getattr(array, "dtype", type(array)), f"an array of {np.dtype(dtype)}")
    if shape is not None and array.shape != shape:
        raise bad("codes", f"{field}' shape", array.shape, str(shape))
