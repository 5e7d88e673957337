"""Search for the layout of each matrix with the least predicted time, with unchanged values."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import bits_per_weight, write_edge

_REPEATS = 30
"""Number of timed products per matrix; the fastest counts, since other load only adds time."""
_READ_BYTES = 128 << 20
"""Bytes read to measure the bandwidth: larger than the last-level cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The machine for which layouts are chosen.

    Attributes:
        cache_bytes: bytes of weights that remain in the cache between frames.
        bandwidth: bytes a second that one core reads from memory.
        seconds: time of one product with a matrix that is in the cache.
    """

    cache_bytes: int
    bandwidth: float
    seconds: Callable[[Codes], float]


def this_machine(cache_bytes: int) -> Machine:
    """This machine: its bandwidth is measured now, products on demand."""
    block = np.ones(_READ_BYTES // 8, np.int64)
    return Machine(
        cache_bytes=cache_bytes,
        bandwidth=_READ_BYTES / min(_timed(block.max) for _ in range(5)),
        seconds=product_seconds,
    )


def product_seconds(codes: Codes) -> float:
    """Time of one product on this machine, in the cache, by the kernel that `EDGESPEECH_ISA` or the CPU chooses.

    Raises:
        EdgeSpeechError: the native engine is not built.
    """
    from edgespeech.packed.loader import EdgeFile

    q = np.ones((1, codes.cols), np.int8)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "one.edge"
        write_edge(path, {"w": codes}, {})
        with EdgeFile(path) as file:
            return min(_timed(lambda: file.multiply("w", q)) for _ in range(_REPEATS))


class _Way(NamedTuple):
    """One layout of a matrix, and its cost."""

    codes: Codes
    n_bytes: float
    cached_s: float
    memory_s: float


def search_layouts(
    matrices: Mapping[str, Codes],
    machine: Machine,
    *,
    fixed_bytes: float = 0,
    looked_up: Collection[str] = (),
) -> dict[str, Codes]:
    """Each matrix stored dense or sparse, in its own bits or in 8, so that a frame takes the least time.

    From memory, a product takes at least the time to read its bytes; the model is in the cache if all of it fits. The
    faster of two plans is chosen: the fastest layout of every matrix in the cache, or from memory.

    Args:
        matrices: by name; sparse where they have zeros.
        machine: the target machine.
        fixed_bytes: of all other tensors of the model.
        looked_up: names of matrices whose rows are looked up; they are stored in the fewest bytes.

    Returns:
        By the same names, with the same values.
    """
    options: list[list[_Way]] = []
    for name, codes in matrices.items():
        ways = []
        for way in _same_values(codes):
            n_bytes = bits_per_weight(way) * way.codes.size / 8
            cached_s = 0.0 if name in looked_up else machine.seconds(way)
            memory_s = 0.0 if name in looked_up else max(cached_s, n_bytes / machine.bandwidth)
            ways.append(_Way(way, n_bytes, cached_s, memory_s))
        options.append(ways)
    plans: list[list[_Way]] = [
        [min(ways, key=lambda way: (way.cached_s, way.n_bytes)) for ways in options],
        [min(ways, key=lambda way: (way.memory_s, way.n_bytes)) for ways in options],
    ]

    def seconds(plan: list[_Way]) -> float:
        if fixed_bytes + sum(way.n_bytes for way in plan) <= machine.cache_bytes:
            return sum(way.cached_s for way in plan)
        return sum(way.memory_s for way in plan)

    quickest = min(plans, key=seconds)
    return {name: way.codes for name, way in zip(matrices, quickest, strict=True)}


def _same_values(codes: Codes) -> list[Codes]:
    """The equivalent layouts of these codes: dense and sparse, in 8 bits and in their own.

    Codes with a codebook are unchanged or take 8 bits, since the codebook need not have a level of zero.
    """
    ways = [] if codes.codebook is None else [codes]
    for bits in {8} if codes.codebook is not None else {codes.bits, 8}:
        stored = (codes.int8() + np.int16(2 ** (bits - 1))).astype(np.uint8)
        ways += [_stored(codes, stored, bits, mask) for mask in (None, codes.int8() != 0)]
    return ways


def _stored(codes: Codes, stored: NDArray[np.uint8], bits: int, mask: NDArray[np.bool_] | None) -> Codes:
    kept = stored if mask is None else np.where(mask, stored, np.uint8(0))
    return replace(codes, codes=kept, mask=mask, bits=bits, codebook=None)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
