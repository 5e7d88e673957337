"""A transducer that attends to one list of phrases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from edgespeech.biasing.phrases import PhraseBias
from edgespeech.biasing.pieces import phrase_labels
from edgespeech.errors import bad
from edgespeech.model.biasing import MAX_PIECES, Context
from edgespeech.model.checkpoint import Trained
from edgespeech.model.transducer import LstmState, PredictorState, Transducer


class ContextualTransducer(Transducer):
    """The view of a transducer with one list of phrases, which it attends to wherever it is used.

    It shares the model's weights and holds the list itself, so that two of them on one model do not know of each other.

    Args:
        model: in evaluation mode.
        phrases: the word pieces of each phrase; with none, all results are the model's own, bit for bit.

    Raises:
        EdgeSpeechError: the model has no attention over phrases, or the list is none that it can take
            (`edgespeech.model.biasing.check_phrases`).
    """

    def __init__(self, model: Transducer, phrases: Sequence[Sequence[int]]) -> None:
        nn.Module.__init__(self)
        if model.biasing is None:
            raise bad("context", "model", "one without attention", "one with attention over phrases")
        self.config = model.config
        self.transcriber, self.predictor = model.transcriber, model.predictor
        self.joiner, self.ctc, self.biasing = model.joiner, model.ctc, model.biasing
        self._join = model.join  # which may be a simulation's
        with torch.inference_mode():
            self.context: Context | None = model.biasing.remember(phrases) if phrases else None
        self.eval()

    def transcribe(
        self, features: Tensor, lengths: Tensor, state: LstmState | None = None
    ) -> tuple[Tensor, Tensor, LstmState]:
        """See `Transducer.transcribe`; audio queries attend to the list."""
        encoded, steps, after = super().transcribe(features, lengths, state)
        if self.context is not None:
            assert self.biasing is not None
            encoded, _ = self.biasing.audio(encoded, self.context.audio)
        return encoded, steps, after

    def predict(self, labels: Tensor) -> Tensor:
        """See `Transducer.predict`; label queries attend to the list."""
        return self._with_list(super().predict(labels))

    def start(self, batch: int) -> tuple[Tensor, PredictorState]:
        """See `Transducer.start`, as `predict`."""
        predicted, state = super().start(batch)
        return self._with_list(predicted), state

    def advance(self, labels: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        """See `Transducer.advance`, as `predict`."""
        predicted, after = super().advance(labels, state)
        return self._with_list(predicted), after

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """See `Transducer.join`."""
        return self._join(encoded, predicted)

    @property
    def context_bytes(self) -> int:
        """Bytes of the encoded list."""
        memories = [memory for memory in self.context or () if memory is not None]
        return sum(tensor.nbytes for memory in memories for tensor in memory)

    def _with_list(self, predicted: Tensor) -> Tensor:
        if self.context is None or self.context.label is None:
            return predicted
        assert self.biasing is not None
        assert self.biasing.label is not None
        biased: Tensor = self.biasing.label(predicted, self.context.label)[0]
        return biased


def attending(trained: Trained, bias: PhraseBias | None) -> Trained:
    """A model with the list of one utterance, in which it attends to the spellings that the bias is for.

    Without a list, or with a model that has no attention, it is the model itself. Spellings of more than `MAX_PIECES`
    word pieces are not attended to. For attention without shallow fusion the bias has a boost of 0.

    Raises:
        EdgeSpeechError: more spellings than attention takes.
    """
    if bias is None or trained.model.biasing is None:
        return trained
    phrases = phrase_labels(bias.texts, trained.tokeniser.pieces, MAX_PIECES)
    return replace(trained, model=ContextualTransducer(trained.model, phrases))


def list_bytes(trained: Trained) -> int:
    """Bytes of the encoded list of `attending`; 0 without one."""
    return trained.model.context_bytes if isinstance(trained.model, ContextualTransducer) else 0
