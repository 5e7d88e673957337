"""How frames get their branch, other than by the arbitrator, and what a branching transcriber makes a device wait.

Letters: B batch, F feature frames (10 ms), T transcriber frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BURST = 10.0
"""Mean frames of a stretch of one branch where both are trained."""


def energy(features: Tensor, stack: int) -> Tensor:
    """The score of an energy detector: the loudness of each frame above the quietest one so far.

    Args:
        features: log-mel, with shape `(B, F, 80)`.
        stack: feature frames of a transcriber frame.

    Returns:
        With shape `(B, T)`, 0 or more: log-mel is in nats.
    """
    steps = features.shape[1] // stack
    loud = features[:, : steps * stack].mean(dim=2).view(len(features), steps, stack).mean(dim=2)
    return loud - loud.cummin(dim=1).values


def above(score: Tensor, rate: float, valid: Tensor) -> Tensor:
    """The threshold of a score that this share of all valid frames is above; both of shape `(B, T)`."""
    ordered = score[valid].sort(descending=True).values
    place = round(rate * len(ordered))
    if place >= len(ordered):
        return ordered.new_tensor(-torch.inf)
    return ordered[place]


def at_random(frames: int, rate: float, *seed: int) -> Tensor:
    """True for slow, in each frame with the probability `rate`; with shape `(T,)`, the same for the same seed."""
    generator = torch.Generator().manual_seed(hash_of(seed))
    return torch.rand(frames, generator=generator) < rate


def in_stretches(batch: int, frames: int) -> Tensor:
    """Shares of the slow branch with shape `(B, T)` for training both: a third of the utterances is slow, a third is
    fast, and the others switch after stretches of random lengths.
    """
    switches = torch.rand(batch, frames) < 1 / _BURST
    switches[:, 0] = torch.rand(batch) < 0.5
    mixed = switches.cumsum(dim=1) % 2
    kind = torch.randint(3, (batch, 1))
    return torch.where(kind == 0, 0, torch.where(kind == 1, 1, mixed)).float()


def backlog(cost: Tensor, rate: float) -> Tensor:
    """Frames of work that a device has not done yet after each frame: `max(0, before + cost / rate - 1)`.

    Source: AmNet's motivation, arXiv 2108.01553, introduction: a device slower than real time falls behind, and the
    user waits for the rest when speech has ended. The formula is the project's.

    Args:
        cost: of each frame, with shape `(..., T)`.
        rate: cost that the device does in the time of a frame, above 0.

    Returns:
        With the shape of cost; differentiable.
    """
    behind = (cost / rate - 1).cumsum(dim=-1)
    return behind - behind.cummin(dim=-1).values.clamp(max=0)


def hash_of(seed: tuple[int, ...]) -> int:
    """One seed of several numbers."""
    mixed = 0
    for part in seed:
        mixed = (mixed * 1_000_003 + part + 1) % (1 << 62)
    return mixed
