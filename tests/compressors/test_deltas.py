"""Deltas: how much of a matrix may change, and that the update file finds a trained change again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgespeech.compressors._delta import Delta, share_that_changes
from edgespeech.compressors.delta_hashed import HashedDelta
from edgespeech.compressors.delta_low_rank import LowRankDelta
from edgespeech.compressors.delta_sparse import SparseDelta
from edgespeech.errors import EdgeSpeechError
from edgespeech.training.compressor import Moment
from edgespeech.updates.budget import hashed
from edgespeech.updates.deltas import dense_of

STEPS = 20
ALL: list[type[Delta]] = [LowRankDelta, HashedDelta, SparseDelta]


def matrix(seed: int = 0) -> Tensor:
    return torch.randn(30, 50, generator=torch.Generator().manual_seed(seed))


def begun(technique: type[Delta], **options: Any) -> Delta:
    delta = technique.begin(matrix(), technique.parse({"budget": 0.1, **options}))
    assert isinstance(delta, Delta)
    return delta


def trained(delta: Delta, *, steps: int = STEPS) -> Tensor:
    """Gradient steps towards another matrix, as the training loop takes them."""
    latent, goal = matrix(), matrix() + 0.1 * matrix(1)
    for step in range(steps):
        moment = Moment(step, STEPS, 0.1)
        latent = delta.before(latent, moment).detach().requires_grad_()
        loss = ((delta.seen(latent) - goal) ** 2).sum()
        own = tuple(delta.parameters())
        grads = torch.autograd.grad(loss, (latent, *own))
        with torch.no_grad():
            for parameter, grad in zip((latent, *own), grads, strict=True):
                parameter -= 0.02 * grad
            latent = delta.after(latent.detach(), moment)
    return delta.finish(latent.detach())  # type: ignore[return-value]  # a delta ends in weights


@pytest.mark.parametrize("technique", ALL)
def test_nothing_changes_before_training_and_a_loss_falls(technique: type[Delta]) -> None:
    delta = begun(technique)
    assert torch.equal(delta.seen(matrix()), matrix())
    goal = matrix() + 0.1 * matrix(1)
    found = trained(delta)
    assert ((found - goal) ** 2).sum() < 0.99 * ((matrix() - goal) ** 2).sum()


def test_a_low_rank_delta_has_its_rank() -> None:
    delta = begun(LowRankDelta)
    assert isinstance(delta, LowRankDelta)
    assert delta.rank == int(0.1 * 30 * 50 / 80) == 1
    sizes = torch.linalg.svdvals(trained(delta) - matrix())
    assert sizes[0] > 0.01
    assert float(sizes[1]) < 1e-4 * float(sizes[0])


def test_a_hashed_delta_is_found_again_by_the_update() -> None:
    change = (trained(begun(HashedDelta)) - matrix()).double().numpy()
    again = hashed(change, np.ones(change.shape, np.bool_), 150)
    assert np.abs(dense_of(again, 30, 50) - change).max() < 0.01 * np.abs(change).max()


def test_a_sparse_delta_changes_its_share_and_chooses_once() -> None:
    change = trained(begun(SparseDelta)) - matrix()
    share = share_that_changes(0.1, 8)
    assert int((change != 0).sum()) == 1500 - round((1 - share) * 1500)
    early = trained(begun(SparseDelta, free=0.9), steps=3)
    assert int((early != matrix()).sum()) == 1500 - round((1 - share) * 1500)


def test_the_share_takes_the_budget() -> None:
    p = share_that_changes(0.02, 8)
    assert 0.01 < p < 0.02
    assert p * (np.log2(1 / p) + 1.44 + 3) == pytest.approx(0.16)


@pytest.mark.parametrize("options", [{"budget": 0.0}, {"budget": 1.0}, {"bits": 1}, {"rank": 3}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(EdgeSpeechError):
        LowRankDelta.parse({"budget": 0.1, **options})
