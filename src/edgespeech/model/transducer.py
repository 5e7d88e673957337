"""A streaming recurrent neural network transducer (RNN-T).

Source: A. Graves, "Sequence transduction with recurrent neural networks" (2012), section 2; the predictor with
limited label context: M. Ghodsi et al., "RNN-transducer with stateless prediction network" (ICASSP 2020).

Letters: B batch, F feature frames (10 ms), T transcriber frames, U labels, H hidden width, J joiner width,
V word pieces, L layers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgespeech.core.labels import BLANK
from edgespeech.errors import bad
from edgespeech.model.biasing import ContextBiasing
from edgespeech.model.config import ModelConfig


class LstmState(NamedTuple):
    """The state of a stack of LSTM layers: outputs and cells, each with shape `(L, B, H)`."""

    hidden: Tensor
    cell: Tensor


class Transcriber(nn.Module):
    """Unidirectional LSTM layers over stacked log-mel frames, without look-ahead beyond one stack.

    Each layer is `x + dropout(LSTM(norm(x)))`. Features are normalised by the mean and deviation of each mel
    band over the training speech (`set_statistics`), which are part of the weights.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stack = config.stack
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("scale", torch.ones(config.features))
        self.enter = nn.Linear(config.stack * config.features, config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in range(config.layers))
        self.lstms = nn.ModuleList(
            nn.LSTM(config.hidden, config.hidden, batch_first=True) for _ in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.leave = nn.Sequential(nn.LayerNorm(config.hidden), nn.Linear(config.hidden, config.joiner))
        for lstm in self.lstms:
            assert isinstance(lstm, nn.LSTM)
            _open_forget_gate(lstm)

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the mean and standard deviation of each mel band, each with shape `(80,)`."""
        self.mean.copy_(mean)
        self.scale.copy_(1 / deviation.clamp(min=1e-3))

    def forward(
        self, features: Tensor, lengths: Tensor, state: LstmState | None = None
    ) -> tuple[Tensor, Tensor, LstmState]:
        """Transcribe a batch, or the next piece of one.

        Args:
            features: with shape `(B, F, 80)`.
            lengths: valid feature frames of each, with shape `(B,)`.
            state: returned by the call for the previous piece; None at the start.

        Returns:
            The transcription with shape `(B, T, J)`, T = F // stack (a rest is dropped); its lengths with
            shape `(B,)`; the state after the last frame (of use where no utterance is padded).
        """
        batch, frames, bands = features.shape
        steps = frames // self.stack
        normal = (features[:, : steps * self.stack] - self.mean) * self.scale
        x = self.enter(normal.reshape(batch, steps, self.stack * bands))
        hidden, cell = [], []
        for layer, (norm, lstm) in enumerate(zip(self.norms, self.lstms, strict=True)):
            before = None if state is None else (state.hidden[layer, None], state.cell[layer, None])
            y, (h, c) = lstm(norm(x), before)
            x = x + self.dropout(y)
            hidden.append(h)
            cell.append(c)
        return self.leave(x), lengths // self.stack, LstmState(torch.cat(hidden), torch.cat(cell))


class StatelessPredictor(nn.Module):
    """A predictor over the last `context` labels only; the first label is preceded by blanks.

    Its state is those labels, with shape `(B, context)`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.context = config.context
        self.embedding = nn.Embedding(config.vocabulary, config.joiner)
        self.mix = nn.Conv1d(config.joiner, config.joiner, config.context)
        self.leave = nn.Linear(config.joiner, config.joiner)

    def forward(self, labels: Tensor) -> Tensor:
        """Predictions after 0 to U labels: `(B, U)` to `(B, U + 1, J)`."""
        return self._see(nn.functional.pad(labels, (self.context, 0), value=BLANK))

    def start(self, batch: int) -> Tensor:
        """The state before the first label."""
        return torch.full((batch, self.context), BLANK, dtype=torch.int64, device=self.leave.weight.device)

    def read(self, state: Tensor) -> Tensor:
        """The prediction of a state, with shape `(B, J)`."""
        return self._see(state).squeeze(1)

    def advance(self, labels: Tensor, state: Tensor) -> Tensor:
        """The state after one more label each, `labels` with shape `(B,)`."""
        return torch.cat([state[:, 1:], labels[:, None]], dim=1)

    def _see(self, labels: Tensor) -> Tensor:
        mixed = self.mix(self.embedding(labels).transpose(1, 2)).transpose(1, 2)
        predicted: Tensor = self.leave(torch.relu(mixed))
        return predicted


class LstmPredictor(nn.Module):
    """A predictor over all labels: one LSTM layer of the joiner's width.

    Its state holds the LSTM's output and cell, each with shape `(1, B, J)`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.joiner)
        self.lstm = nn.LSTM(config.joiner, config.joiner, batch_first=True)
        self.leave = nn.Linear(config.joiner, config.joiner)
        _open_forget_gate(self.lstm)

    def forward(self, labels: Tensor) -> Tensor:
        """Predictions after 0 to U labels: `(B, U)` to `(B, U + 1, J)`."""
        out, _ = self.lstm(self.embedding(nn.functional.pad(labels, (1, 0), value=BLANK)))
        predicted: Tensor = self.leave(out)
        return predicted

    def start(self, batch: int) -> LstmState:
        """The state before the first label."""
        device = self.leave.weight.device
        zeros = torch.zeros(1, batch, self.lstm.hidden_size, device=device)
        return self.advance(torch.full((batch,), BLANK, device=device), LstmState(zeros, zeros))

    def read(self, state: LstmState) -> Tensor:
        """The prediction of a state, with shape `(B, J)`."""
        predicted: Tensor = self.leave(state.hidden[0])
        return predicted

    def advance(self, labels: Tensor, state: LstmState) -> LstmState:
        """The state after one more label each, `labels` with shape `(B,)`."""
        _, after = self.lstm(self.embedding(labels[:, None]), (state.hidden, state.cell))
        return LstmState(*after)


PredictorState = Tensor | LstmState


class Transducer(nn.Module):
    """Transcriber, predictor and joiner.

    The logits of the next word piece after transcriber frame t and u labels are
    `joiner(tanh(encoded[t] + predicted[u]))`. `ctc` is a second output on the transcriber that only training
    uses. `biasing` is the attention over a list of phrases, in a model that has it; it does nothing here, see
    `edgespeech.model.contextual`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.transcriber = Transcriber(config)
        self.predictor: StatelessPredictor | LstmPredictor = (
            StatelessPredictor(config) if config.predictor == "stateless" else LstmPredictor(config)
        )
        self.joiner = nn.Linear(config.joiner, config.vocabulary)
        self.ctc = nn.Linear(config.joiner, config.vocabulary)
        self.biasing = None if config.biasing is None else ContextBiasing(config)

    @property
    def parameters_deployed(self) -> int:
        """The number of weights needed for recognition: all but the `ctc` output."""
        unused = sum(p.numel() for p in self.ctc.parameters())
        return int(sum(t.numel() for t in self.state_dict().values()) - unused)

    def transcribe(
        self, features: Tensor, lengths: Tensor, state: LstmState | None = None
    ) -> tuple[Tensor, Tensor, LstmState]:
        """See `Transcriber.forward`.

        Raises:
            EdgeSpeechError: features of another shape.
        """
        if features.ndim != 3 or features.shape[2] != self.config.features:
            raise bad(
                "model", "shape of the features", tuple(features.shape), f"(B, F, {self.config.features})"
            )
        encoded, steps, after = self.transcriber(features, lengths, state)
        return encoded, steps, after

    def predict(self, labels: Tensor) -> Tensor:
        """Predictions after 0 to U labels: `(B, U)` to `(B, U + 1, J)`."""
        predicted: Tensor = self.predictor(labels)
        return predicted

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Logits with shape `(..., V)` of a transcription and a prediction that broadcast, `(..., J)`."""
        logits: Tensor = self.joiner(torch.tanh(encoded + predicted))
        return logits

    def start(self, batch: int) -> tuple[Tensor, PredictorState]:
        """The prediction `(B, J)` before the first label, and the predictor's state there."""
        state = self.predictor.start(batch)
        return self.predictor.read(state), state  # type: ignore[arg-type]  # each predictor reads its own kind

    def advance(self, labels: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        """The prediction `(B, J)` after one more label each, and the state there.

        Args:
            labels: with shape `(B,)`.
            state: from `start` or `advance`.
        """
        after = self.predictor.advance(labels, state)  # type: ignore[arg-type]  # as in start
        return self.predictor.read(after), after  # type: ignore[arg-type]  # as in start


def _open_forget_gate(lstm: nn.LSTM) -> None:
    """Start with the forget gate's bias at 1 (Jozefowicz et al. 2015), so that memory lasts from the start."""
    with torch.no_grad():
        size = lstm.hidden_size
        for name, bias in lstm.named_parameters():
            if name.startswith("bias"):
                bias.zero_()
            if name.startswith("bias_ih"):
                bias[size : 2 * size] = 1.0
