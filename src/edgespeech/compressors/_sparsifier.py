"""What the sparsifiers share: masks by magnitude, and when they change."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from edgespeech.packed.pack import EMBEDDING
from edgespeech.training.compressor import Compressor, Moment, Options

BLOCK = 64
"""Columns of a row that share one mask word in the packed file."""

Every = Annotated[int, Field(ge=1)]
Part = Annotated[float, Field(ge=0, lt=1)]


class SparseOptions(Options):
    """How many zeros.

    Attributes:
        sparsity: share of the matrix's weights that are zero at the end.
        balanced: each block of 64 columns of a row has equally many non-zeros, as the engine's format profits from.
    """

    sparsity: Part
    balanced: bool = False


class Sparsifier(Compressor):
    """A technique that ends in zeros."""

    skips = (EMBEDDING,)
    options: SparseOptions
    mask: Tensor

    def __init__(self, weights: Tensor, options: SparseOptions) -> None:
        super().__init__(weights, options)
        self.register_buffer("mask", torch.ones_like(weights, dtype=torch.bool))

    def choose(self, weights: Tensor, sparsity: float) -> None:
        """Keep the largest weights of the matrix, or of each block."""
        self.mask.copy_(magnitude_mask(weights, sparsity, balanced=self.options.balanced))

    def kept(self, weights: Tensor) -> Tensor:
        """The weights with zeros where the mask has none, for their gradients too."""
        return torch.where(self.mask, weights, 0.0)

    def seen(self, weights: Tensor) -> Tensor:
        """See `Compressor.seen`."""
        return self.kept(weights)

    def after(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.after`: the optimiser's memory moves weights that have no gradient any more."""
        return self.kept(weights)

    def finish(self, weights: Tensor) -> Tensor:
        """The weights that are left."""
        return self.kept(weights).cpu()


def magnitude_mask(weights: Tensor, sparsity: float, *, balanced: bool) -> Tensor:
    """Which weights are left of a matrix: its largest, of equal ones the earlier.

    Args:
        weights: with shape `(rows, cols)`.
        sparsity: share that is dropped, 0 to below 1; rounded to whole weights.
        balanced: of each block of 64 columns of each row, not of the whole matrix.

    Returns:
        With the same shape, true where a weight is left.
    """
    if balanced:
        blocks = torch.split(weights.abs(), BLOCK, dim=1)
        return torch.cat([_largest(block, sparsity) for block in blocks], dim=1)
    return _largest(weights.abs().reshape(1, -1), sparsity).view_as(weights)


def cubic(sparsity: float, done: float) -> float:
    """Sparsity on the way from 0, fast first: s (1 - (1 - done)^3) (Zhu and Gupta 2017, equation 1)."""
    return sparsity * (1 - (1 - done) ** 3)


def changes(moment: Moment, until: float, every: int) -> bool:
    """Whether a mask changes at a step: every so many steps, and last when this share of the run is done."""
    last = moment.at(until)
    return moment.step == last or (moment.step < last and moment.step % every == 0)


def _largest(magnitudes: Tensor, sparsity: float) -> Tensor:
    """Of each row, true where the largest are; as many in every row."""
    dropped = round(sparsity * magnitudes.shape[1])
    order = magnitudes.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(magnitudes, dtype=torch.bool)
    mask.scatter_(1, order[:, : magnitudes.shape[1] - dropped], value=True)
    return mask
