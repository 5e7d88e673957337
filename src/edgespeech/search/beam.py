"""Time-synchronous beam search that sums over the alignments of a label sequence.

Source: G. Saon, Z. Tueske, K. Audhkhasi, "Alignment-length synchronous decoding for RNN transducer" (ICASSP 2020):
their time-synchronous baseline. Paths that leave a frame with the same labels are merged; as long as nothing is pruned,
the probabilities are exact. A language model may add to the score of every label
(`edgespeech.lm.fusion`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgespeech.biasing.phrases import PhraseBias, Places
from edgespeech.core.history import History
from edgespeech.core.labels import BLANK
from edgespeech.model.transducer import LstmState, PredictorState, Transducer
from edgespeech.search.greedy import state_bytes
from edgespeech.search.hypothesis import Changes, Hypothesis
from edgespeech.search.settings import MAX_LABELS


class LabelScores(Protocol):
    """Additional scores of labels: `edgespeech.lm.fusion`, `edgespeech.search.constraint`."""

    def rows(self, hypotheses: Iterable[Sequence[int]]) -> NDArray[np.float32]:
        """The additional score of each possible next label of each of P hypotheses, with shape `(P, V)`."""
        ...


class Partial(Protocol):
    """A hypothesis in a search."""

    @property
    def labels(self) -> Sequence[int]:
        """Put out so far."""
        ...

    @property
    def predicted(self) -> Tensor:
        """The predictor's output after them, with shape `(1, J)`."""
        ...


def next_scores(
    model: Transducer,
    frame: Tensor,
    hypotheses: Sequence[Partial],
    fusion: LabelScores | None,
) -> Tensor:
    """Log-probabilities of the next label of P hypotheses in a frame, and what is added to them, with shape `(P, V)`.

    Args:
        model: in evaluation mode.
        frame: with shape `(1, J)`.
        hypotheses: at least one.
        fusion: additional scores of labels; None: no fusion.
    """
    predicted = torch.cat([one.predicted for one in hypotheses])
    scores = model.join(frame, predicted).log_softmax(dim=-1, dtype=torch.float64)
    if fusion is not None:
        scores += torch.from_numpy(fusion.rows(one.labels for one in hypotheses))
    return scores


@dataclass(frozen=True, slots=True)
class _Path:
    """A hypothesis in the search.

    Attributes:
        labels: with their frames.
        score: log-probability of all its alignments, plus fusion scores.
        likeliest: the same for the single best alignment, that of the labels' frames.
        predicted: the prediction after its labels, with shape `(1, J)`.
        state: the predictor's state there.
    """

    labels: History
    score: float
    likeliest: float
    predicted: Tensor
    state: PredictorState

    def after(self, log_probability: float) -> _Path:
        """The path after one more step of this log-probability."""
        return replace(self, score=self.score + log_probability, likeliest=self.likeliest + log_probability)

    def merged(self, other: _Path | None) -> _Path:
        """Merge two paths with the same labels."""
        if other is None:
            return self
        better = max(self, other, key=lambda path: path.likeliest)
        return replace(better, score=float(np.logaddexp(self.score, other.score)))


class BeamDecoder:
    """Beam search over one utterance whose frames arrive in pieces of any size.

    Args:
        model: in evaluation mode.
        beam: number of hypotheses; at least 1.
        max_labels: maximum number of labels per frame.
        fusion: additional scores of labels; None: no fusion.
        bias: phrases that are likely; None: no bias.
    """

    def __init__(
        self,
        model: Transducer,
        beam: int,
        max_labels: int = MAX_LABELS,
        fusion: LabelScores | None = None,
        bias: PhraseBias | None = None,
    ) -> None:
        self._model = model
        self._fusion = fusion
        self._places = None if bias is None else Places(bias)
        self._beam = beam
        self._max_labels = max_labels
        self._frame = 0
        self._told = History()  # the best labels when `changes` was last asked
        with torch.inference_mode():
            self._paths = [_Path(self._told, 0.0, 0.0, *model.start(1))]

    @torch.inference_mode()
    def accept(self, encoded: Tensor) -> None:
        """Take the next transcriber frames, with shape `(T, J)`, T >= 0."""
        for frame in encoded.unsqueeze(1).unbind():
            self._paths = self._step(frame)
            self._frame += 1

    @property
    def n_best(self) -> list[Hypothesis]:
        """The hypotheses in the beam, likeliest first, without the bonus of phrases that are not finished."""
        return [_hypothesis(path, score) for path, score in self._ranked()]

    @property
    def best(self) -> Hypothesis:
        """The best hypothesis so far."""
        return _hypothesis(*self._ranked()[0])

    def changes(self) -> Changes:
        """How the labels of the best hypothesis changed since the last call of this, or since the start; in a time that
        does not grow with their number.
        """
        best = self._ranked()[0][0].labels
        kept = best.shared(self._told)
        self._told = best
        later = best.since(kept)
        return Changes(kept, [label for label, _ in later], [frame for _, frame in later])

    def _ranked(self) -> list[tuple[_Path, float]]:
        """The paths, likeliest first, and the score of each if it ends here."""
        if self._places is None:
            return [(path, path.score) for path in self._paths]
        ended = [(path, path.score + self._places.closing(path.labels)) for path in self._paths]
        return sorted(ended, key=lambda one: one[1], reverse=True)

    @property
    def state_bytes(self) -> int:
        """Bytes of the predictions and predictor states."""
        return sum(state_bytes(path.predicted, path.state) for path in self._paths)

    def _step(self, frame: Tensor) -> list[_Path]:
        """The best paths after one more frame, with shape `(1, J)`, likeliest first."""
        left: dict[History, _Path] = {}  # paths that have left the frame, by their labels
        inside = self._paths  # paths still in the frame, all with the same number of labels in it
        for spent in range(self._max_labels + 1):
            scores = next_scores(self._model, frame, inside, self._fusion)
            if self._places is not None:
                biased = self._places.biased(scores.numpy(), [path.labels for path in inside])
                scores = torch.from_numpy(biased)
            for path, blank in zip(inside, scores[:, BLANK].tolist(), strict=True):
                left[path.labels] = path.after(blank).merged(left.get(path.labels))
            best = sorted(left.values(), key=lambda path: path.score, reverse=True)[: self._beam]
            if spent == self._max_labels:
                break
            # A path below a full beam that only loses probability could at most be merged into a better one; a path
            # that would gain by fusion is pruned nevertheless.
            floor = best[-1].score if len(best) == self._beam else -inf
            inside = self._extended(inside, scores, floor)
            if not inside:
                break
        return best

    def _extended(self, paths: list[_Path], scores: Tensor, floor: float) -> list[_Path]:
        """The best paths with one more label in this frame, of those above a score.

        Args:
            paths: P of them.
            scores: of their next labels, with shape `(P, V)`.
            floor: the score.
        """
        totals = scores + scores.new_tensor([path.score for path in paths])[:, None]
        totals[:, BLANK] = -inf
        values, places = totals.flatten().topk(min(self._beam, totals.numel()))
        chosen = [divmod(place, totals.shape[1]) for place in places[values > floor].tolist()]
        if not chosen:
            return []
        parents = [paths[row].after(float(scores[row, label])) for row, label in chosen]
        labels = [label for _, label in chosen]
        state = cat_states([path.state for path in parents])
        predicted, state = self._model.advance(torch.tensor(labels), state)
        return [
            replace(
                parent,
                labels=History(parent.labels, label, self._frame),
                predicted=one,
                state=its,
            )
            for parent, label, one, its in zip(
                parents, labels, predicted.chunk(len(labels)), split_states(state, len(labels)), strict=True
            )
        ]


def _hypothesis(path: _Path, score: float) -> Hypothesis:
    emitted = path.labels.since(0)
    return Hypothesis(tuple(label for label, _ in emitted), tuple(frame for _, frame in emitted), score)


def cat_states(states: list[PredictorState]) -> PredictorState:
    """Concatenate the states of single hypotheses."""
    lstms = [state for state in states if isinstance(state, LstmState)]
    if lstms:
        return LstmState(
            torch.cat([state.hidden for state in lstms], 1), torch.cat([state.cell for state in lstms], 1)
        )
    return torch.cat([state for state in states if isinstance(state, Tensor)])


def split_states(state: PredictorState, count: int) -> list[PredictorState]:
    """The reverse of `cat_states`."""
    if isinstance(state, LstmState):
        pairs = zip(state.hidden.chunk(count, 1), state.cell.chunk(count, 1), strict=True)
        return [LstmState(*pair) for pair in pairs]
    return list(state.chunk(count))
