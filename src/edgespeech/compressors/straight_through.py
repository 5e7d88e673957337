"""Fake quantisation in the forward pass with straight-through gradients: the baseline of the other techniques."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from edgespeech.compressors._quantiser import UniformOptions, UniformQuantiser
from edgespeech.training.compressor import Options


class StraightThrough(UniformQuantiser):
    """The model computes with the deployed weights; the gradient passes to the weights within the range.

    Source: B. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
    inference" (CVPR 2018), section 3; the range is frozen here.
    """

    name = "straight_through"
    options_type: ClassVar[type[Options]] = UniformOptions

    def seen(self, weights: Tensor) -> Tensor:
        """See `Compressor.seen`."""
        unit = self.steps_of(weights.shape[1])
        inside = (self.kept(weights) / unit).clamp(-self.limit, self.limit)
        return (inside + (inside.round() - inside).detach()) * unit
