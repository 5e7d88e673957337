"""Scoring words by a language model, in batches, given the states after the preceding words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from edgespeech.cloud.session import Pause, without_pause
from edgespeech.errors import bad
from edgespeech.lattice.search import prediction_scores
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.secondpass.model import MARK, TrainedLm

BATCH = 128
"""Batch size of states: more costs memory and gains nothing on a CPU."""
REMEMBERED = 1 << 14
"""Maximum number of words whose pieces are cached."""


@dataclass(frozen=True, slots=True)
class State:
    """The state of the language model after some words of a sentence.

    Attributes:
        log_probs: of the next piece, with shape `(V,)`.
        hidden: the LSTM's output, with shape `(L, W)`.
        cell: its cell, with shape `(L, W)`.
    """

    log_probs: Tensor
    hidden: Tensor
    cell: Tensor


class WordScorer:
    """Scores words by their usual pieces, so that every word can be scored."""

    def __init__(self, lm: TrainedLm) -> None:
        self._model = lm.model
        self._labels = lru_cache(REMEMBERED)(lm.tokeniser.encode)
        with torch.inference_mode():
            log_probs, (hidden, cell) = self._model.advance(torch.tensor([MARK]), self._model.start(1))
        self.start = State(log_probs[0], hidden[:, 0], cell[:, 0])
        """Before the first word."""

    @torch.inference_mode()
    def follow(
        self, states: Sequence[State], words: Sequence[str], pause: Pause = without_pause
    ) -> list[tuple[float, State]]:
        """The log-probability of a word after each state, and the state after it.

        Args:
            states: N of them, possibly repeated.
            words: N of them.
            pause: called between steps of the work.

        Raises:
            EdgeSpeechError: a word has other characters than a to z and the apostrophe, or none.
        """
        spelled = [self._spelled(word) for word in words]
        now = list(states)
        totals = [0.0] * len(now)
        for place in range(max(map(len, spelled), default=0)):
            going_on = [n for n, labels in enumerate(spelled) if place < len(labels)]
            for at in range(0, len(going_on), BATCH):
                rows = going_on[at : at + BATCH]
                labels = [spelled[n][place] for n in rows]
                before = [now[n] for n in rows]
                pause()
                told = zip(rows, labels, before, self._advance(labels, before), strict=True)
                for n, label, state, after in told:
                    totals[n] += float(state.log_probs[label])
                    now[n] = after
        return list(zip(totals, now, strict=True))

    def finish(self, state: State) -> float:
        """The log-probability that the sentence ends after a state."""
        return float(state.log_probs[MARK])

    def sentence(self, words: Sequence[str]) -> float:
        """The log-probability of a whole sentence, its end included."""
        state, total = self.start, 0.0
        for word in words:
            ((value, state),) = self.follow([state], [word])
            total += value
        return total + self.finish(state)

    def _spelled(self, word: str) -> list[int]:
        return self._labels(_one(word))

    def _advance(self, labels: Sequence[int], states: Sequence[State]) -> Iterator[State]:
        hidden = torch.stack([state.hidden for state in states], 1)
        cell = torch.stack([state.cell for state in states], 1)
        log_probs, after = self._model.advance(torch.tensor(labels), (hidden, cell))
        return map(State, log_probs.unbind(), after[0].unbind(1), after[1].unbind(1))


class RememberingScorer(WordScorer):
    """A scorer with a cache, for compared arms that score mostly the same words of an utterance."""

    def __init__(self, lm: TrainedLm) -> None:
        super().__init__(lm)
        self._known: dict[tuple[int, str], tuple[State, float, State]] = {}

    def follow(
        self, states: Sequence[State], words: Sequence[str], pause: Pause = without_pause
    ) -> list[tuple[float, State]]:
        """As `WordScorer.follow`; a state is found in the cache by identity."""
        asked = list(zip(states, words, strict=True))
        new = {
            (id(state), word): (state, word) for state, word in asked if (id(state), word) not in self._known
        }
        found = super().follow(
            [state for state, _ in new.values()], [word for _, word in new.values()], pause
        )
        for key, (total, after) in zip(new, found, strict=True):
            self._known[key] = (
                new[key][0],
                total,
                after,
            )  # the state is stored too, so that its id is not reused
        return [self._known[id(state), word][1:] for state, word in asked]

    def forget(self) -> None:
        """Clear the cache before the next utterance."""
        self._known.clear()


class InternalScorer:
    """Scores words by a transducer's internal language model, see `prediction_scores`.

    Its states are the labels so far. A server uses it if lattices are sent without prediction scores.
    """

    start: tuple[int, ...] = ()

    def __init__(self, model: Transducer, tokeniser: Tokeniser) -> None:
        self._model = model
        self._labels = lru_cache(REMEMBERED)(tokeniser.encode)

    def follow(
        self, states: Sequence[tuple[int, ...]], words: Sequence[str], pause: Pause = without_pause
    ) -> list[tuple[float, tuple[int, ...]]]:
        """The log-probability of a word after each state, and the state after it; as `WordScorer.follow`."""
        pause()
        spelled = [self._labels(_one(word)) for word in words]
        wanted = [
            ((*state, *labels[:place]), label)
            for state, labels in zip(states, spelled, strict=True)
            for place, label in enumerate(labels)
        ]
        told = iter(prediction_scores(self._model, wanted) if wanted else ())
        return [
            (sum(next(told) for _ in labels), (*state, *labels))
            for state, labels in zip(states, spelled, strict=True)
        ]


def _one(word: str) -> str:
    if not word or " " in word:
        raise bad("rescoring", "word", word, "one word of a to z and apostrophes")
    return word
