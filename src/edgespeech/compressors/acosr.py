"""Absolute-cosine regularisation (ACosR): a penalty that moves weights towards quantisation levels in training."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from edgespeech.compressors._quantiser import PullOptions, UniformOptions, UniformQuantiser, pulled
from edgespeech.training.compressor import Moment, Options


class AcosrOptions(UniformOptions, PullOptions):
    """Options of `UniformQuantiser`, and the regulariser's weight."""


class Acosr(UniformQuantiser):
    """R = |cos(pi (w / D - 1/2))| D / pi of each weight, D its step: 0 at the levels k D.

    Source: H. D. Nguyen et al., "Quantization aware training with absolute-cosine regularization for automatic speech
    recognition" (Interspeech 2020); papers.md section 2 (b). The regulariser is applied after the optimiser's step,
    not through its gradient, so that Adam does not rescale it.
    """

    name = "acosr"
    options_type: ClassVar[type[Options]] = AcosrOptions
    options: AcosrOptions

    def after(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.after`."""
        if (most := self.options.reach(moment)) is None:
            return weights
        unit = self.steps_of(weights.shape[1])
        nearest = (weights / unit).round().clamp(-self.limit, self.limit)
        away = weights / unit - nearest
        gap = torch.where(away.sign() * nearest == self.limit, torch.inf, 1.0)
        return nearest * unit + pulled(away, gap, unit, most)
