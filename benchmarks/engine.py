"""Products of the shipped model, kernel by kernel, cold and warm, and a chunk of speech through all of it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

MATRICES = (
    "transcriber.enter.weight",
    "transcriber.lstms.0.weight_ih_l0",
    "transcriber.leave.1.weight",
    "predictor.mix.weight",
    "joiner.weight",
)
"""One of each shape."""
ISAS = ("scalar", "avx2", "avx512", "neon")
EVICT_BYTES = 128 * 2**20
"""Read between products that are to find no weight in a cache: more than the last-level cache."""
FRAMES = 12
"""Feature frames of a chunk of 0.12 s."""


class _Product:
    """A matrix and a vector for it."""

    params = (MATRICES, ISAS)
    param_names = ("matrix", "kernel")

    def setup(self, matrix: str, isa: str) -> None:
        from edgespeech.packed.loader import EdgeFile, isas

        path = shipped()
        if isa not in isas():
            raise NotImplementedError(f"this CPU has no {isa}")
        self.file = EdgeFile(path)
        rows, cols = self.file.shape(matrix)
        self.weight_bytes = rows * cols  # int8
        self.q = np.ones((1, cols), np.int8)
        self.file.multiply(matrix, self.q, isa)


class WarmProducts(_Product):
    """The weights are in the cache."""

    def time_product(self, matrix: str, isa: str) -> None:
        self.file.multiply(matrix, self.q, isa)


class ColdProducts(_Product):
    """The weights are in memory alone."""

    number = 1
    repeat = 30
    warmup_time = 0.0

    def setup(self, matrix: str, isa: str) -> None:
        super().setup(matrix, isa)
        self.evict = np.ones(EVICT_BYTES // 8, np.int64)
        self.evict.max()

    def time_product(self, matrix: str, isa: str) -> None:
        self.file.multiply(matrix, self.q, isa)

    def track_share_of_read_bandwidth(self, matrix: str, isa: str) -> float:
        """Weights a second over what one core reads from memory; the median of a few products."""
        products, reads = [], []
        for _ in range(self.repeat):
            start = time.perf_counter()
            self.evict.max()
            reads.append(time.perf_counter() - start)
            start = time.perf_counter()
            self.file.multiply(matrix, self.q, isa)
            products.append(time.perf_counter() - start)
        read = EVICT_BYTES / float(np.median(reads))
        return self.weight_bytes / float(np.median(products)) / read


class Chunk:
    """A chunk of noise through the whole model, greedy and with the beam that recognisers use."""

    params = (1, 8)
    param_names = ("beam",)

    def setup(self, beam: int) -> None:
        from edgespeech.packed.runtime import PackedModel

        self.stream = PackedModel(shipped()).open(beam)
        self.features = np.random.default_rng(0).normal(10, 3, (FRAMES, 80)).astype(np.float32)

    def time_accept(self, beam: int) -> None:
        self.stream.accept(self.features)


class Load:
    """The packed model, from its file to where a stream can be opened."""

    def setup(self) -> None:
        self.path = shipped()

    def time_load(self) -> None:
        from edgespeech.packed.runtime import PackedModel

        PackedModel(self.path).close()


def shipped() -> Path:
    """The packed model that ships.

    Raises:
        NotImplementedError: there is none, or no engine: asv then skips the benchmark.
    """
    from edgespeech.systems.edge_packed import EdgePacked

    recogniser = EdgePacked()
    if reason := recogniser.missing():
        raise NotImplementedError(reason)
    return recogniser.path()
