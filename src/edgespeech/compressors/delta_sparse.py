"""Sparse delta: after a first part without limits, only the weights that had changed most may differ."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from edgespeech.compressors._delta import Delta, DeltaOptions, share_that_changes
from edgespeech.compressors._sparsifier import Masked, magnitude_mask
from edgespeech.training.compressor import Moment, Options


class SparseDeltaOptions(DeltaOptions):
    """Options of `DeltaOptions`, and when the weights are chosen.

    Attributes:
        free: share of the steps before that.
    """

    free: Annotated[float, Field(ge=0, lt=1)] = 0.3


class SparseDelta(Masked, Delta):
    """Top-k of the change by magnitude, chosen once; the others go back to their initial values."""

    name = "delta_sparse"
    options_type: ClassVar[type[Options]] = SparseDeltaOptions
    options: SparseDeltaOptions

    def before(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.before`."""
        if moment.step == moment.at(self.options.free):
            self._choose(weights)
        return self.seen(weights)

    def seen(self, weights: Tensor) -> Tensor:
        """See `Compressor.seen`."""
        return torch.where(self.mask, weights, self.base)

    def finish(self, weights: Tensor) -> Tensor:
        """The chosen changes of the average."""
        if bool(self.mask.all()):  # the run ended before weights were chosen
            self._choose(weights)
        return self.seen(weights).cpu()

    def _choose(self, weights: Tensor) -> None:
        share = share_that_changes(self.options.budget, self.options.bits)
        self.mask.copy_(magnitude_mask(weights - self.base, 1 - share, balanced=False))
