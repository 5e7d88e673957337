"""General Quantizer (GQ): soft assignment to learned levels in mu-law space, which hardens during training."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from edgespeech.compressors._quantiser import CodebookOptions, Positive, Quantiser, log_ramp
from edgespeech.packed.codes import Codes
from edgespeech.training.compressor import Moment, Options

_TOP = 127
"""The highest level of an int8 codebook."""
_MUS = (0.25, 1.0, 2.0, 4.0, 8.0, 16.0)
_SIZES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SAMPLE = 20_000
"""Approximate maximum number of weights used to initialise mu and size of a matrix."""


class GeneralQuantizerOptions(CodebookOptions):
    """Options of `CodebookOptions`, and the hardness.

    Attributes:
        first: hardness at the start: the softmax is over -hardness times the distance to a level, and levels are 1
            apart in mu-law space.
        last: hardness at the end.
    """

    first: Positive = 4.0
    last: Positive = 64.0


class GeneralQuantizer(Quantiser):
    """Levels c_j = size sgn(u_j) ((1 + mu)^|u_j| - 1) / mu of a row's largest weight, u_j evenly over [-1, 1].

    The model computes with sum_j softmax_j(-hardness |y - j|) c_j, where y is the weight's position in mu-law space, in
    which the levels are whole numbers. The sum is over the four nearest levels: with the initial hardness the others
    weigh less than e^-6. `mu` and `size` of each matrix are learned by gradient descent; levels are rounded to int8.

    Source: K. Zhen et al., "Sub-8-bit quantization for on-device speech recognition: a regularization-free approach"
    (SLT 2022, arXiv 2210.09188); papers.md section 2 (b).
    """

    name = "general_quantizer"
    options_type: ClassVar[type[Options]] = GeneralQuantizerOptions
    options: GeneralQuantizerOptions
    rows: Tensor
    hardness: Tensor

    def __init__(self, weights: Tensor, options: GeneralQuantizerOptions, mask: Tensor | None = None) -> None:
        super().__init__(weights, options, mask)
        self.top = 2**options.bits - 1
        largest = self.kept(weights).abs().amax(dim=1, keepdim=True)
        tiny = torch.finfo(torch.float32).tiny
        self.register_buffer("rows", torch.where(largest > 0, largest, tiny))
        self.register_buffer("hardness", torch.tensor(options.first))
        mu, size = self._start(weights)
        self.log_mu = nn.Parameter(mu.log())
        self.log_size = nn.Parameter(size.log())

    def before(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.before`."""
        self.hardness.fill_(log_ramp(self.options.first, self.options.last, moment.since(0.0)))
        return weights

    def seen(self, weights: Tensor) -> Tensor:
        """See `Compressor.seen`."""
        mu, size = self.log_mu.exp(), self.log_size.exp()
        place = _place(weights / self.rows, mu, size, self.top)
        below = place.detach().floor()
        near = torch.stack([below + offset for offset in (-1, 0, 1, 2)])
        scores = -self.hardness * (place - near).abs()
        shares = scores.masked_fill((near < 0) | (near > self.top), -torch.inf).softmax(dim=0)
        levels = _level(near.clamp(0, self.top), mu, self.top)
        return self.kept((shares * levels).sum(dim=0) * (self.rows * size / _TOP))

    @torch.no_grad()
    def finish(self, weights: Tensor) -> Codes:
        """Each weight at the level nearest in mu-law space."""
        mu, size = self.log_mu.exp(), self.log_size.exp()
        codes = _place(weights / self.rows, mu, size, self.top).round().to(torch.uint8).cpu().numpy()
        index = torch.arange(self.top + 1, device=weights.device)
        codebook = _level(index, mu, self.top).cpu().numpy().astype(np.int8)
        mask = None
        if self.mask is not None:
            mask = self.mask.cpu().numpy() & (codebook[codes] != 0)
            codes = np.where(mask, codes, np.uint8(0))
        scales = (self.rows * size / _TOP).cpu().numpy()
        return Codes(
            codes=codes, mask=mask, scales=scales, bits=self.options.bits, group=0, codebook=codebook
        )

    def _start(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The initial mu and size, those of a small grid whose hard levels have the least squared error."""
        used = torch.ones_like(weights, dtype=torch.bool) if self.mask is None else self.mask
        stride = max(1, int(used.sum()) // _SAMPLE)
        row, col = (places[::stride] for places in used.nonzero(as_tuple=True))
        rows = self.rows[row, 0]
        shares = weights[row, col] / rows
        errors: dict[tuple[float, float], float] = {}
        for mu in _MUS:
            for size in _SIZES:
                warp, reach = weights.new_tensor(mu), weights.new_tensor(size)
                level = _level(_place(shares, warp, reach, self.top).round(), warp, self.top)
                errors[mu, size] = float(((shares - level * reach / _TOP) * rows).square().sum())
        mu, size = min(errors, key=errors.__getitem__)
        return weights.new_tensor(mu), weights.new_tensor(size)


def _place(shares: Tensor, mu: Tensor, size: Tensor, top: int) -> Tensor:
    """Positions of weights, as shares of their row's largest, among the levels 0 to `top` in mu-law space."""
    inside = (shares / size).clamp(-1, 1)
    law = inside.sign() * torch.log1p(mu * inside.abs()) / torch.log1p(mu)
    return (law + 1) * (top / 2)


def _level(index: Tensor, mu: Tensor, top: int) -> Tensor:
    """The levels with these indices, rounded to int8, -127 to 127; the gradient passes through the rounding."""
    u = index * (2 / top) - 1
    exact = _TOP * u.sign() * torch.expm1(u.abs() * torch.log1p(mu)) / mu
    return exact + (exact.round() - exact).detach()
