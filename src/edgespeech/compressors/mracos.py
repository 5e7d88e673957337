"""Lloyd-Max levels with the multi-region absolute-cosine regulariser and a periodic hard compressor (S8BQAT)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from edgespeech.compressors._quantiser import CodebookOptions, CodebookQuantiser, PullOptions, pulled
from edgespeech.training.compressor import Moment, Options


class MracosOptions(CodebookOptions, PullOptions):
    """Options of `CodebookQuantiser`, and the regulariser's weight; no hard quantisation as long as that is 0.

    Attributes:
        every: steps between two hard quantisations, which set every weight to its nearest level.
    """

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

    def after(self, weights: Tensor, moment: Moment) -> Tensor:
        """See `Compressor.after`."""
        if (most := self.options.reach(moment)) is None:
            return weights
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
