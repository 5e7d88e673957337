"""Low-rank delta: the product of two thin matrices is added to the initial weights."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from edgespeech.compressors._delta import Delta, DeltaOptions
from edgespeech.training.compressor import Options


class LowRankDelta(Delta):
    """W + A B, of which A and B are trained; A begins as zeros, B as the matrix's first right singular vectors.

    Source: papers.md section 11 (arXiv:2108.01561); E. Hu et al., "LoRA" (ICLR 2022, arXiv:2106.09685).
    """

    name = "delta_low_rank"
    options_type: ClassVar[type[Options]] = DeltaOptions

    def __init__(self, weights: Tensor, options: DeltaOptions) -> None:
        super().__init__(weights, options)
        rows, cols = weights.shape
        self.rank = min(max(1, int(self.bytes_of(weights) / (rows + cols))), rows, cols)
        right = torch.linalg.svd(weights.detach().float(), full_matrices=False).Vh[: self.rank]
        self.left = nn.Parameter(weights.new_zeros(rows, self.rank))
        self.right = nn.Parameter(right.to(weights.dtype).contiguous())

    def seen(self, weights: Tensor) -> Tensor:
        """See `Compressor.seen`."""
        used: Tensor = self.base + self.left @ self.right + 0 * weights
        return used

    def finish(self, weights: Tensor) -> Tensor:
        """The nearest weights of this rank: an average of products need not have it."""
        u, s, v = torch.linalg.svd((weights - self.base).float(), full_matrices=False)
        change: Tensor = (u[:, : self.rank] * s[: self.rank]) @ v[: self.rank]
        return (self.base + change.to(weights.dtype)).cpu()
