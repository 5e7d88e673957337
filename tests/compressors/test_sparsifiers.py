"""Sparsifiers: which weights go, when, and which may come back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgespeech.compressors._sparsifier import BLOCK, Sparsifier, cubic, magnitude_mask
from edgespeech.compressors.compressed_sensing import CompressedSensing
from edgespeech.compressors.gradual import Gradual
from edgespeech.compressors.l1 import L1
from edgespeech.compressors.one_shot import OneShot
from edgespeech.training.compressor import Moment

STEPS, RATE = 20, 0.01


def matrix(seed: int = 0) -> Tensor:
    return torch.randn(6, 130, generator=torch.Generator().manual_seed(seed))


def begun(technique: type[Sparsifier], weights: Tensor, **options: Any) -> Sparsifier:
    sparsifier = technique.begin(weights, technique.parse(options))
    assert isinstance(sparsifier, Sparsifier)
    return sparsifier


def moment(step: int) -> Moment:
    return Moment(step, STEPS, RATE)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 150),
    st.floats(0, 0.99),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_masks_keep_the_largest(rows: int, cols: int, sparsity: float, balanced: bool, seed: int) -> None:
    # Whole numbers, so that many are equal.
    weights = torch.randint(-4, 5, (rows, cols), generator=torch.Generator().manual_seed(seed)).float()
    mask = magnitude_mask(weights, sparsity, balanced=balanced)
    places = [(r, c) for r in range(rows) for c in range(0, cols, BLOCK)] if balanced else [None]
    for place in places:
        where = (slice(None), slice(None))
        if place is not None:
            where = (slice(place[0], place[0] + 1), slice(place[1], place[1] + BLOCK))
        kept, magnitudes = mask[where], weights[where].abs()
        assert int((~kept).sum()) == round(sparsity * kept.numel())
        if kept.any() and not kept.all():
            assert magnitudes[kept].min() >= magnitudes[~kept].max()


def test_sparsity_grows_fast_first() -> None:
    assert [cubic(0.8, done) for done in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 0.7, 0.8])


def test_one_shot_chooses_once() -> None:
    sparsifier = begun(OneShot, matrix(), sparsity=0.5)
    first = sparsifier.before(matrix(), moment(0))
    assert torch.equal(first != 0, magnitude_mask(matrix(), 0.5, balanced=False))
    later = sparsifier.before(matrix(1), moment(1))
    assert torch.equal(later != 0, first != 0)
    assert torch.equal(sparsifier.after(matrix(2), moment(1)) != 0, first != 0)
    assert torch.equal(sparsifier.finish(matrix(2)), torch.where(first != 0, matrix(2), 0.0))


def test_gradual_zeros_grow_and_stay() -> None:
    sparsifier = begun(Gradual, matrix(), sparsity=0.8, until=0.5, every=3)
    weights, left = matrix(), []
    for step in range(STEPS):
        weights = sparsifier.before(weights, moment(step))
        left.append(weights != 0)
        weights = sparsifier.after(weights + 0.01 * matrix(step + 1), moment(step))
    counts = [float((~mask).float().mean()) for mask in left]
    expected = [cubic(0.8, min(1.0, (step - step % 3) / 10)) for step in range(10)] + [0.8] * 10
    assert counts == pytest.approx(expected, abs=1e-3)
    assert all((after <= before).all() for before, after in pairwise(left))


def test_l1_shrinks_every_weight_and_then_cuts() -> None:
    sparsifier = begun(L1, matrix(), sparsity=0.5, until=0.5, strength=2.0)
    assert torch.equal(sparsifier.before(matrix(), moment(0)), matrix())
    after = sparsifier.after(matrix(), moment(9))
    torch.testing.assert_close(after.abs(), (matrix().abs() - 2.0 * RATE).clamp(min=0))
    assert (after * matrix() >= 0).all()
    cut = sparsifier.before(matrix(), moment(10))
    assert torch.equal(cut != 0, magnitude_mask(matrix(), 0.5, balanced=False))
    assert torch.equal(sparsifier.after(cut, moment(10)), cut)


def test_compressed_sensing_lets_weights_come_back_until_the_mask_is_fixed() -> None:
    sparsifier = begun(CompressedSensing, matrix(), sparsity=0.5, ramp=0.25, until=0.5, every=1, strength=2.0)
    weights = matrix()
    for step in range(6):
        assert torch.equal(sparsifier.before(weights, moment(step)), weights)
    gone = (weights.abs() == weights.abs()[sparsifier.seen(weights) == 0].max()).nonzero()[0]
    row, col = int(gone[0]), int(gone[1])
    (gradient,) = torch.autograd.grad(sparsifier.seen(weights.requires_grad_()).sum(), weights)
    assert gradient.all()  # the gradient of the masked model reaches all weights
    weights = weights.detach()
    shrunk = sparsifier.after(weights, moment(5))
    out = sparsifier.seen(weights) == 0
    assert torch.equal(shrunk[~out], weights[~out])
    torch.testing.assert_close(shrunk[out].abs(), (weights[out].abs() - 2.0 * RATE).clamp(min=0))
    weights[row, col] = 5.0
    sparsifier.before(weights, moment(6))
    assert sparsifier.seen(weights)[row, col] == 5.0

    fixed = sparsifier.before(weights, moment(10))
    assert float((fixed == 0).float().mean()) == pytest.approx(0.5, abs=1e-3)
    assert torch.equal(sparsifier.seen(fixed), fixed)
    weights[row, col] = 0.0
    assert (sparsifier.before(weights, moment(11)) != 0).sum() == (fixed != 0).sum() - 1
    (gradient,) = torch.autograd.grad(sparsifier.seen(fixed.requires_grad_()).sum(), fixed)
    assert torch.equal(gradient, (fixed != 0).float())
    assert not sparsifier.after(matrix(3), moment(11))[fixed == 0].any()


@pytest.mark.parametrize("technique", [OneShot, Gradual, L1, CompressedSensing])
@pytest.mark.parametrize("balanced", [False, True])
def test_all_reach_their_sparsity(technique: type[Sparsifier], balanced: bool) -> None:
    sparsifier = begun(technique, matrix(), sparsity=0.7, balanced=balanced)
    weights = matrix()
    for step in range(STEPS):
        weights = sparsifier.before(weights, moment(step))
        weights = sparsifier.after(weights + 0.1 * matrix(step + 1), moment(step))
    finished = sparsifier.finish(weights)
    assert isinstance(finished, Tensor)
    assert float((finished == 0).float().mean()) == pytest.approx(0.7, abs=0.01)
    assert torch.equal(finished, weights)
    if balanced:
        counts = {int((block != 0).sum()) for row in finished for block in torch.split(row, BLOCK)[:-1]}
        assert counts == {BLOCK - round(0.7 * BLOCK)}
