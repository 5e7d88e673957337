"""Beam search with path merging (limited label context); merged hypotheses stay as lattice arcs.

Source: R. Prabhavalkar et al., "Less is more: improved RNN-T decoding using limited label context and path merging"
(ICASSP 2021, arXiv:2012.06749); the time-synchronous search is that of `edgespeech.search.beam`. If the predictor's
context is not longer than the labels that distinguish states, merged states have the same future, and only pruning
loses hypotheses. If it is longer, a merged state continues with the context of its likeliest hypothesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import inf
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgespeech.biasing.phrases import PhraseBias, Places
from edgespeech.contracts import Samples
from edgespeech.core.labels import BLANK
from edgespeech.errors import bad
from edgespeech.lattice.build import Steps, word_lattice
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import log_add
from edgespeech.lattice.phrases import add_phrases
from edgespeech.lm.fusion import Fusion
from edgespeech.model.checkpoint import Trained
from edgespeech.model.transducer import PredictorState, StatelessPredictor, Transducer
from edgespeech.search.beam import cat_states, next_scores, split_states
from edgespeech.search.greedy import state_bytes
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.search.settings import MAX_LABELS
from edgespeech.search.streaming import StreamingTranscriber

Labels = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _State:
    """A state of the search: all hypotheses with the same last labels.

    Attributes:
        node: its number in `Steps`.
        labels: of its likeliest hypothesis.
        frames: of the likeliest alignment of these labels.
        mass: log-probability of all its hypotheses and their alignments.
        score: log-probability of the likeliest hypothesis alone.
        likeliest: log-probability of the single best alignment, that of `frames`.
        predicted: the prediction after its labels, with shape `(1, J)`.
        state: the predictor's state there.
    """

    node: int
    labels: Labels
    frames: tuple[int, ...]
    mass: float
    score: float
    likeliest: float
    predicted: Tensor
    state: PredictorState

    def after(self, log_probability: float) -> _State:
        """The state after one more step of this log-probability."""
        return replace(
            self,
            mass=self.mass + log_probability,
            score=self.score + log_probability,
            likeliest=self.likeliest + log_probability,
        )


class _Arrival(NamedTuple):
    """A step to a state.

    Attributes:
        before: the state that it comes from.
        step: its log-probability.
        plain: the same without phrases.
    """

    before: _State
    step: float
    plain: float


class LatticeDecoder:
    """Beam search over one utterance whose frames arrive in pieces of any size; ends in a lattice.

    Args:
        model: in evaluation mode.
        beam: number of states; at least 1.
        merge: states are distinguished by this many last labels, at least 1; None: by all labels, as in `BeamDecoder`.
        max_labels: maximum number of labels per frame.
        fusion: language-model scores given the likeliest history of a state; None: no fusion.
        bias: phrases that are likely, which distinguish states too: hypotheses at different places in them have
            different futures. None: no bias.

    Raises:
        EdgeSpeechError: `beam` or `merge` is out of range.
    """

    def __init__(
        self,
        model: Transducer,
        beam: int,
        merge: int | None,
        max_labels: int = MAX_LABELS,
        fusion: Fusion | None = None,
        bias: PhraseBias | None = None,
    ) -> None:
        if beam < 1:
            raise bad("lattice search", "beam", beam, "at least 1")
        if merge is not None and merge < 1:
            raise bad("lattice search", "merge", merge, "at least 1 label, or none to distinguish all")
        self._model = model
        self._beam = beam
        self._merge = merge
        self._max_labels = max_labels
        self._fusion = fusion
        self._bias = bias
        self._places = None if bias is None else Places(bias)
        self._frame = 0
        self._steps = Steps()
        self.evaluations = 0
        """The number of states evaluated by the joiner so far."""
        with torch.inference_mode():
            self._states = [_State(0, (), (), 0.0, 0.0, 0.0, *model.start(1))]

    @torch.inference_mode()
    def accept(self, encoded: Tensor) -> None:
        """Take the next transcriber frames, with shape `(T, J)`, T >= 0."""
        for frame in encoded.unsqueeze(1).unbind():
            self._states = self._step(frame)

    @property
    def best(self) -> Hypothesis:
        """The best hypothesis so far."""
        scores = [state.score + self._closing(state) for state in self._states]
        score, best = max(zip(scores, self._states, strict=True), key=lambda pair: pair[0])
        return Hypothesis(best.labels, best.frames, score)

    @property
    def state_bytes(self) -> int:
        """Bytes of the predictions and predictor states, without the lattice."""
        return sum(state_bytes(state.predicted, state.state) for state in self._states)

    def lattice(self, pieces: Sequence[str]) -> Lattice:
        """The lattice so far, see `word_lattice`.

        The list decides which hypotheses remain. Their scores are those of the recogniser, plus the bonuses of
        finished phrases, so that `add_phrases` can take these away again.

        Args:
            pieces: every word piece by its label.
        """
        lattice = word_lattice(
            self._steps,
            {state.node: 0.0 for state in self._states},
            pieces,
            self._model.config.frame_s,
            lambda wanted: prediction_scores(self._model, wanted),
        )
        return add_phrases(lattice, self._bias, 1.0) if self._bias else lattice

    def _closing(self, state: _State) -> float:
        return 0.0 if self._places is None else self._places.closing(state.labels)

    def _key(self, labels: Labels) -> Labels:
        """The last labels, behind the place in the phrases if there are any."""
        last = labels if self._merge is None else labels[-self._merge :]
        return last if self._places is None or not labels else (self._places.place(labels), *last)

    def _step(self, frame: Tensor) -> list[_State]:
        """The best states after one more frame, with shape `(1, J)`, in order of decreasing mass."""
        left: dict[Labels, list[_Arrival]] = {}  # states that have left the frame, by key
        mass: dict[Labels, float] = {}  # and their total log-probability
        inside = self._states  # states still in the frame, all with the same number of labels in it
        for spent in range(self._max_labels + 1):
            plain = scores = next_scores(self._model, frame, inside, self._fusion)
            if self._places is not None:
                biased = self._places.biased(plain.numpy(), [state.labels for state in inside])
                scores = torch.from_numpy(biased)
            self.evaluations += len(inside)
            for state, blank in zip(inside, scores[:, BLANK].tolist(), strict=True):
                key = self._key(state.labels)
                left.setdefault(key, []).append(_Arrival(state, blank, blank))
                mass[key] = log_add(mass.get(key, -inf), state.mass + blank)
            best = sorted(mass, key=mass.__getitem__, reverse=True)[: self._beam]
            if spent == self._max_labels:
                break
            # A state below a full beam that only loses probability could at most be merged into a better one; one that
            # would gain by fusion is pruned nevertheless, as in the beam search.
            floor = mass[best[-1]] if len(best) == self._beam else -inf
            inside = self._extended(inside, scores, plain, floor)
            if not inside:
                break
        states = [self._merged(left[key], BLANK) for key in best]
        self._frame += 1
        return states

    def _extended(self, states: list[_State], scores: Tensor, plain: Tensor, floor: float) -> list[_State]:
        """The best states with one more label in this frame, of those above a mass.

        Args:
            states: P of them.
            scores: log-probabilities of their next labels, with shape `(P, V)`.
            plain: the same without phrases.
            floor: the mass.
        """
        totals = scores + scores.new_tensor([state.mass for state in states])[:, None]
        totals[:, BLANK] = -inf
        # A state appears at most once per predecessor, so this many candidates include enough distinct states.
        values, places = totals.flatten().topk(min(self._beam * len(states), totals.numel()))
        groups: dict[Labels, list[_Arrival]] = {}
        mass: dict[Labels, float] = {}
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            if value <= floor:
                break
            row, label = divmod(place, totals.shape[1])
            key = self._key((*states[row].labels, label))
            step = _Arrival(states[row], float(scores[row, label]), float(plain[row, label]))
            groups.setdefault(key, []).append(step)
            mass[key] = log_add(mass.get(key, -inf), value)
        best = sorted(mass, key=mass.__getitem__, reverse=True)[: self._beam]
        if not best:
            return []
        merged = [self._merged(groups[key], key[-1]) for key in best]
        predicted, state = self._model.advance(
            torch.tensor([one.labels[-1] for one in merged]), cat_states([one.state for one in merged])
        )
        return [
            replace(one, predicted=its, state=after)
            for one, its, after in zip(
                merged, predicted.chunk(len(best)), split_states(state, len(best)), strict=True
            )
        ]

    def _merged(self, arrivals: Sequence[_Arrival], label: int) -> _State:
        """Merge all arrivals by a label or the blank into one state.

        Its prediction and predictor state are those before the label.
        """
        said: dict[Labels, _State] = {}
        for before, step, _ in arrivals:
            state = before.after(step)
            other = said.get(state.labels)
            if other is not None:
                likelier = max(other, state, key=lambda one: one.likeliest)
                state = replace(
                    likelier, mass=log_add(other.mass, state.mass), score=log_add(other.score, state.score)
                )
            said[state.labels] = state
        best = max(said.values(), key=lambda one: one.score)
        if label != BLANK:
            best = replace(best, labels=(*best.labels, label), frames=(*best.frames, self._frame))
        node = self._steps.reach(
            self._key(best.labels),
            best.labels,
            label,
            self._frame,
            [(before.node, plain) for before, _, plain in arrivals],
        )
        return replace(best, node=node, mass=reduce(log_add, (one.mass for one in said.values())))


def prediction_scores(model: Transducer, wanted: Sequence[tuple[Labels, int]]) -> list[float]:
    """Internal language-model scores: log-probabilities of labels by predictor and joiner alone, without audio.

    The transcription is zero and the blank is excluded. Source: Z. Meng et al., "Internal language model estimation"
    (SLT 2021), section 3.2.

    Args:
        model: in evaluation mode.
        wanted: pairs of the labels so far and the next one.

    Returns:
        Natural logarithms of probabilities.
    """
    rows: dict[Labels, Tensor] = {}
    seen = model.predictor.context if isinstance(model.predictor, StatelessPredictor) else None
    contexts = [labels if seen is None else labels[-seen:] for labels, _ in wanted]
    with torch.inference_mode():
        for length in sorted({len(context) for context in contexts}):
            some = sorted({context for context in contexts if len(context) == length})
            predicted = model.predict(torch.tensor(some, dtype=torch.int64).reshape(len(some), length))[:, -1]
            logits = model.join(torch.zeros(1, model.config.joiner), predicted).double()
            logits[:, BLANK] = -inf
            rows |= zip(some, logits.log_softmax(dim=-1), strict=True)
    return [float(rows[context][label]) for context, (_, label) in zip(contexts, wanted, strict=True)]


@torch.inference_mode()
def log_probability(model: Transducer, encoded: Tensor, labels: Sequence[int]) -> float:
    """The log-probability of a label sequence, summed over its alignments.

    Source: A. Graves, "Sequence transduction with recurrent neural networks" (2012), section 2.4.

    Args:
        model: in evaluation mode.
        encoded: the transcription, with shape `(T, J)`, T > 0.
        labels: no blanks.
    """
    predicted = model.predict(torch.tensor([list(labels)], dtype=torch.int64))[0]
    scores = model.join(encoded[:, None], predicted[None]).double().log_softmax(dim=-1).numpy()
    blank, said = scores[:, :, BLANK], scores[:, range(len(labels)), labels]
    forward = np.full(len(labels) + 1, -inf)
    forward[0] = 0.0
    for frame in range(len(scores)):
        for place in range(len(labels)):
            forward[place + 1] = np.logaddexp(forward[place + 1], forward[place] + said[frame, place])
        forward += blank[frame]
    return float(forward[-1])


def lattice_of(trained: Trained, samples: Samples, beam: int, merge: int | None) -> Lattice:
    """The lattice of a whole utterance, as computed on the device.

    Args:
        trained: the model and its word pieces.
        samples: 16 kHz, in [-1, 1], with shape `(N,)`.
        beam: see `LatticeDecoder`.
        merge: see `LatticeDecoder`.
    """
    transcriber = StreamingTranscriber(trained.model)
    decoder = LatticeDecoder(trained.model, beam, merge, fusion=trained.fusion)
    decoder.accept(transcriber.accept(samples))
    decoder.accept(transcriber.finish())
    return decoder.lattice(trained.tokeniser.pieces)
