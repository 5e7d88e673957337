"""A `.edge` file in the native engine: mapped into memory, checked, and multiplied in place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgespeech.core.closing import Closing
from edgespeech.engine import native
from edgespeech.errors import EdgeSpeechError, bad


class EdgeFile(Closing):
    """An open file; `edgespeech.packed.edge_file.read_edge` is its reference implementation and documents the format.

    Any number of threads may use one file at once. It must not be rewritten in place while it is open; it may be
    replaced or removed.

    Args:
        path: the file.

    Raises:
        EdgeSpeechError: it is missing, foreign, of another version, cut, or damaged; the message names the file, the
            tensor, the field, the value and the expectation. Every method raises it after `close`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with native_errors():
            self._file = native().EdgeFile(str(path))
            told: str = self._file.meta
        self.meta = meta_of(told, str(path))

    def close(self) -> None:
        """Close the file. Its memory is released with the last array from `floats`."""
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Names of the tensors, in the file's order."""
        with native_errors():
            return cast("list[str]", self._file.names)

    @property
    def packed_bytes(self) -> int:
        """Bytes of all masks, values, scales and codebooks, without padding, table and metadata."""
        with native_errors():
            return cast("int", self._file.packed_bytes)

    def shape(self, name: str) -> tuple[int, int]:
        """Rows and columns of a tensor.

        Raises:
            EdgeSpeechError: there is no such tensor.
        """
        with native_errors():
            return cast("tuple[int, int]", self._file.shape(name))

    def floats(self, name: str) -> NDArray[np.float32] | NDArray[np.float16]:
        """A tensor of floats, with shape `(rows, cols)`, read-only: a view of the file's memory, which it keeps alive.

        Raises:
            EdgeSpeechError: there is no such tensor, or it holds codes.
        """
        with native_errors():
            return cast("NDArray[np.float32] | NDArray[np.float16]", self._file.floats(name))

    def multiply(self, name: str, q: NDArray[np.int8], isa: str | None = None) -> NDArray[np.int32]:
        """Integer products of every row of a matrix of codes, group by group; other threads run meanwhile.

        Args:
            name: the tensor.
            q: activations, with shape `(N, cols)`, N 1 to 8, values -127 to 127.
            isa: the kernel, one of `isas()`; None for `chosen_isa()`.

        Returns:
            With shape `(N, rows, groups)`: the sum over the group's columns of int8 weight * q, exact.

        Raises:
            EdgeSpeechError: there is no such tensor or kernel, the tensor holds floats, or q is not such an array.
        """
        if not isinstance(q, np.ndarray) or q.dtype != np.int8 or q.ndim != 2:
            found = f"{q.dtype} {q.shape}" if isinstance(q, np.ndarray) else type(q).__name__
            raise bad(f"{self.path}: tensor {name}", "q", found, "int8 (N, cols)")
        with native_errors():
            return cast("NDArray[np.int32]", self._file.multiply(name, np.ascontiguousarray(q), isa))


def isas() -> list[str]:
    """The kernels that this CPU supports, of scalar, avx2, avx512 and neon."""
    return cast("list[str]", native().isas())


def chosen_isa() -> str:
    """The default kernel: this CPU's best, or the one that EDGESPEECH_ISA names.

    Raises:
        EdgeSpeechError: EDGESPEECH_ISA names an unknown kernel, or one that this CPU lacks.
    """
    with native_errors():
        return cast("str", native().chosen_isa())


def meta_of(told: str, where: str) -> dict[str, Any]:
    """Parse a file's metadata.

    Raises:
        EdgeSpeechError: it is not JSON.
    """
    try:
        meta: dict[str, Any] = json.loads(told)
    except (ValueError, RecursionError) as error:
        raise bad(where, "meta", told, f"JSON ({error})") from error
    return meta


@contextmanager
def native_errors() -> Iterator[None]:
    """Convert errors of the native code to `EdgeSpeechError`, with the same message."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise EdgeSpeechError(str(error)) from error
