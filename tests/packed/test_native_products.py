"""The products of every kernel of this machine equal those of the slow twin, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgespeech.packed.codes import Codes, quantise
from edgespeech.packed.edge_file import write_edge
from edgespeech.packed.loader import EdgeFile, chosen_isa, isas
from edgespeech.packed.reference import multiply
from helpers_edge import random_codes

# Below, at, above and at multiples of 16, 32 and 64, the widths of vectors and mask words.
COLS = [1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 191, 193, 256, 320, 449, 512, 1000]
ROWS = [1, 2, 3, 4, 5, 7, 8, 9]
SPARSITIES = [None, 0.0, 0.5, 0.9, 1.0]
LAYOUTS = [
    (bits, codebook) for bits in range(2, 9) for codebook in (False, True) if bits <= 6 or not codebook
]


def activations(rng: np.random.Generator, batch: int, cols: int) -> NDArray[np.int8]:
    return rng.integers(-127, 128, (batch, cols), dtype=np.int8)


def assert_equal(
    path: Path, matrices: Mapping[str, Codes], batches: Mapping[str, NDArray[np.int8]], isa: str
) -> None:
    write_edge(path, matrices, {})
    with EdgeFile(path) as file:
        for name, codes in matrices.items():
            q = batches[name]
            assert np.array_equal(file.multiply(name, q, isa), multiply(codes, q)), name


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("cols", COLS)
def test_widths_layouts_and_sparsities(tmp_path: Path, cols: int, isa: str) -> None:
    rng = np.random.default_rng(cols)
    matrices = {
        f"{bits} bits, codebook {codebook}, sparsity {sparsity}": random_codes(
            rng, (int(rng.choice(ROWS)), cols), bits, 0, sparsity=sparsity, codebook=codebook
        )
        for bits, codebook in LAYOUTS
        for sparsity in SPARSITIES
    }
    batches = {name: activations(rng, int(rng.integers(1, 9)), cols) for name in matrices}
    assert_equal(tmp_path / "model.edge", matrices, batches, isa)


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("batch", range(1, 9))
def test_rows_and_batches(tmp_path: Path, batch: int, isa: str) -> None:
    rng = np.random.default_rng(batch)
    matrices = {
        f"{rows} rows, {bits} bits, sparsity {sparsity}": random_codes(
            rng, (rows, 130), bits, 0, sparsity=sparsity, codebook=False
        )
        for rows in ROWS
        for bits in (4, 7, 8)
        for sparsity in (None, 0.5)
    }
    assert_equal(
        tmp_path / "model.edge", matrices, {name: activations(rng, batch, 130) for name in matrices}, isa
    )


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("group", [64, 128, 192, 256, 1024])
def test_groups(tmp_path: Path, group: int, isa: str) -> None:
    rng = np.random.default_rng(group)
    matrices = {
        f"{cols} columns, {bits} bits, codebook {codebook}, sparsity {sparsity}": random_codes(
            rng, (3, cols), bits, group, sparsity=sparsity, codebook=codebook
        )
        for cols in (1, 64, 65, 200, 256, 500, 1024)
        for bits, codebook in [(2, False), (4, True), (5, False), (8, False)]
        for sparsity in (None, 0.5, 1.0)
    }
    batches = {name: activations(rng, 2, codes.cols) for name, codes in matrices.items()}
    assert_equal(tmp_path / "model.edge", matrices, batches, isa)


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("code", [0, 255])
@pytest.mark.parametrize("activation", [-127, 127])
def test_the_longest_rows_of_extremes(tmp_path: Path, code: int, activation: int, isa: str) -> None:
    cols = 65536
    matrices = {
        f"{bits} bits, sparse {sparse}": Codes(
            codes=np.full((2, cols), code & (2**bits - 1), np.uint8),
            mask=np.ones((2, cols), bool) if sparse else None,
            scales=np.ones((2, 1), np.float32),
            bits=bits,
            group=0,
            codebook=None,
        )
        for bits in (2, 5, 8)
        for sparse in (False, True)
    }
    batches = {name: np.full((2, cols), activation, np.int8) for name in matrices}
    assert_equal(tmp_path / "model.edge", matrices, batches, isa)


@pytest.mark.parametrize("isa", isas())
def test_runs_of_zeros_and_of_stored_codes(tmp_path: Path, isa: str) -> None:
    # Whole words of a mask that are empty or full, in every order, and one single stored code.
    rng = np.random.default_rng(0)
    matrices = {}
    for bits in range(2, 9):
        codes = random_codes(rng, (16, 4 * 64), bits, 0, sparsity=None, codebook=False).codes
        words = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(bool)
        single = np.zeros((16, 256), bool)
        single[np.arange(16), np.arange(16) * 17] = True
        for name, mask in [("words", np.repeat(words, 64, axis=1)), ("single", single)]:
            matrices[f"{name} {bits}"] = Codes(
                codes=np.where(mask, codes, np.uint8(0)),
                mask=mask,
                scales=np.ones((16, 1), np.float32),
                bits=bits,
                group=0,
                codebook=None,
            )
    assert_equal(tmp_path / "model.edge", matrices, {n: activations(rng, 3, 256) for n in matrices}, isa)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_layouts(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    bits, codebook = data.draw(st.sampled_from(LAYOUTS))
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 700)))
    group = 64 * data.draw(st.integers(0, 4))
    sparsity = data.draw(st.none() | st.floats(0, 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    codes = random_codes(rng, shape, bits, group, sparsity=sparsity, codebook=codebook)
    q = activations(rng, data.draw(st.integers(1, 8)), shape[1])
    for isa in isas():
        assert_equal(tmp_path_factory.getbasetemp() / "random.edge", {"w": codes}, {"w": q}, isa)


def test_known_value_and_default_kernel(tmp_path: Path) -> None:
    # Each row's largest is 7, so its scale is 1: by hand, 7 * 2 - 7 * 3 = -7 and 3 * 2 - 3 + 7 * 127 = 892.
    weights = np.array([[7, -7, 0], [3, -1, 7]], np.float32)
    codes = quantise(weights, bits=4)
    write_edge(tmp_path / "model.edge", {"w": codes}, {})
    q = np.array([[2, 3, 127]], np.int8)
    with EdgeFile(tmp_path / "model.edge") as file:
        for isa in [*isas(), None]:
            assert file.multiply("w", q, isa).tolist() == [[[-7], [892]]]
        assert np.array_equal(file.multiply("w", q), file.multiply("w", q, chosen_isa()))
