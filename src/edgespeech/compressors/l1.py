"""L1 regularisation: every weight shrinks during training, then the smallest become zero."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from edgespeech.compressors._quantiser import Positive
from edgespeech.compressors._sparsifier import Part, SparseOptions, Sparsifier
from edgespeech.training.compressor import Moment, Options


class L1Options(SparseOptions):
    """Options of `Sparsifier`, and the regulariser's.

    Attributes:
        until: share of the steps after which the mask is fixed and the regulariser ends.
        strength: of the regulariser: each step subtracts this times the learning rate from every magnitude.
    """

    until: Part = 0.7
    strength: Positive = 0.3


class L1(Sparsifier):
    """The proximal step of strength * |w|, after the optimiser's step; then a magnitude mask."""

    name = "l1"
    options_type: ClassVar[type[Options]] = L1Options
    options: L1Options

    def before(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.before`."""
        if moment.step == moment.at(self.options.until):
            self.choose(weights, self.options.sparsity)
        return self.kept(weights)

    def after(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.after`."""
        if moment.step >= moment.at(self.options.until):
            return super().after(weights, moment)
        return soft_threshold(weights, moment.rate * self.options.strength)


def soft_threshold(weights: Tensor, by: float) -> Tensor:
    """sgn(w) max(|w| - by, 0)."""
    return weights.sign() * (weights.abs() - by).clamp(min=0)
