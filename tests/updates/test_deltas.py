from __future__ import annotations

import numpy as np
import pytest

from edgespeech.packed.codes import Codes, dequantise, quantise
from edgespeech.packed.edge_file import Tensor
from edgespeech.updates.budget import SEED, hashed, low_rank
from edgespeech.updates.deltas import (
    Delta,
    Hashed,
    LowRank,
    Op,
    Sparse,
    added,
    dense_of,
    get_delta,
    put_delta,
)
from edgespeech.updates.entropy import Reader, Writer

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((12, 70)).astype(np.float32)


def again(delta: Delta, rows: int = 12, cols: int = 70) -> Delta:
    out = Writer()
    op = put_delta(out, delta)
    reader = Reader(out.finish())
    found = get_delta(reader, op, rows, cols)
    assert reader.left == 0
    return found


def test_the_reference_of_a_requantised_low_rank_delta() -> None:
    """Weight by weight, in Python's own numbers."""
    old = quantise(WEIGHTS, bits=5)
    delta = LowRank(
        RNG.integers(-127, 128, (12, 3)), RNG.integers(-127, 128, (3, 70)), np.array([0, 4, 2]), 2.0**-14
    )
    new = added(old, again(delta))
    assert isinstance(new, Codes)
    for row in range(12):
        for col in range(70):
            whole = sum(
                int(delta.left[row, k]) * int(delta.right[k, col]) << int(delta.shifts[k]) for k in range(3)
            )
            steps = whole * 2.0**-14 / float(old.scales[row, 0])
            wanted = max(-15, min(15, round(int(old.int8()[row, col]) + steps)))
            assert int(new.int8()[row, col]) == wanted
    assert new.scales.tobytes() == old.scales.tobytes()


def test_zeros_stay_under_low_rank_and_hashed_deltas_and_may_go_under_sparse_ones() -> None:
    mask = RNG.random(WEIGHTS.shape) < 0.5
    old = quantise(WEIGHTS, bits=4, mask=mask)
    for delta in (
        LowRank(np.full((12, 1), 127), np.full((1, 70), 127), np.array([3]), 1e-4),
        Hashed(np.array([100, -100, 50]), 0.01, SEED),
    ):
        new = added(old, again(delta))
        assert isinstance(new, Codes)
        assert new.mask is not None
        assert old.mask is not None
        assert not (new.mask & ~old.mask).any()
        assert (new.int8()[new.mask] != 0).all()
        assert (dequantise(new) != dequantise(old)).any()
    steps = np.zeros(WEIGHTS.shape, np.int64)
    row, col = np.argwhere(~mask)[0]
    steps[row, col] = 3
    new = added(old, again(Sparse(steps)))
    assert isinstance(new, Codes)
    assert new.mask is not None
    assert new.int8()[row, col] == 3
    assert (new.int8() != old.int8()).sum() == 1


@pytest.mark.parametrize("old", [WEIGHTS, WEIGHTS.astype(np.float16)], ids=["floats", "halves"])
def test_floats_are_added_in_double_precision(old: Tensor) -> None:
    assert not isinstance(old, Codes)
    steps = RNG.integers(-3, 4, WEIGHTS.shape)
    new = added(old, again(Sparse(steps, 0.125)))
    assert not isinstance(new, Codes)
    assert new.dtype == old.dtype
    assert np.array_equal(new, (old.astype(np.float64) + steps * 0.125).astype(old.dtype))


def test_a_low_rank_change_is_found_again() -> None:
    change = RNG.standard_normal((40, 2)) @ RNG.standard_normal((2, 60))
    u, s, v = np.linalg.svd(change, full_matrices=False)
    found = dense_of(low_rank(u, s, v, 2), 40, 60)
    assert np.abs(found - change).max() < 0.02 * np.abs(change).max()


def test_a_hashed_change_is_found_again() -> None:
    true = Hashed(RNG.integers(-127, 128, 50), 0.01, SEED)
    change = dense_of(true, 40, 60)
    found = hashed(change, np.ones(change.shape, np.bool_), 50)
    assert np.abs(dense_of(found, 40, 60) - change).max() < 0.005


def test_deltas_are_what_they_say() -> None:
    out = Writer()
    assert put_delta(out, Sparse(np.zeros((1, 1), np.int64))) is Op.SPARSE
