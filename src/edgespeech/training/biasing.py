"""Lists of phrases for training a transducer that attends to them, and the loss on what it attends to.

A step has one list. It holds a phrase of each of the step's utterances, each with a probability below 1, so that the
model learns that a list may lack the spoken phrase; the rest are phrases of other utterances. A phrase is a name that
the manifest has (the values of slots, the phrases of `context`), or a run of words with a rare one in it, as in D. Le
et al., "Contextualized streaming end-to-end speech recognition with trie-based deep biasing and shallow fusion"
(Interspeech 2021), section 3. All draws depend on the run's seed, the step and the utterance alone.

The auxiliary loss is the cross-entropy of the attention's distribution over the entries. Its targets come from the
transducer's own alignment (`edgespeech.model.alignment`), made without the list: the frames from the first emitted
piece of a listed phrase to its last belong to that entry, all others to no-bias. Label queries have known labels and
need no alignment; what follows a phrase's first piece belongs to its entry. Before that piece nothing tells that a
phrase begins, so that position has no target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgespeech.core.labels import SPACE
from edgespeech.errors import bad
from edgespeech.model.alignment import emission_frames
from edgespeech.model.biasing import MAX_PIECES
from edgespeech.model.transducer import Transducer
from edgespeech.training.config import Lists
from edgespeech.training.speech import Item

_DRAWS = 20
"""Separates the draws of lists from others with the same seed and step."""
_TRIES = 4
"""Number of utterances that are drawn for each place in a list: some have no phrase, or one that is listed already."""
_LEAST = 1e-6
_NO_TARGET = -1

Pieces = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """The list of a step.

    Attributes:
        phrases: word pieces of each; may be empty.
        entries: for each label of this process's utterances the number of the phrase that it is part of, from 1; 0 for
            none; with shape `(B, U)`, padded with 0.
        utterances: number in the whole step, over all processes.
    """

    phrases: tuple[Pieces, ...]
    entries: Tensor
    utterances: int


@dataclass(frozen=True, slots=True)
class Attended:
    """Vectors with what they attended to, and the logits of the attention, `(..., H, K + 1)`."""

    encoded: Tensor
    predicted: Tensor
    audio: Tensor
    label: Tensor | None


class PhraseLists:
    """Draws the list of each step.

    Args:
        lists: how.
        seed: of the run.
        items: all utterances.
        labels: of each.
        pieces: of the tokeniser.

    Raises:
        EdgeSpeechError: no utterance has a phrase.
    """

    def __init__(
        self,
        lists: Lists,
        seed: int,
        items: Sequence[Item],
        labels: Sequence[Sequence[int]],
        pieces: Sequence[str],
    ) -> None:
        self._lists, self._seed = lists, seed
        self._words = [words_of(own, pieces) for own in labels]
        counts: Counter[Pieces] = Counter()
        for words in self._words:
            counts.update(words)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        rare = set(ranked[lists.common :])
        self._rare = [[at for at, word in enumerate(words) if word in rare] for words in self._words]
        self._named = [
            named_runs(item, words, pieces) for item, words in zip(items, self._words, strict=True)
        ]
        self._with_phrase = [
            place for place, own in enumerate(zip(self._rare, self._named, strict=True)) if any(own)
        ]
        if not self._with_phrase:
            expected = f"fewer than the {len(counts)} different words of the speech, or names in it"
            raise bad("train: biasing", "common", lists.common, expected)

    def at(self, step: int, places: Sequence[int], own: Sequence[int]) -> Listed:
        """The list of a step.

        Args:
            step: its number.
            places: the utterances of the step, over all processes.
            own: those of this process.
        """
        phrases = self._draw(step, places)
        width = max((sum(map(len, self._words[place])) for place in own), default=0)
        entries = torch.zeros(len(own), width, dtype=torch.int64)
        for row, place in enumerate(own):
            found = entries_of(self._words[place], phrases)
            entries[row, : len(found)] = torch.tensor(found, dtype=torch.int64)
        return Listed(phrases, entries, len(places))

    def _draw(self, step: int, places: Sequence[int]) -> tuple[Pieces, ...]:
        lists = self._lists
        random = np.random.default_rng((self._seed, step, _DRAWS))
        if random.random() < lists.empty:
            return ()
        size = int(random.integers(1, lists.phrases, endpoint=True))
        drawn: dict[Pieces, None] = {}
        for place in places:
            own = np.random.default_rng((self._seed, step, place, _DRAWS))
            if own.random() < lists.present and (phrase := self._phrase(place, own)) is not None:
                drawn[phrase] = None
        for _ in range(_TRIES * size):
            if len(drawn) >= size:
                break
            other = self._with_phrase[random.integers(len(self._with_phrase))]
            if (phrase := self._phrase(other, random)) is not None:
                drawn[phrase] = None
        found = list(drawn)
        return tuple(found[at] for at in random.permutation(len(found))[: lists.phrases])

    def _phrase(self, place: int, random: np.random.Generator) -> Pieces | None:
        """A phrase of an utterance: a name, else words around a rare one."""
        words, named, rare = self._words[place], self._named[place], self._rare[place]
        if named:
            start, stop = named[random.integers(len(named))]
        elif rare:
            middle = rare[random.integers(len(rare))]
            length = int(random.integers(1, self._lists.longest, endpoint=True))
            start = max(0, middle - int(random.integers(length)))
            stop = min(len(words), max(middle + 1, start + length))
        else:
            return None
        phrase = tuple(label for word in words[start:stop] for label in word)
        return phrase if len(phrase) <= MAX_PIECES else None


def words_of(labels: Sequence[int], pieces: Sequence[str]) -> list[Pieces]:
    """The labels of each word."""
    words: list[list[int]] = []
    for label in labels:
        if pieces[label].startswith(SPACE) or not words:
            words.append([])
        words[-1].append(label)
    return [tuple(word) for word in words]


def named_runs(item: Item, words: Sequence[Pieces], pieces: Sequence[str]) -> list[tuple[int, int]]:
    """Where the names of an utterance are in its words: the first word and the one after the last."""
    spelled = ["".join(pieces[label] for label in word).replace(SPACE, "") for word in words]
    names = [parts for name in item.names if (parts := name.lower().split())]
    return [
        (start, start + len(name))
        for name in names
        for start in range(len(spelled) - len(name) + 1)
        if spelled[start : start + len(name)] == name
    ]


def entries_of(words: Sequence[Pieces], phrases: Sequence[Pieces]) -> list[int]:
    """For each label of an utterance the number of the phrase that it is part of, from 1; 0 for none.

    Phrases are found at the starts of words, the longest first, and do not overlap.
    """
    labels = [label for word in words for label in word]
    starts = np.cumsum([0, *map(len, words)]).tolist()
    numbers = {phrase: number for number, phrase in enumerate(phrases, 1)}
    lengths = sorted({len(phrase) for phrase in phrases}, reverse=True)
    entries = [0] * len(labels)
    free = 0
    for start in starts[:-1]:
        if start < free:
            continue
        for length in lengths:
            number = numbers.get(tuple(labels[start : start + length]))
            if number is not None and start + length in starts:
                entries[start : start + length] = [number] * length
                free = start + length
                break
    return entries


def attend(model: Transducer, phrases: Sequence[Pieces], encoded: Tensor, predicted: Tensor) -> Attended:
    """The vectors of a batch with the attention to a list, see `edgespeech.model.contextual`."""
    assert model.biasing is not None
    context = model.biasing.remember(phrases)
    biased, audio = model.biasing.audio(encoded, context.audio)
    label = None
    if model.biasing.label is not None:
        assert context.label is not None
        predicted, label = model.biasing.label(predicted, context.label)
    return Attended(biased, predicted, audio, label)


def attention_loss(
    attended: Attended,
    encoded: Tensor,
    predicted: Tensor,
    joiner: nn.Linear,
    labels: Tensor,
    frame_lengths: Tensor,
    label_lengths: Tensor,
    entries: Tensor,
) -> Tensor:
    """The loss on the entries that frames and labels attend to, summed over the utterances.

    Of each utterance it is the mean of the cross-entropies of phrases and of all else, since a phrase has few frames.

    Args:
        attended: see `attend`.
        encoded: transcription without the list, with shape `(B, T, J)`.
        predicted: predictions without the list, with shape `(B, U + 1, J)`.
        joiner: of the model.
        labels: with shape `(B, U)`.
        frame_lengths: with shape `(B,)`.
        label_lengths: with shape `(B,)`.
        entries: see `Listed`, with shape `(B, U)`.
    """
    total = attended.audio.sum() * 0.0
    for row, (frames, count) in enumerate(zip(frame_lengths.tolist(), label_lengths.tolist(), strict=True)):
        own = entries[row, :count].tolist()
        targets: Sequence[int] | None = [0] * frames
        if any(own):
            emitted = emission_frames(
                encoded[row, :frames], predicted[row, : count + 1], joiner, labels[row, :count]
            )
            targets = None if emitted is None else frame_targets(own, emitted, frames)
        if targets is not None:
            total = total + _cross_entropy(attended.audio[row, :frames], targets)
        if attended.label is not None:
            total = total + _cross_entropy(attended.label[row, : count + 1], label_targets(own))
    return total


def frame_targets(entries: Sequence[int], emitted: Sequence[int], frames: int) -> list[int]:
    """The entry of each frame: a phrase's from its first emitted piece to its last, no-bias elsewhere.

    Args:
        entries: of each label, 0 for none.
        emitted: the frame of each label, non-decreasing.
        frames: number of frames.
    """
    targets = [0] * frames
    for place, entry in enumerate(entries):
        if entry:
            goes_on = place > 0 and entries[place - 1] == entry
            first = emitted[place - 1] + 1 if goes_on else emitted[place]
            targets[first : emitted[place] + 1] = [entry] * (emitted[place] + 1 - first)
    return targets


def label_targets(entries: Sequence[int]) -> list[int]:
    """The entry of each position after 0 to U labels; `_NO_TARGET` before a phrase's first piece."""
    following = [*entries, 0]
    return [
        _NO_TARGET if entry and (place == 0 or entries[place - 1] != entry) else entry
        for place, entry in enumerate(following)
    ]


def _cross_entropy(scores: Tensor, targets: Sequence[int]) -> Tensor:
    """The mean of that of phrases and that of all else, of the heads' mean distribution; scores `(N, H, K + 1)`."""
    wanted = torch.tensor(targets, device=scores.device)
    shares = scores.float().softmax(dim=-1).mean(dim=1)
    losses = -shares.gather(1, wanted.clamp(min=0)[:, None])[:, 0].clamp(min=_LEAST).log()
    parts = [losses[inside].mean() for inside in (wanted > 0, wanted == 0) if bool(inside.any())]
    return torch.stack(parts).mean() if parts else losses.sum() * 0.0


def freeze_all_but_attention(model: Transducer) -> None:
    """Leave the recogniser as it is, without dropout: only its attention over phrases goes on learning."""
    assert model.biasing is not None
    model.requires_grad_(False).eval()
    model.biasing.requires_grad_(True).train()
