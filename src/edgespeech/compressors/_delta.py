"""Common parts of the deltas: weights that are the initial ones plus a change that takes few bytes to send."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor

from edgespeech.training.compressor import Compressor, Moment, Options


class DeltaOptions(Options):
    """How much is sent.

    Attributes:
        budget: bytes of the change, as a share of the packed matrix's.
        bits: of a weight in the packed matrix.
    """

    budget: Annotated[float, Field(gt=0, lt=1)]
    bits: Annotated[int, Field(ge=2, le=32)] = 8


class Delta(Compressor):
    """A change of the initial weights (papers.md section 11, arXiv:2108.01561).

    Whatever the optimiser does to the matrix itself has no effect: own parameters, or a mask, decide the change.
    """

    options: DeltaOptions
    base: Tensor

    def __init__(self, weights: Tensor, options: DeltaOptions) -> None:
        super().__init__(weights, options)
        self.register_buffer("base", weights.clone())

    def bytes_of(self, weights: Tensor) -> float:
        """Bytes that the change of a matrix may take."""
        return self.options.budget * weights.numel() * self.options.bits / 8

    def after(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.after`: the matrix holds the weights that are used, so that their average is one of them."""
        del moment
        return self.seen(weights)


def share_that_changes(budget: float, bits: int, value_bits: float = 3.0) -> float:
    """The share p of changed codes whose places and values take a budget: p (log2(1 / p) + 1.44 + v) = budget bits.

    Args:
        budget: share of the matrix's bytes.
        bits: of a weight.
        value_bits: of a change.
    """
    low, high = 1e-9, 0.5
    for _ in range(60):
        middle = (low + high) / 2
        if middle * (math.log2(1 / middle) + 1.44 + value_bits) <= budget * bits:
            low = middle
        else:
            high = middle
    return low
