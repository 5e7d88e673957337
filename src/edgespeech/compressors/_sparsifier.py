"""Common parts of the sparsifiers: magnitude masks and their schedule."""

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
    """Amount and pattern of zeros.

    Attributes:
        sparsity: share of the matrix's weights that are zero at the end.
        balanced: each block of 64 columns of a row has the same number of non-zeros, which suits the engine's format.
    """

    sparsity: Part
    balanced: bool = False


class Masked(Compressor):
    """A technique with a mask over the weights, at first of all of them."""

    mask: Tensor

    def __init__(self, weights: Tensor, options: Options) -> None:
        super().__init__(weights, options)
        self.register_buffer("mask", torch.ones_like(weights, dtype=torch.bool))


class Sparsifier(Masked):
    """A technique that ends in zeros."""

    skips = (EMBEDDING,)
    options: SparseOptions

    def choose(self, weights: Tensor, sparsity: float) -> None:
        """Set the mask to the largest weights of the matrix, or of each block."""
        self.mask.copy_(magnitude_mask(weights, sparsity, balanced=self.options.balanced))

    def kept(self, weights: Tensor) -> Tensor:
        """The masked weights; their gradients are masked too."""
        return torch.where(self.mask, weights, 0.0)

    def seen(self, weights: Tensor) -> Tensor:
        """See `Compressor.seen`."""
        return self.kept(weights)

    def after(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.after`: momentum moves weights without a gradient, so they are masked again."""
        return self.kept(weights)

    def finish(self, weights: Tensor) -> Tensor:
        """The masked weights."""
        return self.kept(weights).cpu()


def magnitude_mask(weights: Tensor, sparsity: float, *, balanced: bool) -> Tensor:
    """The mask of a matrix's largest weights; ties go to the earlier ones.

    Args:
        weights: with shape `(rows, cols)`.
        sparsity: share of zeros, 0 to below 1; rounded to whole weights.
        balanced: of each block of 64 columns of each row, not of the whole matrix.

    Returns:
        With the same shape, true where a weight is not set to zero.
    """
    if balanced:
        blocks = torch.split(weights.abs(), BLOCK, dim=1)
        return torch.cat([_largest(block, sparsity) for block in blocks], dim=1)
    return _largest(weights.abs().reshape(1, -1), sparsity).view_as(weights)


def cubic(sparsity: float, done: float) -> float:
    """Sparsity of the cubic schedule, which starts fast: s (1 - (1 - done)^3) (Zhu and Gupta 2017, equation 1)."""
    return sparsity * (1 - (1 - done) ** 3)


def changes(moment: Moment, until: float, every: int) -> bool:
    """Whether a mask changes at a step: every `every` steps, and finally when this share of the run is done."""
    last = moment.at(until)
    return moment.step == last or (moment.step < last and moment.step % every == 0)


def _largest(magnitudes: Tensor, sparsity: float) -> Tensor:
    """The mask of each row's largest values, with the same number in every row."""
    dropped = round(sparsity * magnitudes.shape[1])
    order = magnitudes.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(magnitudes, dtype=torch.bool)
    mask.scatter_(1, order[:, : magnitudes.shape[1] - dropped], value=True)
    return mask
