"""An LSTM layer of two branches over one recurrent state, mixed frame by frame: `state = a slow + (1 - a) fast`.

Source: AmNet, arXiv 2108.01553: branches of one state size, their outputs mixed in training and chosen afterwards.

Products with the inputs, and the gradients of all matrices, are taken over all frames at once; only the products with
the state go frame by frame. The mix has to be known before the layer runs, which holds where it hangs on the layer's
inputs alone.

Letters: B batch, T frames, H units of the slow branch, N of the fast one, N <= H. Gates are in the order i, f, g, o.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Mixed(NamedTuple):
    """The layer's outputs with shape `(B, T, H)`, and its state after the last frame, `(B, H)` each."""

    output: Tensor
    hidden: Tensor
    cell: Tensor


def mixed_lstm(
    slow: Tensor,
    fast: Tensor,
    slow_recurrent: Tensor,
    fast_recurrent: Tensor,
    mix: Tensor,
    hidden: Tensor,
    cell: Tensor,
) -> Mixed:
    """Run the layer.

    The fast branch reads and writes the first N units of the state; it leaves the others as they were.

    Args:
        slow: what drives the slow branch's gates, products with the inputs and biases, with shape `(B, T, 4 H)`.
        fast: likewise, with shape `(B, T, 4 N)`.
        slow_recurrent: from the output to the slow branch's gates, with shape `(4 H, H)`.
        fast_recurrent: likewise, with shape `(4 N, N)`.
        mix: share of the slow branch in each frame, 0 to 1, with shape `(B, T)`.
        hidden: the output before the first frame, with shape `(B, H)`.
        cell: the cell before the first frame, with shape `(B, H)`.
    """
    outputs, last, after = _MixedLstm.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
        slow, fast, slow_recurrent, fast_recurrent, mix, hidden, cell
    )
    return Mixed(outputs.transpose(0, 1), last, after)


def one_lstm(
    x: Tensor, of_input: Tensor, of_state: Tensor, bias: Tensor, hidden: Tensor, cell: Tensor
) -> Mixed:
    """A layer in which one branch runs in every frame: the library's, which is several times faster.

    Args:
        x: the inputs, with shape `(B, T, H)`.
        of_input: from the input to the gates, with shape `(4 H, H)`.
        of_state: from the output to the gates, likewise.
        bias: of the gates, with shape `(4 H,)`.
        hidden: the output before the first frame, with shape `(B, H)`.
        cell: the cell before it, likewise.
    """
    weights = [of_input, of_state, bias, torch.zeros_like(bias)]
    output, last, after = torch.lstm(x, [hidden[None], cell[None]], weights, True, 1, 0.0, False, False, True)
    return Mixed(output, last[0], after[0])


class _MixedLstm(torch.autograd.Function):
    """Time comes first inside, so that a frame's tensors are contiguous."""

    @staticmethod
    def forward(
        ctx: Any,
        slow: Tensor,
        fast: Tensor,
        slow_recurrent: Tensor,
        fast_recurrent: Tensor,
        mix: Tensor,
        hidden: Tensor,
        cell: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs `(T, B, H)`, last output and cell `(B, H)`."""
        frames, batch, units = slow.shape[1], slow.shape[0], hidden.shape[1]
        narrow = fast_recurrent.shape[1]
        # Gates in place of what drives them.
        slow, fast = (one.transpose(0, 1).contiguous().clone() for one in (slow, fast))
        shares = mix.t().contiguous()[:, :, None]
        outputs = hidden.new_empty(frames + 1, batch, units)
        cells = torch.empty_like(outputs)
        outputs[0], cells[0] = hidden, cell
        slow_cells, fast_cells = slow.new_empty(frames, batch, units), fast.new_empty(frames, batch, narrow)
        # As rows, so that the product of a small batch is twice as fast.
        by_slow, by_fast = slow_recurrent.t().contiguous(), fast_recurrent.t().contiguous()
        for t in range(frames):
            before, held = outputs[t], cells[t]
            slow[t].addmm_(before, by_slow)
            fast[t].addmm_(before[:, :narrow], by_fast)
            said = _cell(slow[t], held, slow_cells[t])
            said_fast = _cell(fast[t], held[:, :narrow], fast_cells[t])
            _blend(shares[t], slow_cells[t], fast_cells[t], held, cells[t + 1])
            _blend(shares[t], said, said_fast, before, outputs[t + 1])
        ctx.save_for_backward(
            slow, fast, slow_recurrent, fast_recurrent, shares, outputs, cells, slow_cells, fast_cells
        )
        return outputs[1:].clone(), outputs[-1].clone(), cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, to_outputs: Tensor, to_last: Tensor, to_after: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the seven tensors."""
        slow, fast, slow_recurrent, fast_recurrent, shares, outputs, cells, slow_cells, fast_cells = (
            ctx.saved_tensors
        )
        frames, narrow = len(slow), fast_recurrent.shape[1]
        slow_grad, fast_grad = torch.empty_like(slow), torch.empty_like(fast)
        to_shares = torch.empty_like(shares)
        to_hidden, to_cell = to_last.clone(), to_after.clone()
        for t in reversed(range(frames)):
            to_hidden += to_outputs[t]
            before, held, share = outputs[t], cells[t], shares[t]
            rest = 1 - share
            tanh_slow, tanh_fast = slow_cells[t].tanh(), fast_cells[t].tanh()
            to_shares[t] = _apart(
                to_hidden, _gate(slow[t], 3) * tanh_slow, _gate(fast[t], 3) * tanh_fast, before
            )
            to_shares[t] += _apart(to_cell, slow_cells[t], fast_cells[t], held)
            back = _cell_grad(slow[t], tanh_slow, held, to_hidden * share, to_cell * share, slow_grad[t])
            part, part_cell = to_hidden * rest, to_cell * rest
            back_fast = _cell_grad(
                fast[t],
                tanh_fast,
                held[:, :narrow],
                part[:, :narrow],
                part_cell[:, :narrow],
                fast_grad[t],
            )
            # What the fast branch leaves as it was passes its gradient on.
            part[:, :narrow] = fast_grad[t] @ fast_recurrent
            part_cell[:, :narrow] = back_fast
            to_hidden = part.addmm_(slow_grad[t], slow_recurrent)
            to_cell = part_cell.add_(back)
        earlier = outputs[:-1]
        to_slow = slow_grad.flatten(0, 1).t() @ earlier.flatten(0, 1)
        to_fast = fast_grad.flatten(0, 1).t() @ earlier[:, :, :narrow].flatten(0, 1)
        return (
            slow_grad.transpose(0, 1),
            fast_grad.transpose(0, 1),
            to_slow,
            to_fast,
            to_shares[:, :, 0].t(),
            to_hidden,
            to_cell,
        )


def _gate(gates: Tensor, index: int) -> Tensor:
    size = gates.shape[1] // 4
    return gates[:, index * size : (index + 1) * size]


def _cell(gates: Tensor, held: Tensor, out: Tensor) -> Tensor:
    """One step of a branch: gates in place, the new cell into `out`; returns the new output."""
    size = held.shape[1]
    gates[:, : 2 * size].sigmoid_()
    gates[:, 3 * size :].sigmoid_()
    i, f, g, o = gates.chunk(4, dim=1)
    g.tanh_()
    torch.mul(f, held, out=out)
    out.addcmul_(i, g)
    return out.tanh().mul_(o)


def _blend(share: Tensor, slow: Tensor, fast: Tensor, before: Tensor, out: Tensor) -> None:
    """`share slow + (1 - share) fast` into `out`; a narrower fast branch is completed by what was before."""
    narrow = fast.shape[1]
    torch.lerp(fast, slow[:, :narrow], share, out=out[:, :narrow])
    if narrow < slow.shape[1]:
        torch.lerp(before[:, narrow:], slow[:, narrow:], share, out=out[:, narrow:])


def _apart(grad: Tensor, slow: Tensor, fast: Tensor, before: Tensor) -> Tensor:
    """The gradient of a share: with shape `(B, 1)`."""
    narrow = fast.shape[1]
    total = (grad[:, :narrow] * (slow[:, :narrow] - fast)).sum(1, keepdim=True)
    if narrow < slow.shape[1]:
        total += (grad[:, narrow:] * (slow[:, narrow:] - before[:, narrow:])).sum(1, keepdim=True)
    return total


def _cell_grad(
    gates: Tensor, tanh_cell: Tensor, held: Tensor, to_hidden: Tensor, to_cell: Tensor, out: Tensor
) -> Tensor:
    """Gradients of a branch's gates before their functions, into `out`; returns that of the cell before."""
    i, f, g, o = gates.chunk(4, dim=1)
    to_i, to_f, to_g, to_o = out.chunk(4, dim=1)
    total = to_cell + to_hidden * o * (1 - tanh_cell * tanh_cell)
    torch.mul(total * g, i * (1 - i), out=to_i)
    torch.mul(total * held, f * (1 - f), out=to_f)
    torch.mul(total * i, 1 - g * g, out=to_g)
    torch.mul(to_hidden * tanh_cell, o * (1 - o), out=to_o)
    return total * f
