"""Batches: the utterances of each step, and their augmented features.

The batch of step s depends only on the seed and s, so that a stopped run resumes exactly, and any number of loader
processes gives the same batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edgespeech.audio.augment import Augmenter, Timing, spec_augment
from edgespeech.audio.augment_config import AugmentConfig
from edgespeech.audio.features import Features, log_mel_at_once
from edgespeech.audio.vocal_tract import warp_vocal_tract
from edgespeech.contracts import Samples
from edgespeech.model.config import ModelConfig
from edgespeech.training.biasing import Listed, PhraseLists
from edgespeech.training.config import TrainConfig
from edgespeech.training.languages import Spoken, spoken_of
from edgespeech.training.lead_in import Before, LeadInMaker, Prepared, check_before, features_of
from edgespeech.training.speech import Speech
from edgespeech.training.taught import Lessons
from edgespeech.training.teacher import Taught

_BUCKET_NOISE = 0.1
"""Lengths are sorted after a random factor of up to 1 +- this, so that batches differ between epochs."""
_TALKERS = 60
"""Number of utterances of the run's own speech for babble noise."""


class Heard(NamedTuple):
    """What a recogniser heard in the utterances of a batch whose words are learned: M hypotheses, list after list.

    Attributes:
        utterance: row of each among those utterances, with shape `(M,)`.
        labels: with shape `(M, U)`, padded with blanks.
        label_lengths: with shape `(M,)`.
        errors: word errors against the utterance's text, with shape `(M,)`, float32.
    """

    utterance: Tensor
    labels: Tensor
    label_lengths: Tensor
    errors: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """A step's utterances: B of them, F feature frames, U labels, padded with zeros.

    Attributes:
        features: with shape `(B, F, 80)`.
        lengths: feature frames of each, with shape `(B,)`.
        labels: with shape `(B, U)`.
        label_lengths: with shape `(B,)`; 0 if words are not learned.
        sounds: with shape `(B, S)`, S sounds; S is 0 in a run that does not train on them.
        sound_lengths: with shape `(B,)`.
        worded: indices of the utterances whose words are learned, with shape `(W,)`.
        ids: of the utterances.
        global_labels: number of labels of the whole step, over all processes; sounds if only these are learned.
        taught: targets of the teacher; None in a run without one.
        listed: the list of phrases; None in a run without lists.
        spoken: the languages; None in a run that does not learn to name them.
        heard: lists of hypotheses; None in a run that does not train for word errors.
        before: the lead-ins, whose frames come first; None where none is heard.
    """

    features: Tensor
    lengths: Tensor
    labels: Tensor
    label_lengths: Tensor
    sounds: Tensor
    sound_lengths: Tensor
    worded: Tensor
    ids: tuple[str, ...]
    global_labels: int
    taught: Taught | None = None
    listed: Listed | None = None
    spoken: Spoken | None = None
    heard: Heard | None = None
    before: Before | None = None

    @property
    def audio_s(self) -> float:
        """Seconds of audio without the padding."""
        return float(self.lengths.sum()) / 100


class _Made(NamedTuple):
    """The augmented features of an utterance and their change in time; features and labels of its lead-in."""

    features: Features
    timing: Timing
    lead: Features
    lead_labels: Sequence[int]


class Plan:
    """The utterances of each step."""

    def __init__(self, speech: Speech, *, batch_s: float, seed: int) -> None:
        self._speech, self._batch_s, self._seed = speech, batch_s, seed
        self._epoch = -1
        self._first = 0
        self._batches: list[list[int]] = []

    def at(self, step: int) -> tuple[int, list[int]]:
        """The epoch of a step and the indices of its utterances in `Speech.items`."""
        if step < self._first:
            self._epoch, self._first, self._batches = -1, 0, []
        while step >= self._first + len(self._batches):
            self._first += len(self._batches)
            self._epoch += 1
            self._batches = self._make(self._epoch)
        return self._epoch, self._batches[step - self._first]

    def _make(self, epoch: int) -> list[list[int]]:
        random = np.random.default_rng((self._seed, epoch))
        chosen: list[int] = []
        corpus = np.array([item.corpus for item in self._speech.items])
        for number, repeat in enumerate(self._speech.repeats):
            own = np.flatnonzero(corpus == number)
            chosen += [*own.tolist()] * int(repeat)
            chosen += random.permutation(own)[: round((repeat % 1) * own.size)].tolist()
        seconds = np.array([self._speech.items[i].seconds for i in chosen])
        order = np.argsort(seconds * random.uniform(1 - _BUCKET_NOISE, 1 + _BUCKET_NOISE, seconds.size))
        batches: list[list[int]] = [[]]
        longest = 0.0
        for place in order:
            longest = max(longest, float(seconds[place]))
            if batches[-1] and longest * (len(batches[-1]) + 1) > self._batch_s:
                batches.append([])
                longest = float(seconds[place])
            batches[-1].append(chosen[place])
        return [batches[i] for i in random.permutation(len(batches))]


class Batches(Dataset[Batch]):
    """The batch of each step, for one process of `world`.

    Args:
        config: the run.
        speech: its utterances.
        labels: of each utterance.
        noises: recorded noises by id.
        rooms: measured impulse responses by id.
        sounds: of each utterance, if the run trains on them.
        lessons: of the teacher, if the run has one.
        lists: of phrases, if the run has some.
        lead_ins: what makes the streams, if the run has some.
        rank: of this process.
        world: number of processes.
    """

    def __init__(
        self,
        config: TrainConfig,
        speech: Speech,
        labels: Sequence[Sequence[int]],
        noises: dict[str, Samples],
        *,
        rooms: dict[str, Samples] | None = None,
        sounds: Sequence[Sequence[int]] | None = None,
        lessons: Lessons | None = None,
        lists: PhraseLists | None = None,
        lead_ins: LeadInMaker | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._config, self._speech, self._labels, self._sounds = config, speech, labels, sounds
        self._plan = Plan(speech, batch_s=config.batch_s, seed=config.seed)
        self._augment = AugmentConfig.from_mapping(config.augment)
        random = np.random.default_rng(config.seed)
        talkers = random.permutation(len(speech.items))[:_TALKERS]
        babble = [speech.samples(speech.items[place]) for place in talkers]
        self._augmenter = Augmenter(self._augment, noises, config.seed, babble=babble, rooms=rooms)
        self._rank, self._world = rank, world
        self._lists, self._lead_ins = lists, lead_ins
        self._lessons, self._stack = lessons, ModelConfig.from_mapping(config.model).stack

    def __getitem__(self, step: int) -> Batch:
        epoch, places = self._plan.at(step)
        total = sum(self._weight(i) for i in places)
        own = places[self._rank :: self._world]
        made = [self._features(i, epoch, step) for i in own]
        features = [np.concatenate([one.lead, one.features]) for one in made]
        batch = collate(
            features,
            [self._labels[i] for i in own],
            [self._speech.items[i].id for i in own],
            total,
            sounds=[self._sounds[i] if self._sounds is not None else [] for i in own],
            worded=[row for row, i in enumerate(own) if self._speech.items[i].learns_words],
        )
        if self._lists is not None:
            batch = replace(batch, listed=self._lists.at(step, places, own))
        if self._lead_ins is not None and self._lead_ins.settings.use != "dropped":
            frames = torch.tensor([len(one.lead) for one in made], dtype=torch.int64)
            before = Before(frames, *_pad([one.lead_labels for one in made]))
            check_before(before, batch.lengths, batch.ids)
            batch = replace(batch, before=before)
        if self._config.languages is not None:
            corpora = [self._speech.items[i].corpus for i in own]
            batch = replace(batch, spoken=spoken_of(self._config.speech, corpora, len(places)))
        if self._lessons is None:
            return batch
        seconds = sum(self._speech.items[i].seconds for i in places)
        counts = [len(one) // self._stack for one in features]
        return replace(batch, taught=self._lessons.of(own, counts, [one.timing for one in made], seconds))

    def _weight(self, place: int) -> int:
        """The number of labels of an utterance in its step."""
        if self._speech.items[place].sounds_only is None or self._sounds is None:
            return len(self._labels[place])
        return len(self._sounds[place])

    def sample_features(self, n: int) -> list[Features]:
        """Features of a seeded sample of utterances, fully augmented, before spectral masking."""
        random = np.random.default_rng(self._config.seed)
        places = random.permutation(len(self._speech.items))[:n]
        items = [self._speech.items[place] for place in places]
        return [
            log_mel_at_once(
                self._augmenter(self._speech.samples(item), key=f"statistics/{item.corpus}/{item.id}")
            )
            for item in items
        ]

    def watched(self, place: int, step: int) -> tuple[Features, Features]:
        """An utterance without augmentation, and augmented as around this step; the draws are always the same."""
        item = self._speech.items[place]
        samples = self._speech.samples(item)
        return log_mel_at_once(samples), self._heard(
            place, f"watch/{item.corpus}/{item.id}", step, patient=False
        ).features

    def _features(self, place: int, epoch: int, step: int) -> _Made:
        item = self._speech.items[place]
        strength = self._config.strength(step)
        # The step is in the key, so that an utterance that is twice in an epoch is augmented in two ways.
        key = f"{epoch}/{step}/{item.corpus}/{item.id}"
        made = self._heard(place, key, step, patient=self._is_patient(step))
        random = np.random.default_rng((self._config.seed, step, place))
        masked = random.random() < strength
        return made._replace(features=spec_augment(made.features, self._augment, random)) if masked else made

    def _is_patient(self, step: int) -> bool:
        """Whether a step surrounds its utterances with long silences."""
        share = self._config.patient_steps
        return share > 0 and np.random.default_rng((self._config.seed, step)).random() < share

    def _heard(self, place: int, key: str, step: int, *, patient: bool) -> _Made:
        """Augmented features, before spectral masking, and their change in time."""
        strength = self._config.strength(step)
        silence_s = (0.0, self._config.patient_s) if patient else None
        if self._lead_ins is None:
            made = Prepared(self._speech.samples(self._speech.items[place]), 0, ())
        else:
            made = self._lead_ins.at(place, key)
        samples, start, labels = made
        samples, timing = self._augmenter.timed(samples, key=key, strength=strength, silence_s=silence_s)
        if start:
            start = timing.before + round(start / timing.speed)
        lead, features = features_of(samples, start, self._stack)
        if self._augment.vocal_tract_prob:
            digest = int.from_bytes(
                hashlib.sha256(f"{self._config.seed}:tract:{key}".encode()).digest()[:8], "little"
            )
            random = np.random.default_rng(digest)
            if random.random() < self._augment.vocal_tract_prob * strength:
                length = random.uniform(*self._augment.vocal_tract)
                features = warp_vocal_tract(features, length)
                lead = warp_vocal_tract(lead, length) if len(lead) else lead
        return self._used(_Made(features, timing, lead, labels))

    def _used(self, made: _Made) -> _Made:
        """An utterance with as much of its lead-in as the run uses."""
        use = None if self._lead_ins is None else self._lead_ins.settings.use
        if use == "dropped":
            return made._replace(lead=made.lead[:0], lead_labels=[])
        return made if use == "labelled" else made._replace(lead_labels=[])


def collate(
    features: Sequence[Features],
    labels: Sequence[Sequence[int]],
    ids: Sequence[str],
    global_labels: int,
    *,
    sounds: Sequence[Sequence[int]],
    worded: Sequence[int],
) -> Batch:
    """Pad utterances into a batch; without utterances it is empty, with B = 0."""
    size = len(features)
    frames = torch.zeros(size, max((len(f) for f in features), default=0), 80)
    for row, values in enumerate(features):
        frames[row, : len(values)] = torch.from_numpy(values)
    padded, label_lengths = _pad(labels)
    said, sound_lengths = _pad(sounds)
    return Batch(
        features=frames,
        lengths=torch.tensor([len(f) for f in features], dtype=torch.int64),
        labels=padded,
        label_lengths=label_lengths,
        sounds=said,
        sound_lengths=sound_lengths,
        worded=torch.tensor(worded, dtype=torch.int64),
        ids=tuple(ids),
        global_labels=global_labels,
    )


def _pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of numbers as one tensor, padded with zeros, and their lengths."""
    padded = torch.zeros(len(rows), max((len(row) for row in rows), default=0), dtype=torch.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded, torch.tensor([len(row) for row in rows], dtype=torch.int64)


def loader(batches: Batches, steps: range, *, workers: int) -> Iterator[Batch]:
    """The batches of some steps, in order, made by separate processes (0: by this one)."""
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_one_thread if workers else None,
        )
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
