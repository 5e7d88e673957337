"""General Quantizer (GQ): soft assignment to levels in mu-law space that hardens, the levels being learned."""

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
"""About so many weights at most decide which mu and size a matrix starts from."""


class GeneralQuantizerOptions(CodebookOptions):
    """As of `CodebookOptions`.

    Attributes:
        first: how hard the assignment is at the start: the softmax is over -hardness times the distance to a level,
            the levels lying 1 apart in mu-law space.
        last: how hard it is at the end.
    """

    first: Positive = 4.0
    last: Positive = 64.0


class GeneralQuantizer(Quantiser):
    """Levels c_j = size sgn(u_j) ((1 + mu)^|u_j| - 1) / mu of a row's largest weight, u_j evenly over [-1, 1].

    The model computes with sum_j softmax_j(-hardness |y - j|) c_j, y being the weight's place in mu-law space, where
    the levels are whole numbers. The sum is over the four levels nearest to it: with the hardness of the start the
    others weigh less than e^-6. `mu` and `size` of each matrix learn by gradient; levels are rounded as int8 has
    them.

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
        """Of a few values, the mu and the size whose hard levels have the least squared error."""
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
    """Where shares of their row's largest weight lie among the levels 0 to `top`, in mu-law space."""
    inside = (shares / size).clamp(-1, 1)
    law = inside.sign() * torch.log1p(mu * inside.abs()) / torch.log1p(mu)
    return (law + 1) * (top / 2)


def _level(index: Tensor, mu: Tensor, top: int) -> Tensor:
    """Levels of these numbers as int8 has them, -127 to 127; the gradient passes through the rounding."""
    u = index * (2 / top) - 1
    exact = _TOP * u.sign() * torch.expm1(u.abs() * torch.log1p(mu)) / mu
    return exact + (exact.round() - exact).detach()
