"""What networks over log-mel features share: the mean and deviation of each band, kept beside their weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgespeech.audio.features import N_MELS


class BandNetwork(nn.Module):
    """A network that normalises each mel band.

    Attributes:
        mean: of each band, with shape `(80,)`.
        scale: one over each band's standard deviation, with shape `(80,)`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(N_MELS))
        self.register_buffer("scale", torch.ones(N_MELS))

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the mean and standard deviation of each band, each with shape `(80,)`."""
        self.mean.copy_(mean)
        self.scale.copy_(1 / deviation.clamp(min=1e-3))
