"""How a training step picks branches, and what it pays for them.

Sources: AmNet, arXiv 2108.01553: Gumbel softmax between branches and a loss on the expected cost. The floor on usage,
the straight-through end and the backlog's form are the project's.

Letters: B batch, T transcriber frames, D decisions per frame.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from edgespeech.model.branching import BranchingTransducer
from edgespeech.model.switching import above, backlog, energy, in_stretches
from edgespeech.training.branching_config import BranchTraining


class Picked(NamedTuple):
    """The branches of a step's frames.

    Attributes:
        mix: share of the slow branch, with shape `(B, T, D)`.
        penalty: what is added to the transducer's loss, a scalar.
        cost: mean MACs of a valid frame as a share of the slow branch's, without gradient.
        slow: mean share of the slow branch over valid frames, without gradient.
    """

    mix: Tensor
    penalty: Tensor
    cost: Tensor
    slow: Tensor


def pick(
    model: BranchingTransducer, features: Tensor, lengths: Tensor, config: BranchTraining, step: int
) -> Picked:
    """Pick the branches of a batch.

    Args:
        model: in training; in evaluation its arbitrator decides as it ships.
        features: with shape `(B, F, 80)`.
        lengths: valid feature frames of each, with shape `(B,)`.
        config: the run.
        step: from 0.
    """
    transcriber = model.transcriber
    batch, frames = len(features), features.shape[1] // transcriber.stack
    counts = lengths // transcriber.stack
    valid = torch.arange(frames) < counts[:, None]
    penalty = features.new_zeros(())
    if config.chooses == "arbitrator":
        logits = transcriber.decide(features)
        mix = (
            gumbel(logits, config.heat(step), hard=config.is_hard(step))
            if model.training
            else (logits > 0).float()
        )
        if config.progress(step, config.floor_until) < 1:
            penalty = config.floor_weight * below(logits.sigmoid()[valid].mean(dim=0), config.floor)
    else:
        mix = _given(config, features, transcriber.stack, batch, frames, valid, counts)[..., None]
    cost = transcriber.macs.cost(mix)
    mean = cost[valid].mean()
    if config.cost_weight:
        penalty = penalty + config.cost_weight * config.progress(step, config.ramp) * mean
    if config.backlog_weight and config.device_rate is not None:
        waits = waiting(cost, counts, config.device_rate, round(config.backlog_s / model.config.frame_s))
        weight = config.backlog_weight * config.progress(step, config.ramp)
        penalty = penalty + weight * waits.mean() * model.config.frame_s
    return Picked(mix, penalty, mean.detach(), mix.detach()[valid].mean())


def gumbel(logits: Tensor, temperature: float, *, hard: bool) -> Tensor:
    """Samples of a Gumbel softmax over two branches: the share of the first, 0 to 1.

    Two branches need the difference of two Gumbel draws alone, which is logistic.

    Args:
        logits: of the first branch against the second.
        temperature: above 0; the lower, the nearer to 0 or 1.
        hard: exactly 0 or 1, with the gradient of the soft sample.
    """
    uniform = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
    soft = ((logits + uniform.log() - (1 - uniform).log()) / temperature).sigmoid()
    return (soft > 0.5).to(soft.dtype) + soft - soft.detach() if hard else soft


def below(used: Tensor, floor: float) -> Tensor:
    """The sum of squared distances of shares, and of their complements, below a floor."""
    return ((floor - used).clamp(min=0) ** 2 + (floor - 1 + used).clamp(min=0) ** 2).sum()


def waiting(cost: Tensor, counts: Tensor, rate: float, last: int) -> Tensor:
    """The mean backlog over the last valid frames of each utterance, in frames, with shape `(B,)`.

    Args:
        cost: of each frame, with shape `(B, T)`.
        counts: valid frames of each, with shape `(B,)`.
        rate: of the device.
        last: frames of the mean, at least 1.
    """
    places = torch.arange(cost.shape[1])
    chosen = (places < counts[:, None]) & (places >= (counts - max(1, last))[:, None])
    return (backlog(cost, rate) * chosen).sum(dim=1) / chosen.sum(dim=1).clamp(min=1)


def _given(
    config: BranchTraining,
    features: Tensor,
    stack: int,
    batch: int,
    frames: int,
    valid: Tensor,
    counts: Tensor,
) -> Tensor:
    """Shares of the slow branch that no network picks, with shape `(B, T)`."""
    if config.chooses == "both":
        return in_stretches(batch, frames)
    if config.chooses == "pivot":
        pivots = torch.rand(batch) * counts / 2
        return (torch.arange(frames) >= pivots[:, None]).float()
    if config.slow_share is None:
        return torch.full((batch, frames), float(config.chooses == "slow"))
    if config.chooses == "random":
        return (torch.rand(batch, frames) < config.slow_share).float()
    score = energy(features, stack)
    return (score > above(score, config.slow_share, valid)).float()
