"""Tiny branching models."""

from __future__ import annotations

from dataclasses import replace

import torch

from edgespeech.model.branching import BranchingTransducer, branched
from edgespeech.model.branching_checkpoint import TrainedBranching
from edgespeech.model.branching_config import BranchingConfig, FastKind
from helpers_packed import tiny

KINDS: tuple[FastKind, ...] = ("sparse", "factorised", "narrow")


def branching_config(fast: FastKind = "sparse", *, per_layer: bool = False) -> BranchingConfig:
    """Blocks and ranks of a tiny model. Its arbitrator is large beside it, since its input is no smaller."""
    return BranchingConfig(
        fast=fast,
        sparsity=0.5,
        rank=20,
        units=30,
        arbitrator=3,
        arbitrator_share=1.0,
        per_layer=per_layer,
    )


def tiny_branching(
    fast: FastKind = "sparse", *, per_layer: bool = False, seed: int = 0, hidden: int = 70
) -> TrainedBranching:
    """A branching model of odd widths whose arbitrator picks either branch about as often."""
    trained = tiny(hidden=hidden, seed=seed)
    model = branched(trained.model, branching_config(fast, per_layer=per_layer))
    with torch.no_grad():
        for layer in model.transcriber.layers_of_fast:
            layer.bias.add_(torch.randn_like(layer.bias), alpha=0.1)
        model.transcriber.arbitrator.leave.weight.mul_(20)
    return TrainedBranching(model.eval().requires_grad_(False), trained.tokeniser, {"run": "trial"})


def always(trained: TrainedBranching, *, slow: bool) -> TrainedBranching:
    """The same model with an arbitrator that never switches."""
    made = BranchingTransducer(trained.model.config, trained.model.branching)
    made.load_state_dict(trained.model.state_dict())
    with torch.no_grad():
        made.transcriber.arbitrator.leave.weight.zero_()
        made.transcriber.arbitrator.leave.bias.fill_(1.0 if slow else -1.0)
    return replace(trained, model=made.eval().requires_grad_(False))
