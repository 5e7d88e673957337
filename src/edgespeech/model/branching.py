"""A transducer whose transcriber has two branches over one recurrent state, and an arbitrator that picks one per frame.

Sources: AmNet, arXiv 2108.01553 (branches of one state size, sparse or factorised, chosen frame by frame); Bifocal,
arXiv 2108.01704 (a narrow branch whose units are the first of the wide one's).

The slow branch has the tensors of a `Transcriber`, by the same names; `enter`, the norms and `leave` belong to both
branches. The arbitrator is a small LSTM over the normalised, stacked feature frames, the present one included, and a
linear layer. It sees no layer of the transcriber, so that all decisions of a piece are known before the first layer
runs. A frame is slow where its logit is above 0.

Letters: B batch, F feature frames (10 ms), T transcriber frames, H hidden width, J joiner width, L layers,
A units of the arbitrator, D decisions per frame: 1, or L.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgespeech.errors import bad
from edgespeech.model.branching_config import BranchingConfig
from edgespeech.model.config import ModelConfig
from edgespeech.model.fast_branch import FAST, FastLayer, SparseLayer, lstm_matrices
from edgespeech.model.mixed_lstm import Mixed, mixed_lstm, one_lstm
from edgespeech.model.transducer import LstmState, Transcriber, Transducer


class BranchState(NamedTuple):
    """The state of a branching transcriber between frames.

    Attributes:
        hidden: outputs of the layers, with shape `(L, B, H)`.
        cell: their cells, with shape `(L, B, H)`.
        arbitrator_hidden: the arbitrator's output, with shape `(1, B, A)`.
        arbitrator_cell: its cell, with shape `(1, B, A)`.
    """

    hidden: Tensor
    cell: Tensor
    arbitrator_hidden: Tensor
    arbitrator_cell: Tensor


@dataclass(frozen=True, slots=True)
class Macs:
    """Multiply-accumulates of a transcriber frame.

    Attributes:
        shared: of what runs in every frame: the first and the last linear layer.
        arbitrator: of the arbitrator, in every frame.
        slow: of each layer of the slow branch.
        fast: of each layer of the fast branch.
    """

    shared: int
    arbitrator: int
    slow: tuple[int, ...]
    fast: tuple[int, ...]

    @property
    def all_slow(self) -> int:
        """Of the slow branch alone, as it ships without arbitrator."""
        return self.shared + sum(self.slow)

    @property
    def all_fast(self) -> int:
        """Of the fast branch alone, without arbitrator."""
        return self.shared + sum(self.fast)

    def cost(self, mix: Tensor) -> Tensor:
        """MACs of each frame as a share of `all_slow`, the arbitrator's included.

        Args:
            mix: share of the slow branch, 0 to 1, with shape `(..., D)`.

        Returns:
            With shape `(...)`.
        """
        slow, fast = (torch.tensor(one, dtype=mix.dtype, device=mix.device) for one in (self.slow, self.fast))
        layers = (fast + mix * (slow - fast)).sum(-1)  # one decision counts for every layer
        return (self.shared + self.arbitrator + layers) / self.all_slow


class Arbitrator(nn.Module):
    """Picks a branch for each frame, from the present and the past frames.

    Args:
        inputs: width of a stacked frame.
        units: of its LSTM.
        decisions: per frame.
    """

    def __init__(self, inputs: int, units: int, decisions: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, units, batch_first=True)
        self.leave = nn.Linear(units, decisions)

    def forward(
        self, frames: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Logits with shape `(B, T, D)`, above 0 for slow, and the LSTM's state."""
        out, after = self.lstm(frames, state)
        return self.leave(out), after

    @property
    def macs(self) -> int:
        """Of a frame."""
        inputs, units = self.lstm.input_size, self.lstm.hidden_size
        return 4 * units * (inputs + units) + units * self.leave.out_features


class BranchingTranscriber(Transcriber):
    """Two branches and an arbitrator; see the module's docstring.

    Raises:
        EdgeSpeechError: the fast branch does not fit the slow one's state, or the arbitrator costs too much.
    """

    def __init__(self, config: ModelConfig, branching: BranchingConfig) -> None:
        super().__init__(config)
        self.branching = branching
        decisions = config.layers if branching.per_layer else 1
        self.fast = nn.ModuleList(
            FAST[branching.fast](config.hidden, branching) for _ in range(config.layers)
        )
        self.arbitrator = Arbitrator(config.stack * config.features, branching.arbitrator, decisions)
        macs = self.macs
        if macs.arbitrator > branching.arbitrator_share * macs.all_slow:
            most = f"units that need at most {branching.arbitrator_share:g} of {macs.all_slow} MACs"
            raise bad("branching", "arbitrator", f"{branching.arbitrator} ({macs.arbitrator} MACs)", most)

    @property
    def macs(self) -> Macs:
        """What a frame costs. That of a `sparse` branch is of the blocks that are not zero."""
        ends = self.enter.weight.numel() + sum(p.numel() for p in self.leave.parameters() if p.ndim > 1)
        slow = tuple(sum(p.numel() for p in lstm.parameters() if p.ndim > 1) for lstm in self.lstms)
        return Macs(ends, self.arbitrator.macs, slow, tuple(layer.macs for layer in self.layers_of_fast))

    @property
    def layers_of_fast(self) -> list[FastLayer]:
        """The fast branch's layers."""
        return [layer for layer in self.fast if isinstance(layer, FastLayer)]

    def stacked(self, features: Tensor) -> Tensor:
        """Normalised, stacked frames with shape `(B, T, stack * 80)`, of features `(B, F, 80)`; a rest is dropped."""
        batch, frames, bands = features.shape
        steps = frames // self.stack
        normal = (features[:, : steps * self.stack] - self.mean) * self.scale
        return normal.reshape(batch, steps, self.stack * bands)

    def decide(self, features: Tensor, state: BranchState | None = None) -> Tensor:
        """The arbitrator's logits with shape `(B, T, D)`, of features with shape `(B, F, 80)`."""
        logits, _ = self.arbitrator(self.stacked(features), _of_arbitrator(state))
        said: Tensor = logits
        return said

    def forward(  # type: ignore[override]  # its state has the arbitrator's too
        self,
        features: Tensor,
        lengths: Tensor,
        state: BranchState | None = None,
        mix: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, BranchState]:
        """Transcribe a batch, or the next piece of one.

        Args:
            features: with shape `(B, F, 80)`.
            lengths: valid feature frames of each, with shape `(B,)`.
            state: returned by the call for the previous piece; None at the start.
            mix: share of the slow branch in each frame, 0 to 1, with shape `(B, T, D)` or `(B, T, 1)`; None for the
                arbitrator's hard decisions.

        Returns:
            As `Transcriber.forward`; the state also has the arbitrator's.
        """
        frames = self.stacked(features)
        logits, arbitrator = self.arbitrator(frames, _of_arbitrator(state))
        if mix is None:
            mix = (logits > 0).to(frames.dtype)
        shares = mix.expand(-1, -1, len(self.lstms))
        x = self.enter(frames)
        hidden, cell = [], []
        for layer, (norm, lstm, fast) in enumerate(
            zip(self.norms, self.lstms, self.layers_of_fast, strict=True)
        ):
            normed = norm(x)
            zeros = x.new_zeros(len(x), x.shape[2])
            h, c = (zeros, zeros) if state is None else (state.hidden[layer], state.cell[layer])
            ran = _run(normed, lstm, fast, shares[..., layer], h, c)
            x = x + self.dropout(ran.output)
            hidden.append(ran.hidden)
            cell.append(ran.cell)
        after = BranchState(torch.stack(hidden), torch.stack(cell), *arbitrator)
        return self.leave(x), lengths // self.stack, after

    def step(
        self, frame: Tensor, state: BranchState, choices: Tensor | None = None
    ) -> tuple[Tensor, Tensor, BranchState]:
        """One stream, one frame, and of each layer the chosen branch alone: the obvious form that `forward` must equal.

        Args:
            frame: features of one transcriber frame, with shape `(stack, 80)`.
            state: before it, with B = 1; see `start`.
            choices: true for slow, with shape `(D,)` or `(1,)`; None for the arbitrator's.

        Returns:
            The transcription with shape `(J,)`, the choices with shape `(D,)`, and the state after the frame.
        """
        x = self.stacked(frame[None])[0]
        logits, arbitrator = self.arbitrator(x[None], _of_arbitrator(state))
        chosen = logits[0, 0] > 0 if choices is None else choices
        x = self.enter(x)
        hidden, cell = state.hidden.clone(), state.cell.clone()
        for layer, (norm, lstm) in enumerate(zip(self.norms, self.lstms, strict=True)):
            h, c = hidden[layer], cell[layer]
            if bool(chosen[layer if len(chosen) > 1 else 0]):
                _, (new_h, new_c) = lstm(norm(x)[None], (h[None], c[None]))
                h, c = new_h[0], new_c[0]
            else:
                fast = self.layers_of_fast[layer]
                n = fast.units
                i, f, g, o = fast.gates(norm(x)[:, :n], h[:, :n]).chunk(4, dim=1)
                new_c = f.sigmoid() * c[:, :n] + i.sigmoid() * g.tanh()
                h = torch.cat([o.sigmoid() * new_c.tanh(), h[:, n:]], dim=1)
                c = torch.cat([new_c, c[:, n:]], dim=1)
            hidden[layer], cell[layer] = h, c
            x = x + h
        return self.leave(x)[0], chosen, BranchState(hidden, cell, *arbitrator)

    def start(self, batch: int = 1) -> BranchState:
        """The state before the first frame."""
        of_layers = self.enter.weight.new_zeros(len(self.lstms), batch, self.enter.out_features)
        of_arbitrator = self.enter.weight.new_zeros(1, batch, self.branching.arbitrator)
        return BranchState(of_layers, of_layers.clone(), of_arbitrator, of_arbitrator.clone())


class BranchingTransducer(Transducer):
    """A transducer with a branching transcriber; its other parts and its use are those of `Transducer`."""

    transcriber: BranchingTranscriber

    def __init__(self, config: ModelConfig, branching: BranchingConfig) -> None:
        super().__init__(config)
        self.branching = branching
        self.transcriber = BranchingTranscriber(config, branching)

    def transcribe(  # type: ignore[override]  # its state has the arbitrator's too
        self,
        features: Tensor,
        lengths: Tensor,
        state: BranchState | None = None,
        mix: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, BranchState]:
        """See `BranchingTranscriber.forward`.

        Raises:
            EdgeSpeechError: features of another shape.
        """
        if features.ndim != 3 or features.shape[2] != self.config.features:
            wanted = f"(B, F, {self.config.features})"
            raise bad("model", "shape of the features", tuple(features.shape), wanted)
        encoded, steps, after = self.transcriber(features, lengths, state, mix)
        return encoded, steps, after


def branched(model: Transducer, branching: BranchingConfig, *, prune: bool = True) -> BranchingTransducer:
    """A trained model as the slow branch of a branching one, whose fast branch starts from its weights.

    Args:
        model: the trained one.
        branching: of the new one.
        prune: set the zeros of a `sparse` branch now; else it has none yet.

    Raises:
        EdgeSpeechError: as `BranchingTranscriber`.
    """
    made = BranchingTransducer(model.config, branching)
    made.load_state_dict({**made.state_dict(), **model.state_dict()})
    for fast, lstm in zip(made.transcriber.layers_of_fast, made.transcriber.lstms, strict=True):
        assert isinstance(lstm, nn.LSTM)
        fast.start_from(lstm)
        if prune and isinstance(fast, SparseLayer):
            fast.prune(branching.sparsity)
    return made


def _run(x: Tensor, lstm: nn.Module, fast: FastLayer, shares: Tensor, hidden: Tensor, cell: Tensor) -> Mixed:
    """A layer over inputs `(B, T, H)`, whose frames have the given shares of the slow branch, `(B, T)`."""
    if not shares.requires_grad:
        if bool((shares == 1).all()):
            return one_lstm(x, *lstm_matrices(lstm), hidden, cell)
        if fast.units == x.shape[2] and not bool(shares.any()):
            return one_lstm(x, *fast.matrices(), hidden, cell)
    of_input, of_state, bias = fast.matrices()
    wide, recurrent, own = lstm_matrices(lstm)
    return mixed_lstm(
        nn.functional.linear(x, wide, own),
        nn.functional.linear(x[..., : fast.units], of_input, bias),
        recurrent,
        of_state,
        shares,
        hidden,
        cell,
    )


def _of_arbitrator(state: BranchState | LstmState | None) -> tuple[Tensor, Tensor] | None:
    return None if not isinstance(state, BranchState) else (state.arbitrator_hidden, state.arbitrator_cell)
