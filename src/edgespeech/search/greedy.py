"""Greedy search: the likeliest label of every frame, until it is the blank.

Source: A. Graves, "Sequence transduction with recurrent neural networks" (2012), section 2.4, with a beam of one
and a bound on the labels of a frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgespeech.biasing.phrases import PhraseBias, Places
from edgespeech.core.labels import BLANK
from edgespeech.model.transducer import LstmState, PredictorState, Transducer
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.search.settings import MAX_LABELS


class GreedyDecoder:
    """Greedy search over one utterance whose frames arrive in pieces of any size.

    Frames are decoded one by one, so the result does not depend on the pieces.

    Args:
        model: in evaluation mode.
        max_labels: maximum number of labels per frame.
        bias: phrases that are likely; None: no bias. What an unfinished phrase had does not keep a label from being
            emitted, since the search cannot take it back.
    """

    def __init__(
        self, model: Transducer, max_labels: int = MAX_LABELS, bias: PhraseBias | None = None
    ) -> None:
        self._model = model
        self._places = None if bias is None else Places(bias)
        self._max_labels = max_labels
        self._frame = 0
        self._labels: list[int] = []
        self._frames: list[int] = []
        self._score = 0.0
        with torch.inference_mode():
            self._predicted, self._state = model.start(1)

    @torch.inference_mode()
    def accept(self, encoded: Tensor) -> None:
        """Take the next transcriber frames, with shape `(T, J)`, T >= 0."""
        for frame in encoded.unsqueeze(1).unbind():
            self._emit(frame)
            self._frame += 1

    def _emit(self, frame: Tensor) -> None:
        """Emit the labels of one frame, with shape `(1, J)`."""
        for spent in range(self._max_labels + 1):
            scores = self._model.join(frame, self._predicted).log_softmax(dim=-1)
            if self._places is not None:
                biased = self._places.biased(scores.double().numpy(), [self._labels], sunk=True)
                scores = torch.from_numpy(biased)
            scores = scores[0]
            if spent == self._max_labels:  # the limit: continue with the next frame
                self._score += float(scores[BLANK])
                return
            label = int(scores.max(dim=0).indices)
            self._score += float(scores[label])
            if label == BLANK:
                return
            self._labels.append(label)
            self._frames.append(self._frame)
            self._predicted, self._state = self._model.advance(torch.tensor([label]), self._state)

    @property
    def best(self) -> Hypothesis:
        """The hypothesis so far, with the log-probability of its alignment and the bonus of its phrases."""
        bonus = 0.0 if self._places is None else self._places.closing(self._labels)
        return Hypothesis(tuple(self._labels), tuple(self._frames), self._score + bonus)

    @property
    def state_bytes(self) -> int:
        """Bytes of the prediction and the predictor's state."""
        return state_bytes(self._predicted, self._state)


def state_bytes(predicted: Tensor, state: PredictorState) -> int:
    """Bytes of a prediction and of the predictor's state after it."""
    parts = [*state] if isinstance(state, LstmState) else [state]
    return sum(part.nbytes for part in (predicted, *parts))
