"""A branching transcriber with the engine's arithmetic; see `edgespeech.packed.simulate`.

Both branches run in every frame, and the chosen one's results are taken, so that utterances of different choices can be
in one batch. The engine runs the chosen one alone, with the same bits.

Letters: B batch, F feature frames, T transcriber frames, H units of the slow branch, N of the fast one, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor as Torch
from torch import nn

from edgespeech.model.branching import BranchingTranscriber, BranchState
from edgespeech.model.fast_branch import FactorisedLayer, FastLayer
from edgespeech.packed.arithmetic import Lstm, Product, lstm_step
from edgespeech.packed.edge_file import Tensor


class FastStep(nn.Module):
    """A layer of the fast branch with packed matrices.

    Args:
        inputs: from the first N inputs to the gates, or to R numbers between.
        recurrent: likewise, from the first N outputs before.
        outer: from R numbers to the gates; None where there is none.
        units: N.
    """

    def __init__(self, inputs: Product, recurrent: Product, outer: Product | None, units: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.recurrent = recurrent
        self.outer = outer
        self.units = units

    def forward(self, driven: Torch, hidden: Torch, cell: Torch) -> tuple[Torch, Torch]:
        """The output and the cell after a step, each with shape `(B, H)`; those beyond N stay as they were.

        Args:
            driven: `inputs` of the step.
            hidden: output before, with shape `(B, H)`.
            cell: before, with shape `(B, H)`.
        """
        n = self.units
        gates = driven + self.recurrent(hidden[:, :n])
        if self.outer is not None:
            gates = self.outer(gates)
        out, after = lstm_step(gates, cell[:, :n])
        return torch.cat([out, hidden[:, n:]], dim=1), torch.cat([after, cell[:, n:]], dim=1)


def fast_step(
    layer: FastLayer, name: str, tensors: Mapping[str, Tensor], floats: Mapping[str, Torch]
) -> FastStep:
    """A fast layer with the packed tensors of its name; `floats` has its bias."""
    bias = floats[f"{name}.bias"]
    if isinstance(layer, FactorisedLayer):
        inner = [Product(tensors[f"{name}.inner_{each}"]) for each in ("ih", "hh")]
        return FastStep(inner[0], inner[1], Product(tensors[f"{name}.outer"], bias), layer.units)
    inputs = Product(tensors[f"{name}.weight_ih"], bias)
    return FastStep(inputs, Product(tensors[f"{name}.weight_hh"]), None, layer.units)


class SimulatedTranscriber(BranchingTranscriber):
    """A branching transcriber whose layers are `Lstm` and `FastStep`."""

    def forward(  # type: ignore[override]  # as in BranchingTranscriber
        self,
        features: Torch,
        lengths: Torch,
        state: BranchState | None = None,
        mix: Torch | None = None,
    ) -> tuple[Torch, Torch, BranchState]:
        """As `BranchingTranscriber.forward`; a frame of `mix` above one half is slow."""
        frames = self.stacked(features)
        before = None if state is None else (state.arbitrator_hidden, state.arbitrator_cell)
        logits, arbitrator = self.arbitrator(frames, before)
        slow = (logits > 0 if mix is None else mix > 0.5).expand(-1, -1, len(self.lstms))
        x = self.enter(frames)
        hidden, cell = [], []
        for layer, (norm, lstm, fast) in enumerate(zip(self.norms, self.lstms, self.fast, strict=True)):
            assert isinstance(lstm, Lstm)
            assert isinstance(fast, FastStep)
            normal = norm(x)
            zeros = x.new_zeros(len(x), x.shape[2])
            h, c = (zeros, zeros) if state is None else (state.hidden[layer], state.cell[layer])
            wide, narrow = lstm.inputs(normal), fast.inputs(normal[..., : fast.units])
            outputs = []
            for t in range(x.shape[1]):
                choice = slow[:, t, layer, None]
                h_slow, c_slow = lstm_step(wide[:, t] + lstm.recurrent(h), c)
                h_fast, c_fast = fast(narrow[:, t], h, c)
                h, c = torch.where(choice, h_slow, h_fast), torch.where(choice, c_slow, c_fast)
                outputs.append(h)
            x = x + torch.stack(outputs, dim=1)
            hidden.append(h)
            cell.append(c)
        return (
            self.leave(x),
            lengths // self.stack,
            BranchState(torch.stack(hidden), torch.stack(cell), *arbitrator),
        )
