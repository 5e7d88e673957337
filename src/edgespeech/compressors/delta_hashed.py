"""Hashed delta: few shared values, of which a hash gives each weight one, are added to the initial weights."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from edgespeech.compressors._delta import Delta, DeltaOptions
from edgespeech.training.compressor import Options
from edgespeech.updates.budget import SEED
from edgespeech.updates.deltas import buckets


class HashedDelta(Delta):
    """W[i, j] + sign(i, j) v[bucket(i, j)], of which v is trained, by the hash of the update file.

    Source: papers.md section 11 (arXiv:2108.01561); W. Chen et al., "Compressing neural networks with the hashing
    trick" (ICML 2015, arXiv:1504.04788).
    """

    name = "delta_hashed"
    options_type: ClassVar[type[Options]] = DeltaOptions
    bucket: Tensor
    sign: Tensor

    def __init__(self, weights: Tensor, options: DeltaOptions) -> None:
        super().__init__(weights, options)
        count = max(1, int(self.bytes_of(weights)))
        bucket, sign = buckets(weights.shape[0], weights.shape[1], count, SEED)
        self.register_buffer("bucket", torch.from_numpy(bucket))
        self.register_buffer("sign", torch.from_numpy(sign).to(weights.dtype))
        self.values = nn.Parameter(weights.new_zeros(count))

    def seen(self, weights: Tensor) -> Tensor:
        """See `Compressor.seen`."""
        return self.base + self.sign * self.values[self.bucket] + 0 * weights

    def finish(self, weights: Tensor) -> Tensor:
        """The average, which is itself hashed."""
        return weights.cpu()
