"""The kinds of layers of a fast branch, each with the tensors that are stored and read for a fast frame.

Letters: H units of the slow branch, N of the fast one, R rank. Gates are in the order i, f, g, o.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgespeech.errors import bad
from edgespeech.model.branching_config import BranchingConfig, FastKind

BLOCK_COLUMNS = 64
"""Columns of a block of a `sparse` branch: those of one mask word in a packed file."""


class FastLayer(nn.Module, ABC):
    """A layer of a fast branch. It reads and writes the first `units` entries of the layer's input and state.

    Attributes:
        units: N.
        bias: of the gates, with shape `(4 N,)`.
    """

    units: int
    bias: nn.Parameter

    @abstractmethod
    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """From the input to the gates `(4 N, N)`, from the output to the gates `(4 N, N)`, and the bias `(4 N,)`."""

    @abstractmethod
    def gates(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The gates before their functions, `(B, 4 N)`, by the products that a fast frame costs."""

    @abstractmethod
    def start_from(self, lstm: nn.LSTM) -> None:
        """Take the weights nearest to a slow layer's."""

    @property
    @abstractmethod
    def macs(self) -> int:
        """Of a frame."""


class _TwoMatrices(FastLayer):
    """A layer with the matrices `weight_ih` and `weight_hh`, each `(4 N, N)`."""

    weight_ih: nn.Parameter
    weight_hh: nn.Parameter

    def gates(self, x: Tensor, hidden: Tensor) -> Tensor:
        """See `FastLayer.gates`."""
        return nn.functional.linear(x, self.weight_ih, self.bias) + nn.functional.linear(
            hidden, self.weight_hh
        )


class SparseLayer(_TwoMatrices):
    """The slow layer's shape, with whole blocks of zeros: `weight_ih` and `weight_hh`, each `(4 H, H)`.

    A block has `block_rows` rows and `BLOCK_COLUMNS` columns. The blocks that are not zero
    train; the others stay zero.
    """

    kept_ih: Tensor
    kept_hh: Tensor

    def __init__(self, hidden: int, branching: BranchingConfig) -> None:
        super().__init__()
        self.units = hidden
        self.branching = branching
        for name in ("weight_ih", "weight_hh"):
            values = torch.randn(4 * hidden, hidden) * hidden**-0.5
            kept = _largest_blocks(values, branching.sparsity, branching.block_rows)
            self.register_parameter(name, nn.Parameter(values * kept))
            self.register_buffer(name.replace("weight", "kept"), kept, persistent=False)
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        self.register_load_state_dict_post_hook(_find_kept)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """See `FastLayer.matrices`."""
        return self.weight_ih * self.kept_ih, self.weight_hh * self.kept_hh, self.bias

    @torch.no_grad()
    def start_from(self, lstm: nn.LSTM) -> None:
        """See `FastLayer.start_from`: the same weights, without zeros."""
        for own, theirs in zip((self.weight_ih, self.weight_hh, self.bias), lstm_matrices(lstm), strict=True):
            own.copy_(theirs)
        self.kept_ih.fill_(True)
        self.kept_hh.fill_(True)

    @torch.no_grad()
    def prune(self, sparsity: float) -> None:
        """Set the smallest blocks of each matrix to zero, up to this share of all."""
        for weights, kept in ((self.weight_ih, self.kept_ih), (self.weight_hh, self.kept_hh)):
            kept.copy_(_largest_blocks(weights, sparsity, self.branching.block_rows))
        self.keep()

    @torch.no_grad()
    def keep(self) -> None:
        """Set to zero again what an optimiser's momentum or an average has moved."""
        self.weight_ih.mul_(self.kept_ih)
        self.weight_hh.mul_(self.kept_hh)

    @property
    def macs(self) -> int:
        """See `FastLayer.macs`."""
        return int(self.kept_ih.sum() + self.kept_hh.sum())


class FactorisedLayer(FastLayer):
    """The slow layer with one matrix of rank R for input and output: `inner_ih` and `inner_hh`, each `(R, H)`, and
    `outer` `(4 H, R)`; the gates are `outer (inner_ih x + inner_hh h) + bias`.
    """

    def __init__(self, hidden: int, branching: BranchingConfig) -> None:
        super().__init__()
        if branching.rank > 2 * hidden:
            raise bad("branching", "rank", branching.rank, f"at most {2 * hidden}, twice the width")
        self.units = hidden
        self.inner_ih = nn.Parameter(torch.randn(branching.rank, hidden) * hidden**-0.5)
        self.inner_hh = nn.Parameter(torch.randn(branching.rank, hidden) * hidden**-0.5)
        self.outer = nn.Parameter(torch.randn(4 * hidden, branching.rank) * branching.rank**-0.5)
        self.bias = nn.Parameter(torch.zeros(4 * hidden))

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """See `FastLayer.matrices`."""
        return self.outer @ self.inner_ih, self.outer @ self.inner_hh, self.bias

    def gates(self, x: Tensor, hidden: Tensor) -> Tensor:
        """See `FastLayer.gates`."""
        inner = nn.functional.linear(x, self.inner_ih) + nn.functional.linear(hidden, self.inner_hh)
        return nn.functional.linear(inner, self.outer, self.bias)

    @torch.no_grad()
    def start_from(self, lstm: nn.LSTM) -> None:
        """See `FastLayer.start_from`: the largest singular values, shared between both factors."""
        of_input, of_state, bias = lstm_matrices(lstm)
        both = torch.cat([of_input, of_state], dim=1)
        left, values, right = torch.linalg.svd(both, full_matrices=False)
        rank = self.outer.shape[1]
        root = values[:rank].sqrt()
        inner = root[:, None] * right[:rank]
        self.outer.copy_(left[:, :rank] * root)
        self.inner_ih.copy_(inner[:, : self.units])
        self.inner_hh.copy_(inner[:, self.units :])
        self.bias.copy_(bias)

    @property
    def macs(self) -> int:
        """See `FastLayer.macs`."""
        return self.inner_ih.numel() + self.inner_hh.numel() + self.outer.numel()


class NarrowLayer(_TwoMatrices):
    """N units, which are the slow layer's first: `weight_ih` and `weight_hh`, each `(4 N, N)`."""

    def __init__(self, hidden: int, branching: BranchingConfig) -> None:
        super().__init__()
        if branching.units > hidden:
            raise bad("branching", "units", branching.units, f"at most {hidden}, the slow branch's")
        self.units = n = branching.units
        self.weight_ih = nn.Parameter(torch.randn(4 * n, n) * n**-0.5)
        self.weight_hh = nn.Parameter(torch.randn(4 * n, n) * n**-0.5)
        self.bias = nn.Parameter(torch.zeros(4 * n))

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """See `FastLayer.matrices`."""
        return self.weight_ih, self.weight_hh, self.bias

    @torch.no_grad()
    def start_from(self, lstm: nn.LSTM) -> None:
        """See `FastLayer.start_from`: the first units of every gate."""
        n = self.units
        of_input, of_state, bias = lstm_matrices(lstm)
        for own, whole in ((self.weight_ih, of_input), (self.weight_hh, of_state)):
            own.copy_(whole.view(4, -1, whole.shape[1])[:, :n, :n].flatten(0, 1))
        self.bias.copy_(bias.view(4, -1)[:, :n].flatten())

    @property
    def macs(self) -> int:
        """See `FastLayer.macs`."""
        return self.weight_ih.numel() + self.weight_hh.numel()


FAST: Mapping[FastKind, type[SparseLayer | FactorisedLayer | NarrowLayer]] = {
    "sparse": SparseLayer,
    "factorised": FactorisedLayer,
    "narrow": NarrowLayer,
}
"""The kinds of layers by their names in a configuration."""


def lstm_matrices(lstm: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Of a layer of `torch.nn.LSTM`: from input and output to the gates, `(4 H, H)` each, and the bias `(4 H,)`."""
    of_input, of_state, one, other = (
        lstm.get_parameter(f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return of_input, of_state, one + other


def _largest_blocks(weights: Tensor, sparsity: float, block_rows: int) -> Tensor:
    """Which weights lie in the blocks that remain: those with the largest mean square, at least one of a matrix."""
    squares = weights.detach() ** 2
    score = _sums(squares, block_rows) / _sums(torch.ones_like(squares), block_rows)
    count = max(1, round((1 - sparsity) * score.numel()))
    kept = torch.zeros_like(score, dtype=torch.bool)
    kept.view(-1)[score.flatten().topk(count).indices] = True
    return _spread(kept, weights, block_rows)


@torch.no_grad()
def _find_kept(layer: nn.Module, missing: Any) -> None:
    """After loading: the blocks whose weights are not all zero."""
    del missing
    assert isinstance(layer, SparseLayer)
    rows = layer.branching.block_rows
    for weights, kept in ((layer.weight_ih, layer.kept_ih), (layer.weight_hh, layer.kept_hh)):
        kept.copy_(_spread(_sums(weights.abs(), rows) > 0, weights, rows))


def _sums(values: Tensor, block_rows: int) -> Tensor:
    """Sums of the blocks of a matrix; those at its edges may be smaller."""
    padded = nn.functional.pad(
        values, (0, -values.shape[1] % BLOCK_COLUMNS, 0, -values.shape[0] % block_rows)
    )
    rows, cols = padded.shape
    return padded.view(rows // block_rows, block_rows, cols // BLOCK_COLUMNS, BLOCK_COLUMNS).sum((1, 3))


def _spread(blocks: Tensor, like: Tensor, block_rows: int) -> Tensor:
    """A value of each block as a value of each weight."""
    whole = blocks.repeat_interleave(block_rows, 0).repeat_interleave(BLOCK_COLUMNS, 1)
    return whole[: like.shape[0], : like.shape[1]]
