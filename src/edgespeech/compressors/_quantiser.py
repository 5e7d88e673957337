"""Common parts of the quantisers: the deployed levels, frozen at the start, and steps to the nearest one."""

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
from edgespeech.training.compressor import Compressor, Moment, Options

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]

_PERCENTILE = 99.9


class UniformOptions(Options):
    """Levels k * step, k within +-(2^(bits - 1) - 1).

    Attributes:
        bits: of a weight.
        group: columns that share a step; 0 for the whole row.
        range: how the steps are set, once: `mse`, by the least squared error of the row's or group's weights, as in
            packing; `p99.9`, so that the highest level is the 99.9th percentile of their magnitudes.
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


class PullOptions(Options):
    """The weight of a regulariser that pulls weights to levels: 0, then a geometric ramp to the end of the run.

    Attributes:
        free: share of the steps without the regulariser.
        first: its weight after those; with 1 a weight next to a level moves by the learning rate, which is about the
            optimiser's largest step.
        last: its weight at the end: high, so that weights reach their levels while the learning rate falls to 2 %.
    """

    free: Share = 0.4
    first: Positive = 0.01
    last: Positive = 100.0

    def reach(self, moment: Moment) -> float | None:
        """How far a step may move a weight next to a level; None without the regulariser."""
        if moment.step < moment.at(self.free):
            return None
        return moment.rate * log_ramp(self.first, self.last, moment.since(self.free))


class Quantiser(Compressor):
    """A technique that ends in codes, under a fixed mask or none.

    Args:
        weights: with shape `(rows, cols)`.
        options: the technique's.
        mask: with shape `(rows, cols)`, true where a weight is not zero; None for a dense matrix.
    """

    mask: Tensor | None

    def __init__(self, weights: Tensor, options: Options, mask: Tensor | None = None) -> None:
        super().__init__(weights, options)
        self.register_buffer("mask", mask)

    def kept(self, weights: Tensor) -> Tensor:
        """The masked weights; their gradients are masked too."""
        return weights if self.mask is None else torch.where(self.mask, weights, 0.0)

    def seen(self, weights: Tensor) -> Tensor:
        """See `Compressor.seen`."""
        return self.kept(weights)


class UniformQuantiser(Quantiser):
    """Levels k * step, with steps fixed from the initial weights."""

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
        """The steps expanded to columns, with shape `(rows, cols)` or `(rows, 1)`; never 0."""
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
    """Lloyd-Max levels of the initial rows, each scaled by its largest weight."""

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
    """A weight's distance from its nearest level after one decoupled step of the absolute-cosine regulariser.

    The regulariser is R = |sin(pi away / gap)| gap / pi, in the weight's own unit: 0 at the levels, greatest midway.
    Its gradient has the magnitude |cos(pi away / gap)|: 1 at a level, 0 midway (papers.md section 2). Beyond the
    outermost levels, where there is no gap, it is 1. A step never passes the level.

    Args:
        away: from the nearest level, in units; with the matrix's shape.
        gap: from that level to the next one on the weight's side, in units; infinite if there is none.
        unit: of both, in weights.
        most: step of a weight next to a level: the learning rate times the regulariser's weight.

    Returns:
        The remaining `away * unit`.
    """
    distance = away.abs() * unit
    pull = most * torch.cos(torch.pi * away / gap).abs()
    return away.sign() * (distance - pull).clamp(min=0)


def log_ramp(first: float, last: float, done: float) -> float:
    """Geometric interpolation between two values; `done` from 0 to 1."""
    return float(first * (last / first) ** done)


def _percentile(
    weights: NDArray[np.float32], mask: NDArray[np.bool_] | None, group: int
) -> NDArray[np.float32]:
    """The 99.9th percentile of each row's or group's unmasked magnitudes: `(rows, groups)`."""
    magnitudes = np.abs(weights) if mask is None else np.where(mask, np.abs(weights), np.nan)
    width = group or weights.shape[1]
    columns = []
    for start in range(0, weights.shape[1], width):
        block = magnitudes[:, start : start + width]
        empty = np.isnan(block).all(axis=1, keepdims=True)
        columns.append(np.nanpercentile(np.where(empty, 0, block), _PERCENTILE, axis=1))
    return np.stack(columns, axis=1).astype(np.float32)
