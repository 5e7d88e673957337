"""Attention over phrases with the engine's arithmetic (`edgespeech.packed.arithmetic`)."""

from __future__ import annotations

from torch import Tensor as Torch

from edgespeech.model.biasing import ContextAttention
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transducer
from edgespeech.packed.arithmetic import exp, lane_sum


class SimulatedAttention(ContextAttention):
    """`ContextAttention` with sums in the engine's order."""

    def scores(self, queries: Torch, keys: Torch) -> Torch:
        """See `ContextAttention.scores`."""
        return lane_sum(queries[..., None, :] * keys)[..., 0]

    def shares(self, scores: Torch) -> Torch:
        """See `ContextAttention.shares`."""
        raised = exp(scores - scores.amax(dim=-1, keepdim=True))
        return raised / lane_sum(raised)

    def mixed(self, shares: Torch, values: Torch) -> Torch:
        """See `ContextAttention.mixed`."""
        return lane_sum(shares[..., None, :] * values.transpose(1, 2))[..., 0]


def simulate_attention(model: Transducer, config: ModelConfig) -> None:
    """Put the engine's attention in the place of a model's, where it has attention. Its weights are still to be set."""
    if model.biasing is None or config.biasing is None:
        return
    model.biasing.audio = SimulatedAttention(config.joiner, config.biasing)
    if model.biasing.label is not None:
        model.biasing.label = SimulatedAttention(config.joiner, config.biasing)
