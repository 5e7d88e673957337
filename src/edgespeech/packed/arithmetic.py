"""The engine's arithmetic in torch: every operation rounds as in the engine and sums have the same order
(`engine/csrc/floats_body.hpp`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor as Torch
from torch import nn

from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import Tensor

_LANES = 16
"""Number of partial sums of floats in the engine."""


def exp(x: Torch) -> Torch:
    """The exponential, with |x| clipped to 60: 2^n times the series of exp of the remainder."""
    x = x.clamp(-60, 60)
    shifted = x * _f32(1.44269504) + 12582912.0  # 1.5 * 2^23: a small float added to it is rounded
    n = shifted - 12582912.0
    remains = (x - n * 0.693359375) - n * _f32(-2.12194440e-4)
    series = torch.full_like(x, _f32(1 / 5040))
    for factor in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0):
        series = series * remains + _f32(factor)
    return series * ((n.int() + 127) << 23).view(torch.float32)


def sigmoid(x: Torch) -> Torch:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + exp(-x))


def tanh(x: Torch) -> Torch:
    """1 - 2 / (1 + exp(2 x))."""
    return 1 - 2 / (1 + exp(2 * x))


def lane_sum(x: Torch) -> Torch:
    """The sum over the last dimension, which becomes 1: in 16 lanes, which are then added in halves."""
    padded = nn.functional.pad(x, (0, -x.shape[-1] % _LANES))
    lanes = x.new_zeros(*x.shape[:-1], _LANES)
    for some in torch.split(padded, _LANES, dim=-1):
        lanes = lanes + some
    while lanes.shape[-1] > 1:
        low, high = lanes.chunk(2, dim=-1)
        lanes = low + high
    return lanes


class Norm(nn.Module):
    """Layer normalisation with the interface of `torch.nn.LayerNorm`.

    Args:
        weight: with shape `(1, N)`.
        bias: with shape `(1, N)`.
    """

    weight: Torch
    bias: Torch

    def __init__(self, weight: Torch, bias: Torch) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Torch) -> Torch:
        """With the shape of x, `(..., N)`."""
        width = x.new_tensor(x.shape[-1])
        away = x - lane_sum(x) / width
        variance = lane_sum(away * away) / width + _f32(1e-5)
        deviation = (
            variance.double().sqrt().float()
        )  # torch's square root of a float may be off by one in the last bit
        return away * (1 / deviation) * self.weight[0] + self.bias[0]


class Product(nn.Module):
    """A packed matrix times vectors, and a bias after: `(..., cols)` to `(..., rows)`.

    Codes quantise each vector first, by its own scale max|x| / 127, half to even; floats do not.

    Args:
        matrix: codes or floats.
        bias: with shape `(1, rows)`; None for none.
    """

    weight: Torch
    """With shape `(rows, cols)`: floats, or int8 weights before scaling, as float64."""
    scales: Torch
    """With shape `(rows, groups)`; unused if `quantised` is false."""
    bias: Torch | None

    def __init__(self, matrix: Tensor, bias: Torch | None = None) -> None:
        super().__init__()
        self.quantised = isinstance(matrix, Codes)
        if isinstance(matrix, Codes):
            # A double holds the sum of 2^16 products of int8 exactly; a float would not.
            self.register_buffer("weight", torch.from_numpy(matrix.int8().astype(np.float64)))
            self.register_buffer("scales", torch.from_numpy(matrix.scales))
            self.width = matrix.group or matrix.cols
        else:
            self.register_buffer("weight", torch.from_numpy(matrix.astype(np.float32)))
        self.register_buffer("bias", bias)

    def forward(self, x: Torch) -> Torch:
        """With shape `(..., rows)`, single precision."""
        y = self._quantised(x) if self.quantised else nn.functional.linear(x, self.weight)
        return y if self.bias is None else y + self.bias[0]

    def _quantised(self, x: Torch) -> Torch:
        scale = x.abs().amax(dim=-1, keepdim=True) / 127
        q = (x / torch.where(scale > 0, scale, 1)).round().clamp(-127, 127).double()
        pieces = zip(
            torch.split(q, self.width, dim=-1), torch.split(self.weight, self.width, dim=-1), strict=True
        )
        total = x.new_zeros(())
        for group, (columns, weights) in enumerate(pieces):
            total = total + self.scales[:, group] * nn.functional.linear(columns, weights).float()
        return scale * total


def lstm_step(gates: Torch, cell: Torch) -> tuple[Torch, Torch]:
    """The output and the cell of an LSTM after a step, each with shape `(..., N)`.

    Args:
        gates: i, f, g and o before their functions, with shape `(..., 4 N)`.
        cell: before the step.
    """
    i, f, g, o = gates.chunk(4, dim=-1)
    cell = sigmoid(f) * cell + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(cell), cell


class Lstm(nn.Module):
    """An LSTM layer with packed matrices and the interface of `torch.nn.LSTM` with `batch_first`.

    Args:
        inputs: from the input to the gates i, f, g and o, with shape `(4 H, H)`, and the gates' bias.
        recurrent: from the last output to the gates, with shape `(4 H, H)`.
    """

    def __init__(self, inputs: Product, recurrent: Product) -> None:
        super().__init__()
        self.inputs = inputs
        self.recurrent = recurrent
        self.hidden_size = len(recurrent.weight) // 4

    def forward(
        self, x: Torch, state: tuple[Torch, Torch] | None = None
    ) -> tuple[Torch, tuple[Torch, Torch]]:
        """Outputs with shape `(B, T, H)`; the last output and cell, each with shape `(1, B, H)`.

        Args:
            x: with shape `(B, T, H)`.
            state: the output and cell before; None for zeros.
        """
        zeros = x.new_zeros(len(x), self.hidden_size)
        hidden, cell = (zeros, zeros) if state is None else (state[0][0], state[1][0])
        outputs = []
        for driven in self.inputs(x).unbind(dim=1):
            hidden, cell = lstm_step(driven + self.recurrent(hidden), cell)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden[None], cell[None])


class Mix(nn.Module):
    """The stateless predictor's convolution as a product, with the interface of `torch.nn.Conv1d`.

    Args:
        product: of the labels' embeddings, one after the other, with shape `(J, context * J)`.
        context: number of labels.
    """

    def __init__(self, product: Product, context: int) -> None:
        super().__init__()
        self.product = product
        self.context = context

    def forward(self, x: Torch) -> Torch:
        """From `(B, J, U)` to `(B, J, U - context + 1)`."""
        windows = x.transpose(1, 2).unfold(1, self.context, 1).transpose(2, 3)  # (B, U', context, J)
        mixed: Torch = self.product(windows.flatten(start_dim=2))
        return mixed.transpose(1, 2)


def _f32(value: float) -> float:
    """The float32 nearest to a constant."""
    return float(np.float32(value))
