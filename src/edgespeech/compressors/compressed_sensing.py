"""Compressed-sensing pruning (CSP): steps on the pruned model's loss, and steps that shrink small weights."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from edgespeech.compressors._quantiser import Positive
from edgespeech.compressors._sparsifier import Every, Part, SparseOptions, Sparsifier, changes, cubic
from edgespeech.compressors.l1 import soft_threshold
from edgespeech.training.compressor import Moment, Options


class CompressedSensingOptions(SparseOptions):
    """Options of `Sparsifier`, and the schedule.

    Attributes:
        ramp: share of the steps over which the sparsity grows, as in `Gradual`.
        until: share of the steps after which the mask is fixed and masked weights are zero.
        every: steps from one mask to the next.
        strength: of the sparsity step, which subtracts this times the learning rate from the magnitudes outside the
            mask.
    """

    ramp: Part = 0.5
    until: Part = 0.8
    every: Every = 10
    strength: Positive = 0.3


class CompressedSensing(Sparsifier):
    """Error step: the model computes with the masked weights, and the gradient passes to all of them. Sparsity step:
    those outside the mask shrink. The mask is recomputed by magnitude, so that a pruned weight can recover.

    Source: K. Zhen et al., "Sparsification via compressed sensing for automatic speech recognition" (ICASSP 2021,
    arXiv 2102.04932); the steps are those of papers.md section 3 (b).
    """

    name = "compressed_sensing"
    options_type: ClassVar[type[Options]] = CompressedSensingOptions
    options: CompressedSensingOptions
    fixed: Tensor

    def __init__(self, weights: Tensor, options: CompressedSensingOptions) -> None:
        super().__init__(weights, options)
        self.register_buffer("fixed", torch.tensor(False))

    def before(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.before`."""
        its = self.options
        if changes(moment, its.until, its.every):
            self.choose(weights, cubic(self.options.sparsity, moment.since(0.0, its.ramp)))
        self.fixed.fill_(moment.step >= moment.at(its.until))
        return self.kept(weights) if self.fixed else weights

    def seen(self, weights: Tensor) -> Tensor:
        """See `Compressor.seen`."""
        kept = self.kept(weights)
        return kept if self.fixed else weights + (kept - weights).detach()

    def after(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.after`."""
        if self.fixed:
            return self.kept(weights)
        smaller = soft_threshold(weights, moment.rate * self.options.strength)
        return torch.where(self.mask, weights, smaller)
