"""One-shot pruning: the smallest weights become zero at the start, and the others are trained on."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from edgespeech.compressors._sparsifier import SparseOptions, Sparsifier
from edgespeech.training.compressor import Moment, Options


class OneShot(Sparsifier):
    """The mask is chosen once, by magnitude (S. Han et al., NIPS 2015, one round)."""

    name = "one_shot"
    options_type: ClassVar[type[Options]] = SparseOptions

    def before(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.before`."""
        if moment.step == 0:
            self.choose(weights, self.options.sparsity)
        return self.kept(weights)
