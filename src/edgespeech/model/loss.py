"""The transducer loss in bounded memory: joiner, softmax and forward-backward together, chunk by chunk.

Letters: B batch; T transcriber frames; U labels; J joiner width; V word pieces. A cell is a node `(t, u)` of an
utterance's lattice; the cells of a batch are packed without padding, in the order of utterance, frame, label.

The logits have shape `(B, T, U + 1, V)` and the joiner's hidden values `(B, T, U + 1, J)`; neither is materialised as
one tensor. A chunk holds the cells of some frames: the first pass computes the log-probabilities of the blank and of
the next label of each cell, the recursions run over those, and the second pass computes the gradients chunk by chunk.
Chunks that fit into the memory bound are reused in the second pass; the others are recomputed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edgespeech.errors import bad

_CPU_CELLS = 2048
"""Maximum number of cells in a chunk on a CPU, so that its tensors stay in the cache."""


def transducer_loss(
    encoded: Tensor,
    predicted: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
    frame_lengths: Tensor,
    label_lengths: Tensor,
    *,
    blank: int = 0,
    memory_mib: float = 64.0,
    fast_emit: float = 0.0,
) -> Tensor:
    """Negative log-likelihood of each utterance's labels (Graves 2012, equations 16 to 20).

    The logits of cell `(t, u)` are `weight @ tanh(encoded[t] + predicted[u]) + bias`. Differentiable, once, in the
    first four arguments. Matrix products are computed in the type of `encoded`; sums and the softmax in float32 at
    least; the recursions in float64. Deterministic on a CPU.

    Args:
        encoded: transcriber output, with shape `(B, T, J)`, floating point.
        predicted: predictor output, with shape `(B, U + 1, J)`; row u follows u labels.
        weight: of the joiner, with shape `(V, J)`.
        bias: of the joiner, with shape `(V,)`.
        labels: word pieces, with shape `(B, U)`, int64; values beyond an utterance's length are ignored.
        frame_lengths: valid frames of each utterance, with shape `(B,)`, 1 to T. More labels than frames are
            legal.
        label_lengths: labels of each utterance, with shape `(B,)`, 0 to U.
        blank: index of the blank.
        memory_mib: bound on all tensors as wide as J or V per cell, in MiB. Less memory takes more time, up to about
            1.7 times as much. Some twenty float64 numbers per cell, and the gradients, are not counted.
        fast_emit: lambda of FastEmit (J. Yu et al., "FastEmit: low-latency streaming ASR with sequence-level emission
            regularization", ICASSP 2021, arXiv:2010.11148), 0 or more: the derivative at each cell's probability of the
            next label is multiplied by 1 + lambda, that at the blank's is not, so that labels are emitted earlier. The
            loss stays the negative log-likelihood: with lambda above 0 the gradient is not its derivative.

    Returns:
        Loss in nats, with shape `(B,)`, float32 (float64 if `encoded` is). A NaN in an utterance's inputs is a NaN
        in its loss; labels of probability zero cost infinity.

    Raises:
        EdgeSpeechError: shapes that do not agree, lengths out of range, a label that is the blank or no word piece,
            an utterance of which not even one frame fits in `memory_mib`, or a `fast_emit` below 0.
    """
    if not 0 <= fast_emit < torch.inf:
        raise bad("transducer_loss", "fast_emit", fast_emit, "a number of 0 or more")
    weight = weight.to(encoded.dtype)
    softmax_type = torch.promote_types(encoded.dtype, torch.float32)
    encoded, predicted, bias = (tensor.to(softmax_type) for tensor in (encoded, predicted, bias))
    batch = _checked(
        encoded, predicted, weight, bias, labels, frame_lengths, label_lengths, blank, memory_mib
    )
    needs_gradient = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (encoded, predicted, weight, bias)
    )
    inputs = encoded, predicted, weight, bias, batch, needs_gradient, fast_emit
    losses: Tensor = _TransducerLoss.apply(*inputs)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return losses


class _Batch(NamedTuple):
    """The parts of a batch that do not depend on the scores.

    Attributes:
        frames: frames of each utterance.
        states: labels and one, of each utterance.
        targets: the next label of each cell; the blank after the last, with shape `(N,)` for N cells.
        blank: index of the blank.
        cells: most cells of a chunk.
        memory: bound on the tensors as wide as J or V, in bytes.
        lattice: the layout of the cells.
    """

    frames: list[int]
    states: list[int]
    targets: Tensor
    blank: int
    cells: int
    memory: float
    lattice: _Lattice


class _Piece(NamedTuple):
    """Frames `start` to `stop` of one utterance, whose `states` cells each take rows `rows` of a chunk."""

    utterance: int
    start: int
    stop: int
    states: int
    rows: slice


class _Lattice:
    """The recursions over the whole batch at once, both directions together, by anti-diagonals.

    In the forward direction alpha of cell `(t, u)` is on diagonal t + u. In the backward direction the utterance is
    reversed, so that beta of `(T - 1 - t, U - u)` is another alpha, one diagonal later: its step through a blank starts
    at the end, outside the cells. Utterance b is row b forwards and row B + b backwards; column u + 1 is state u, since
    column 0 represents the position before the first state, which is never reached.
    """

    def __init__(self, frames: Tensor, states: Tensor) -> None:
        """Lay out the cells.

        Args:
            frames: frames of each utterance, with shape `(B,)`, int64.
            states: labels and one, with shape `(B,)`, int64.
        """
        device, count = frames.device, frames.shape[0]
        wide, long = int(states.max()), int(frames.max())
        t = torch.arange(long, device=device)[None, :, None]
        u = torch.arange(wide, device=device)[None, None, :]
        b, t, u = ((t < frames[:, None, None]) & (u < states[:, None, None])).nonzero(as_tuple=True)
        back_t, back_u = frames[b] - 1 - t, states[b] - 1 - u
        self.shape = (long + wide, 2 * count, wide + 1)
        self.column = wide + 1
        self.diagonal = 2 * count * self.column
        self.forward = (t + u) * self.diagonal + b * self.column + u + 1
        self.backward = (back_t + back_u + 1) * self.diagonal + (count + b) * self.column + back_u + 1
        rows = torch.arange(count, device=device)
        self.end = (frames + states - 1) * self.diagonal + rows * self.column + states
        self.utterance, self.frame, self.state = b, t, u
        self.final = back_u == 0
        self.going_on = (~self.final).nonzero()[:, 0]

    def run(self, blank: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Forward-backward.

        Args:
            blank: log-probability of the blank at each cell, with shape `(N,)`.
            label: log-probability of the next label, likewise; not used after the last.

        Returns:
            total: log-likelihood of each utterance, with shape `(B,)`, float64.
            occupied: log-probability of passing through each cell given the labels, with shape `(N,)`.
            left: log-probability of leaving it by the blank.
            emitted: log-probability of leaving it by the label.
        """
        blank, label = blank.double(), label.double().masked_fill(self.final, -torch.inf)
        stay = torch.full(self.shape, -torch.inf, dtype=torch.float64, device=blank.device)
        emit, reached = stay.clone(), stay.clone()
        flat = reached.view(-1)
        stay.view(-1)[self.forward + self.diagonal] = blank
        stay.view(-1)[self.backward] = blank
        emit.view(-1)[self.forward[self.going_on] + self.diagonal + 1] = label[self.going_on]
        emit.view(-1)[self.backward] = label
        reached[0, :, 1] = 0.0
        through_blank, through_label = stay[:, :, 1:], emit[:, :, 1:]
        for now in range(1, self.shape[0]):
            torch.logaddexp(
                through_blank[now].add_(reached[now - 1, :, 1:]),
                through_label[now].add_(reached[now - 1, :, :-1]),
                out=reached[now, :, 1:],
            )
        total = flat[self.end]
        alpha = flat[self.forward] - total[self.utterance]
        return (
            total,
            alpha + flat[self.backward],
            alpha + blank + flat[self.backward - self.diagonal],
            alpha + label + flat[self.backward - self.diagonal - 1],
        )


class _TransducerLoss(torch.autograd.Function):
    """Computes the scores once, stores the chunks that fit, and computes the gradients in the backward pass.

    `encoded`, `predicted` and `bias` have the type of the softmax, `weight` that of the matrix products.
    """

    @staticmethod
    def forward(
        ctx: Any,
        encoded: Tensor,
        predicted: Tensor,
        weight: Tensor,
        bias: Tensor,
        batch: _Batch,
        needs_gradient: bool,
        fast_emit: float,
    ) -> Tensor:
        """Loss of each utterance."""
        inputs = encoded, predicted, weight, bias
        blank, label = encoded.new_empty(batch.targets.shape), encoded.new_empty(batch.targets.shape)
        kept: list[tuple[Tensor, Tensor] | None] = []
        room = batch.memory - batch.cells * _cell_bytes(encoded, weight)
        with torch.autocast(encoded.device.type, enabled=False):
            for rows, pieces in _chunks(batch):
                hidden, logp = _score(pieces, *inputs)
                blank[rows] = logp[:, batch.blank]
                label[rows] = logp.gather(1, batch.targets[rows, None])[:, 0]
                room -= hidden.nbytes + logp.nbytes
                kept.append((hidden, logp) if needs_gradient and room >= 0 else None)
        total, *posteriors = batch.lattice.run(blank, label)
        if needs_gradient:
            if fast_emit:
                occupied, _, emitted = posteriors
                # exp(emitted) * (1 + lambda), and exp(occupied) + lambda * exp(emitted): what the softmax takes back.
                torch.logaddexp(occupied, emitted + math.log(fast_emit), out=occupied)
                emitted += math.log1p(fast_emit)
            ctx.batch, ctx.kept = batch, kept
            ctx.save_for_backward(*inputs, *(one.exp_().to(encoded.dtype) for one in posteriors))
        return -total.to(encoded.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the four tensors, given the gradient of each utterance's loss.

        The derivative at the logits is `p * occupied`, less `left` at the blank and `emitted` at the label. Cells
        that the labels pass with a probability below the rounding error are left out: most, once a model aligns.
        With FastEmit `emitted` is 1 + lambda times what it is without, and `occupied` is still `left + emitted`.
        """
        batch: _Batch = ctx.batch
        *inputs, occupied, left, emitted = ctx.saved_tensors
        encoded, predicted, weight, _ = inputs
        gradients = [torch.zeros(one.shape, dtype=scale.dtype, device=one.device) for one in inputs]
        by_frame, by_state, weight_grad, bias_grad = (one.view(-1, one.shape[-1]) for one in gradients)
        lattice = batch.lattice
        frame = lattice.utterance * encoded.shape[1] + lattice.frame
        state = lattice.utterance * predicted.shape[1] + lattice.state
        scale = scale[lattice.utterance]
        with torch.autocast(encoded.device.type, enabled=False):
            for index, (rows, pieces) in enumerate(_chunks(batch)):
                hidden, logp = ctx.kept[index] or _score(pieces, *inputs)
                ctx.kept[index] = None  # free before the loss itself is; a second backward scores again
                # Written so that a NaN is not left out.
                live = (~(occupied[rows] <= torch.finfo(scale.dtype).eps)).nonzero()[:, 0]
                cell = live + rows.start
                hidden, grad = hidden.index_select(0, live), logp.index_select(0, live)
                grad.exp_().mul_((occupied[cell] * scale[cell])[:, None])
                grad[:, batch.blank] -= left[cell] * scale[cell]
                grad[torch.arange(len(cell), device=cell.device), batch.targets[cell]] -= (
                    emitted[cell] * scale[cell]
                )
                bias_grad += grad.sum(0)
                grad = grad.to(weight.dtype)
                weight_grad += grad.t() @ hidden
                hidden_grad = grad @ weight
                torch.ops.aten.tanh_backward.grad_input(hidden_grad, hidden, grad_input=hidden_grad)
                hidden_grad = hidden_grad.to(scale.dtype)
                by_frame.index_add_(0, frame[cell], hidden_grad)
                by_state.index_add_(0, state[cell], hidden_grad)
        return *(grad.to(one.dtype) for grad, one in zip(gradients, inputs, strict=True)), None, None, None


def _score(
    pieces: list[_Piece], encoded: Tensor, predicted: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Hidden values `(n, J)` and log-probabilities `(n, V)` of a chunk's n cells."""
    hidden = encoded.new_empty(pieces[-1].rows.stop, encoded.shape[2])
    for utterance, start, stop, states, rows in pieces:
        torch.add(
            encoded[utterance, start:stop, None],
            predicted[utterance, None, :states],
            out=hidden[rows].view(stop - start, states, -1),
        )
    # tanh(x) as 2 sigmoid(2 x) - 1, several times faster on a CPU.
    hidden = hidden.mul_(2).sigmoid_().mul_(2).sub_(1).to(weight.dtype)
    logits = torch.mm(hidden, weight.t()).to(bias.dtype).add_(bias)
    return hidden, torch.log_softmax(logits, 1)


def _chunks(batch: _Batch) -> Iterator[tuple[slice, list[_Piece]]]:
    """The cells in order, cut into chunks: the range of cells, and the pieces of utterances in each."""
    first, size, pieces = 0, 0, list[_Piece]()
    for utterance, (frames, states) in enumerate(zip(batch.frames, batch.states, strict=True)):
        start = 0
        while start < frames:
            stop = min(frames, start + (batch.cells - size) // states)
            if stop == start:
                yield slice(first, first + size), pieces
                first, size, pieces = first + size, 0, []
                continue
            end = size + (stop - start) * states
            pieces.append(_Piece(utterance, start, stop, states, slice(size, end)))
            start, size = stop, end
    yield slice(first, first + size), pieces


def _cell_bytes(encoded: Tensor, weight: Tensor) -> int:
    """Maximum bytes per cell while its chunk is processed: two tensors of width J, two of width V."""
    vocabulary, joiner = weight.shape
    return 2 * (vocabulary + joiner) * encoded.itemsize


def _checked(
    encoded: Tensor,
    predicted: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
    frame_lengths: Tensor,
    label_lengths: Tensor,
    blank: int,
    memory_mib: float,
) -> _Batch:
    """Validate the arguments and lay out the batch."""
    where = "transducer_loss"
    if encoded.dim() != 3 or weight.dim() != 2 or labels.dim() != 2:
        shapes = tuple(encoded.shape), tuple(weight.shape), tuple(labels.shape)
        raise bad(where, "shapes of encoded, weight, labels", shapes, "(B, T, J), (V, J), (B, U)")
    count, long, joiner = encoded.shape
    vocabulary, wide = weight.shape[0], labels.shape[1]
    for name, tensor, shape in (
        ("predicted", predicted, (count, wide + 1, joiner)),
        ("weight", weight, (vocabulary, joiner)),
        ("bias", bias, (vocabulary,)),
        ("labels", labels, (count, wide)),
        ("frame_lengths", frame_lengths, (count,)),
        ("label_lengths", label_lengths, (count,)),
    ):
        if tuple(tensor.shape) != shape:
            raise bad(where, f"shape of {name}", tuple(tensor.shape), str(shape))
    if not 0 <= blank < vocabulary:
        raise bad(where, "blank", blank, f"0 to {vocabulary - 1}")
    if count == 0:
        raise bad(where, "batch", 0, "one utterance or more")
    frames, used = frame_lengths.tolist(), label_lengths.tolist()
    for name, lengths, least, most in (("frame_lengths", frames, 1, long), ("label_lengths", used, 0, wide)):
        for index, length in enumerate(lengths):
            if not least <= length <= most:
                raise bad(where, f"{name}[{index}]", length, f"{least} to {most}")

    device = encoded.device
    frame_lengths, label_lengths = frame_lengths.to(device).long(), label_lengths.to(device).long()
    labels = labels.to(device)
    inside = torch.arange(wide, device=device) < label_lengths[:, None]
    wrong = inside & ((labels < 0) | (labels >= vocabulary) | (labels == blank))
    if wrong.any():
        index, place = wrong.nonzero()[0].tolist()
        expected = f"a word piece: 0 to {vocabulary - 1} and not the blank {blank}"
        raise bad(where, f"labels[{index}, {place}]", int(labels[index, place]), expected)

    memory, cell = memory_mib * 2**20, _cell_bytes(encoded, weight)
    index = max(range(count), key=used.__getitem__)
    widest = used[index] + 1
    if not widest * cell <= memory:  # written so that a NaN is refused
        needed = f"{widest * cell / 2**20:.3g} or more for one frame of utterance {index} with {used[index]} labels"
        raise bad(where, "memory_mib", memory_mib, needed)
    cells = int(memory / cell) // 8
    if device.type == "cpu":
        cells = min(cells, _CPU_CELLS)
    lattice = _Lattice(frame_lengths, label_lengths + 1)
    following = torch.nn.functional.pad(torch.where(inside, labels, blank), (0, 1), value=blank)
    return _Batch(
        frames=frames,
        states=[length + 1 for length in used],
        targets=following[lattice.utterance, lattice.state],
        blank=blank,
        cells=max(cells, widest),
        memory=memory,
        lattice=lattice,
    )
