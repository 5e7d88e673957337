"""Gradual magnitude pruning: the sparsity grows along a cubic schedule during training."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from edgespeech.compressors._sparsifier import Every, Part, SparseOptions, Sparsifier, changes, cubic
from edgespeech.training.compressor import Moment, Options


class GradualOptions(SparseOptions):
    """Options of `Sparsifier`, and the schedule.

    Attributes:
        until: share of the steps after which the mask is fixed.
        every: steps from one mask to the next.
    """

    until: Part = 0.7
    every: Every = 10


class Gradual(Sparsifier):
    """The smallest weights become zero, and stay zero.

    Source: M. Zhu and S. Gupta, "To prune, or not to prune" (2017, arXiv 1710.01878), section 3.
    """

    name = "gradual"
    options_type: ClassVar[type[Options]] = GradualOptions
    options: GradualOptions

    def before(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.before`."""
        if changes(moment, self.options.until, self.options.every):
            self.choose(weights, cubic(self.options.sparsity, moment.since(0.0, self.options.until)))
        return self.kept(weights)
