"""Reference implementations of all native kernels; integer results must be equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import bad
from edgespeech.packed.codes import Codes

MAX_ELEMENTS = 1 << 16


def dot_int8(a: NDArray[np.int8], b: NDArray[np.int8]) -> int:
    """Dot product of two int8 vectors, with shape `(N,)`, `N <= 65536`, exact in int32.

    Raises:
        ValueError: the lengths differ, or there are too many elements.
    """
    if a.shape != b.shape:
        raise ValueError("dot_int8: a and b differ in length")
    if a.shape[0] > MAX_ELEMENTS:
        raise ValueError("dot_int8: more than 65536 elements")
    return int(np.dot(a.astype(np.int64), b.astype(np.int64)))


def unpack_row(
    values: bytes, start: int, mask: NDArray[np.uint64] | None, cols: int, bits: int
) -> tuple[list[int | None], int]:
    """Codes of one row, read bit by bit from a packed matrix.

    Args:
        values: the packed codes of all rows.
        start: byte of `values` where the row starts.
        mask: the row's words, with shape `(ceil(cols / 64),)`: bit j of word k is set if column 64 k + j is stored.
            None for a dense matrix.
        cols: columns.
        bits: of a code, 2 to 8; the first code is in the lowest bits of the first byte.

    Returns:
        The code of each column, None if it is not stored; and the byte at which the next row starts.
    """
    codes: list[int | None] = []
    position = 8 * start  # of the next bit
    for column in range(cols):
        if mask is not None and not int(mask[column // 64]) >> (column % 64) & 1:
            codes.append(None)
            continue
        code = 0
        for bit in range(bits):
            code |= (values[position // 8] >> (position % 8) & 1) << bit
            position += 1
        codes.append(code)
    return codes, (position + 7) // 8


def quantise_activations(x: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Activations as int8, with one scale per vector.

    Args:
        x: with shape `(N, cols)`, finite.

    Returns:
        q: with shape `(N, cols)`, rint(x / scale), half to even, within -127..127.
        scale: with shape `(N,)`, max|x| / 127; a vector whose scale is 0 is all zeros.

    Raises:
        EdgeSpeechError: x is not such an array.
    """
    if x.ndim != 2 or x.dtype != np.float32:
        raise bad("quantise_activations", "x", f"{x.dtype} {x.shape}", "float32 (N, cols)")
    if not np.isfinite(x).all():
        raise bad("quantise_activations", "x", float(x[~np.isfinite(x)][0]), "finite values")
    q = np.zeros(x.shape, np.int8)
    scales = np.zeros(len(x), np.float32)
    for n, vector in enumerate(x):
        scales[n] = np.abs(vector).max(initial=0) / np.float32(127)
        if scales[n] > 0:
            # The division rounds, most of all if the scale is near the smallest float: hence the limits.
            q[n] = np.rint(vector / scales[n]).clip(-127, 127)
    return q, scales


def multiply(codes: Codes, q: NDArray[np.int8]) -> NDArray[np.int32]:
    """Integer products of every row, group by group.

    Args:
        codes: a matrix of `(rows, cols)`.
        q: activations, with shape `(N, cols)`.

    Returns:
        With shape `(N, rows, groups)`: the sum over the group's columns of int8 weight * q, exact.

    Raises:
        EdgeSpeechError: q is not such an array.
    """
    if q.ndim != 2 or q.dtype != np.int8 or q.shape[1] != codes.cols:
        raise bad("multiply", "q", f"{q.dtype} {q.shape}", f"int8 (N, {codes.cols})")
    weights = codes.int8()
    width = codes.group or codes.cols
    out = np.zeros((len(q), codes.rows, codes.groups), np.int32)
    for n in range(len(q)):
        for row in range(codes.rows):
            for group in range(codes.groups):
                columns = slice(group * width, (group + 1) * width)
                out[n, row, group] = dot_int8(weights[row, columns], q[n, columns])
    return out


def product(codes: Codes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matrix times each vector, in float32, with quantised activations.

    Args:
        codes: a matrix of `(rows, cols)`.
        x: with shape `(N, cols)`, finite.

    Returns:
        With shape `(N, rows)`: activation scale * sum over groups, in order, of weight scale * integer product.

    Raises:
        EdgeSpeechError: x is not such an array.
    """
    q, scales = quantise_activations(x)
    integers = multiply(codes, q).astype(np.float32)
    y = np.zeros(integers.shape[:2], np.float32)
    for n in range(len(x)):
        for row in range(codes.rows):
            total = np.float32(0)
            for group in range(codes.groups):
                total += codes.scales[row, group] * integers[n, row, group]
            y[n, row] = scales[n] * total
    return y
