"""Absolute-cosine regularisation (ACosR): a penalty that moves weights towards quantisation levels in training."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from edgespeech.compressors._quantiser import (
    Positive,
    Share,
    UniformOptions,
    UniformQuantiser,
    log_ramp,
    pulled,
)
from edgespeech.training.compressor import Moment, Options


class AcosrOptions(UniformOptions):
    """Options of `UniformQuantiser`, and the regulariser's weight: 0, then a geometric ramp to the end of the run.

    Attributes:
        free: share of the steps without the regulariser.
        first: its weight after those; with 1 a weight next to a level moves by the learning rate, which is about the
            optimiser's largest step.
        last: its weight at the end: high, so that weights reach their levels while the learning rate falls to 2 %.
    """

    free: Share = 0.4
    first: Positive = 0.01
    last: Positive = 100.0


class Acosr(UniformQuantiser):
    """R = |cos(pi (w / D - 1/2))| D / pi of each weight, D its step: 0 at the levels k D.

    Source: H. D. Nguyen et al., "Quantization aware training with absolute-cosine regularization for automatic speech
    recognition" (Interspeech 2020); papers.md section 2 (b). The regulariser is applied after the optimiser's step,
    not through its gradient, so that Adam does not rescale it.
    """

    name = "acosr"
    options_type: ClassVar[type[Options]] = AcosrOptions
    options: AcosrOptions

    def seen(self, weights: Tensor) -> Tensor:
        """See `Compressor.seen`."""
        return self.kept(weights)

    def after(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.after`."""
        its = self.options
        if moment.step < moment.at(its.free):
            return weights
        most = moment.rate * log_ramp(its.first, its.last, moment.since(its.free))
        unit = self.steps_of(weights.shape[1])
        nearest = (weights / unit).round().clamp(-self.limit, self.limit)
        away = weights / unit - nearest
        gap = torch.where(away.sign() * nearest == self.limit, torch.inf, 1.0)
        return nearest * unit + pulled(away, gap, unit, most)
