"""What the quantisers share: the deployed levels, frozen at the start, and the way to the nearest one."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from edgespeech.packed.codes import (
    CODEBOOK_BITS,
    GROUP_STEP,
    GROUPS,
    Codes,
    encode,
    lloyd_max,
    quantise,
)
from edgespeech.training.compressor import Compressor, Options

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]

_PERCENTILE = 99.9


class UniformOptions(Options):
    """Levels k * step, k within +-(2^(bits - 1) - 1).

    Attributes:
        bits: of a weight.
        group: columns that share a step; 0 for the whole row.
        range: what the steps are made from, once: `mse`, the least squared error of the row's or group's weights, as
            packing does it; `p99.9`, the level that 99.9 % of their magnitudes do not exceed is the highest.
    """

    bits: Annotated[int, Field(ge=2, le=8)]
    group: Annotated[int, Field(ge=0)] = 0
    range: Literal["mse", "p99.9"] = "mse"

    @field_validator("group")
    @classmethod
    def _group(cls, value: int) -> int:
        if value % GROUP_STEP:
            raise ValueError(GROUPS)
        return value


class CodebookOptions(Options):
    """Levels from one int8 codebook a matrix, with one scale a row.

    Attributes:
        bits: of a weight; at most 2^bits levels.
    """

    bits: Annotated[int, Field(ge=2, le=CODEBOOK_BITS)]


class Quantiser(Compressor):
    """A technique that ends in codes, under a fixed mask or none.

    Args:
        weights: with shape `(rows, cols)`.
        options: the technique's.
        mask: with shape `(rows, cols)`, true where a weight is kept; None for a dense matrix.
    """

    mask: Tensor | None

    def __init__(self, weights: Tensor, options: Options, mask: Tensor | None = None) -> None:
        super().__init__(weights, options)
        self.register_buffer("mask", mask)

    def kept(self, weights: Tensor) -> Tensor:
        """The weights with zeros where the mask has none, for their gradients too."""
        return weights if self.mask is None else torch.where(self.mask, weights, 0.0)


class UniformQuantiser(Quantiser):
    """Levels k * step, the steps frozen from the weights of the start."""

    scales: Tensor

    def __init__(self, weights: Tensor, options: UniformOptions, mask: Tensor | None = None) -> None:
        super().__init__(weights, options, mask)
        self.bits, self.group = options.bits, options.group
        self.limit = 2 ** (options.bits - 1) - 1
        values, kept = weights.cpu().numpy(), None if mask is None else mask.cpu().numpy()
        if options.range == "mse":
            scales = quantise(values, bits=self.bits, group=self.group, mask=kept, clip="mse").scales
        else:
            scales = _percentile(values, kept, self.group) / np.float32(self.limit)
        self.register_buffer("scales", torch.from_numpy(scales))

    def steps_of(self, cols: int) -> Tensor:
        """The steps as the columns see them: with shape `(rows, cols)` or `(rows, 1)`; never 0."""
        spread = self.scales
        if self.group:
            spread = self.scales.repeat_interleave(self.group, dim=1)[:, :cols]
        return torch.where(spread > 0, spread, torch.finfo(torch.float32).tiny)

    def finish(self, weights: Tensor) -> Codes:
        """Each weight at its nearest level."""
        return encode(
            weights.cpu().numpy(),
            scales=self.scales.cpu().numpy(),
            bits=self.bits,
            group=self.group,
            mask=None if self.mask is None else self.mask.cpu().numpy(),
        )


class CodebookQuantiser(Quantiser):
    """Lloyd-Max levels of the rows as they are at the start, each scaled by its largest weight."""

    scales: Tensor
    levels: Tensor

    def __init__(self, weights: Tensor, options: CodebookOptions, mask: Tensor | None = None) -> None:
        super().__init__(weights, options, mask)
        self.bits = options.bits
        kept = None if mask is None else mask.cpu().numpy()
        codes = lloyd_max(weights.cpu().numpy(), bits=options.bits, mask=kept)
        assert codes.codebook is not None
        self.register_buffer("scales", torch.from_numpy(codes.scales))
        self.register_buffer("levels", torch.from_numpy(codes.codebook.astype(np.float32)))

    def finish(self, weights: Tensor) -> Codes:
        """Each weight at its nearest level."""
        return encode(
            weights.cpu().numpy(),
            scales=self.scales.cpu().numpy(),
            bits=self.bits,
            mask=None if self.mask is None else self.mask.cpu().numpy(),
            codebook=self.levels.cpu().numpy().astype(np.int8),
        )


def pulled(away: Tensor, gap: Tensor | float, unit: Tensor, most: float) -> Tensor:
    """How far from its nearest level a weight is after one decoupled step of the absolute-cosine regulariser.

    The regulariser is R = |sin(pi away / gap)| gap / pi, in the weight's own unit: 0 at the levels, greatest midway.
    Its gradient has the magnitude |cos(pi away / gap)|: 1 at a level, 0 midway (papers.md section 2). Beyond the
    outermost levels, where there is no gap, it is 1. A step ends at the level at the latest.

    Args:
        away: from the nearest level, in units; with the matrix's shape.
        gap: from that level to the next one on the weight's side, in units; infinite where there is none.
        unit: of both, in weights.
        most: how far a weight next to a level moves: the learning rate times the regulariser's weight.

    Returns:
        What is left of `away * unit`.
    """
    distance = away.abs() * unit
    pull = most * torch.cos(torch.pi * away / gap).abs()
    return away.sign() * (distance - pull).clamp(min=0)


def log_ramp(first: float, last: float, done: float) -> float:
    """From one value to another in equal ratios; `done` from 0 to 1."""
    return float(first * (last / first) ** done)


def _percentile(
    weights: NDArray[np.float32], mask: NDArray[np.bool_] | None, group: int
) -> NDArray[np.float32]:
    """Of each row's or group's kept magnitudes, the one that 99.9 % do not exceed: `(rows, groups)`."""
    magnitudes = np.abs(weights) if mask is None else np.where(mask, np.abs(weights), np.nan)
    width = group or weights.shape[1]
    columns = []
    for start in range(0, weights.shape[1], width):
        block = magnitudes[:, start : start + width]
        empty = np.isnan(block).all(axis=1, keepdims=True)
        columns.append(np.nanpercentile(np.where(empty, 0, block), _PERCENTILE, axis=1))
    return np.stack(columns, axis=1).astype(np.float32)
