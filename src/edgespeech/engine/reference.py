"""The slow, obvious twin of every native kernel; integer results must be equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
