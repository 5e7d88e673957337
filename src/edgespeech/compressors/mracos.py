"""Lloyd-Max levels with the multi-region absolute-cosine regulariser and a periodic hard compressor (S8BQAT)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from edgespeech.compressors._quantiser import (
    CodebookOptions,
    CodebookQuantiser,
    Positive,
    Share,
    log_ramp,
    pulled,
)
from edgespeech.training.compressor import Moment, Options


class MracosOptions(CodebookOptions):
    """Options of `CodebookQuantiser`; the regulariser's weight as in `Acosr`.

    Attributes:
        free: share of the steps with neither regulariser nor compressor.
        first: the regulariser's weight after those.
        last: its weight at the end: high, so that weights reach their levels while the learning rate falls to 2 %.
        every: steps between two hard quantisations, which set every weight to its nearest level.
    """

    free: Share = 0.4
    first: Positive = 0.01
    last: Positive = 100.0
    every: Annotated[int, Field(ge=1)] = 100


class Mracos(CodebookQuantiser):
    """Between neighbouring levels a < b: R = |cos(pi (w - (a + b) / 2) / (b - a))| (b - a) / pi, 0 at both.

    Source: K. Zhen et al., "Sub-8-bit quantization aware training for 8-bit neural network accelerator with on-device
    speech recognition" (Interspeech 2022, arXiv 2206.15408); papers.md section 2 (b).
    """

    name = "mracos"
    options_type: ClassVar[type[Options]] = MracosOptions
    options: MracosOptions

    def before(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.before`."""
        done = moment.step - moment.at(self.options.free)
        if done < 0 or done % self.options.every:
            return weights
        nearest, _, _, unit = self._place(weights)
        return self.kept(nearest * unit)

    def seen(self, weights: Tensor) -> Tensor:
        """See `Compressor.seen`."""
        return self.kept(weights)

    def after(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.after`."""
        its = self.options
        if moment.step < moment.at(its.free):
            return weights
        most = moment.rate * log_ramp(its.first, its.last, moment.since(its.free))
        nearest, away, gap, unit = self._place(weights)
        return self.kept(nearest * unit + pulled(away, gap, unit, most))

    def _place(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Nearest level, distance from it and gap to the next one on that side, in units; and the rows' units."""
        unit = torch.where(self.scales > 0, self.scales, torch.finfo(torch.float32).tiny)
        levels = torch.unique_consecutive(self.levels)
        index = torch.bucketize(weights / unit, (levels[:-1] + levels[1:]) / 2)
        nearest = levels[index]
        away = weights / unit - nearest
        end = levels.new_full((1,), torch.inf)
        gaps = torch.cat([end, levels.diff(), end])
        return nearest, away, gaps[index + (away > 0)], unit
