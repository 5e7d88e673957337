"""Lead-ins in training: the transcriber hears what comes before an utterance, and the loss sees the utterance alone.

Source: "Context audio" (arXiv 2011.10538, Interspeech 2021): streams of a context that is encoded and not predicted,
and a segment whose labels are learned. The gradient flows back through the context.

Every stream is made when it is needed. Its draws depend on the run's seed and the utterance's key alone, so that runs
which use it differently hear the same audio.

Letters: B batch, F feature frames (10 ms), T transcriber frames, J joiner width, U labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgespeech.audio.features import Features, log_mel_at_once
from edgespeech.audio.streams import generator, joined, talk
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.labels import BLANK
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import ModelConfig
from edgespeech.model.loss import transducer_loss
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.training.config import LeadIns, Source, TrainConfig
from edgespeech.training.shards import Shards
from edgespeech.training.speech import Item, Speech, encode_items, load_speech

_SHORTEST = 240
"""Samples that features are made of."""


class Before(NamedTuple):
    """The lead-ins of a batch's utterances, whose frames come before theirs.

    Attributes:
        frames: feature frames of each, with shape `(B,)`, whole stacks; 0 for none.
        labels: of each, with shape `(B, U)`, padded; U is 0 where they are not learned.
        label_lengths: with shape `(B,)`; 0 where they are not learned.
    """

    frames: Tensor
    labels: Tensor
    label_lengths: Tensor


class Prepared(NamedTuple):
    """An utterance's stream.

    Attributes:
        samples: all of it, with shape `(N,)`.
        start: the utterance's first sample.
        labels: of the lead-in.
    """

    samples: Samples
    start: int
    labels: Sequence[int]


class LeadInMaker:
    """Puts lead-ins before utterances, and other speech over both. Obtain one from `lead_in_maker`.

    Args:
        settings: of the streams.
        seed: of the run.
        speech: of the run.
        labels: of its utterances.
        leads: lead-ins that are no utterances of the run.
        lead_labels: of them.
        others: speech that is over the streams.
    """

    def __init__(
        self,
        settings: LeadIns,
        seed: int,
        speech: Speech,
        labels: Sequence[Sequence[int]],
        leads: Speech,
        lead_labels: Sequence[Sequence[int]],
        others: Speech,
    ) -> None:
        self.settings = settings
        self._seed, self._speech, self._labels = seed, speech, labels
        self._leads, self._lead_labels, self._others = leads, lead_labels, others
        self._of_speaker: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        for place, item in enumerate(speech.items):
            if item.speaker is not None and item.seconds <= settings.longest_s and item.learns_words:
                self._of_speaker[item.corpus, item.speaker].append(place)
        talkers: defaultdict[tuple[int, str], list[Item]] = defaultdict(list)
        for item in others.items:
            talkers[item.corpus, item.speaker or item.id].append(item)
        self._talkers = [talkers[key] for key in sorted(talkers)]

    def at(self, place: int, key: str) -> Prepared:
        """The stream of an utterance.

        Args:
            place: in the run's speech.
            key: of this variant, such as `epoch/step/utterance-id`.

        Raises:
            EdgeSpeechError: as `edgespeech.audio.streams.joined`; the message names the utterance.
        """
        settings, item = self.settings, self._speech.items[place]
        rng = generator(self._seed, key)
        lead, labels = self._lead(place, rng)
        spans = (settings.pause_s, settings.silence_s, settings.after_s)
        pause_s = (rng.uniform(*spans[0]), rng.uniform(*spans[1]), rng.uniform(*spans[2]))
        snr_db, over_all = rng.uniform(*settings.snr_db), bool(rng.random() < settings.over_all)
        wanted = rng.random() < settings.other
        samples = self._speech.samples(item)
        length = len(samples) + len(lead) + round(sum(pause_s) * SAMPLE_RATE)
        talker = self._talker(item, rng)
        other = talk([self._others.samples(one) for one in talker], length) if wanted else None
        stream = joined(
            lead,
            samples,
            pause_s=pause_s,
            rng=rng,
            where=f"train: utterance {item.id}",
            other=other,
            snr_db=snr_db,
            over_all=over_all,
        )
        return Prepared(np.concatenate(stream), len(stream.lead_in), labels)

    def _lead(self, place: int, rng: np.random.Generator) -> tuple[Samples, Sequence[int]]:
        """A lead-in and its labels: of the same speaker, or any."""
        item = self._speech.items[place]
        same = [one for one in self._of_speaker.get((item.corpus, item.speaker or ""), ()) if one != place]
        any_lead = int(rng.integers(len(self._leads.items)))
        own = rng.random() < self.settings.same
        chosen = int(rng.integers(1 << 30))
        if own and same:
            found = same[chosen % len(same)]
            return self._speech.samples(self._speech.items[found]), self._labels[found]
        return self._leads.samples(self._leads.items[any_lead]), self._lead_labels[any_lead]

    def _talker(self, item: Item, rng: np.random.Generator) -> list[Item]:
        """Utterances of one other speaker."""
        first = int(rng.integers(len(self._talkers)))
        for at in range(len(self._talkers)):
            own = self._talkers[(first + at) % len(self._talkers)]
            if own[0].speaker is None or own[0].speaker != item.speaker:
                break
        return [own[at] for at in rng.permutation(len(own))]


def lead_in_maker(
    config: TrainConfig,
    speech: Speech,
    labels: Sequence[Sequence[int]],
    tokeniser: Tokeniser,
    model: ModelConfig,
    shards: Shards | None = None,
) -> tuple[LeadInMaker, str] | None:
    """What makes the streams of a run, and a hash of its further speech; None for a run without lead-ins.

    Args:
        config: the run.
        speech: of it.
        labels: of its utterances.
        tokeniser: of the model.
        model: its shape.
        shards: as for `load_speech`.

    Raises:
        EdgeSpeechError: as `load_speech`, or a lead-in has words of no pieces.
    """
    settings = config.lead_ins
    if settings is None:
        return None
    leads, others = (
        load_speech([Source(corpus=name) for name in names], longest_s=config.longest_s, shards=shards)
        for names in (settings.corpora, settings.others)
    )
    known = encode_items(leads.items, tokeniser, model)
    maker = LeadInMaker(settings, config.seed, speech, labels, leads, known, others)
    return maker, f"{leads.sha256} {others.sha256}"


def features_of(samples: Samples, start: int, stack: int) -> tuple[Features, Features]:
    """Features of a lead-in, whole stacks of them, and of the utterance behind it, whose frames begin with its own
    first sample, as in `edgespeech.search.streaming`.

    Args:
        samples: of both, with shape `(N,)`.
        start: the utterance's first sample.
        stack: feature frames of a transcriber frame.
    """
    after = log_mel_at_once(samples[start:])
    if start < _SHORTEST:
        return after[:0], after
    before = log_mel_at_once(samples[:start])
    return before[: len(before) - len(before) % stack], after


def behind(encoded: Tensor, lengths: Tensor, before: Before, stack: int) -> tuple[Tensor, Tensor]:
    """The transcriber frames of the utterances, without those of their lead-ins.

    Args:
        encoded: of both, with shape `(B, T, J)`.
        lengths: frames of both, with shape `(B,)`.
        before: the lead-ins.
        stack: feature frames of a transcriber frame.

    Returns:
        With shape `(B, T', J)`, padded with what is there, and the lengths, with shape `(B,)`.
    """
    skipped = before.frames.to(lengths.device) // stack
    own = lengths - skipped
    places = skipped[:, None] + torch.arange(int(own.max()), device=encoded.device)
    places = places.clamp(max=encoded.shape[1] - 1)
    return encoded.gather(1, places[..., None].expand(-1, -1, encoded.shape[2])), own


def lead_in_loss(
    model: Transducer, encoded: Tensor, before: Before, stack: int, *, memory_mib: float
) -> Tensor:
    """The transducer's loss on the lead-ins' own words, summed over those that have some.

    Args:
        model: whose predictor and joiner are used.
        encoded: of lead-ins and utterances, with shape `(B, T, J)`.
        before: the lead-ins.
        stack: feature frames of a transcriber frame.
        memory_mib: see `transducer_loss`.
    """
    device = encoded.device
    frames, counts = (before.frames // stack).to(device), before.label_lengths.to(device)
    rows = ((frames > 0) & (counts > 0)).nonzero()[:, 0]
    if not len(rows):
        return encoded.sum() * 0
    labels = before.labels.to(device)[rows]
    return transducer_loss(
        encoded[rows, : int(frames[rows].max())],
        model.predict(labels),
        model.joiner.weight,
        model.joiner.bias,
        labels,
        frames[rows],
        counts[rows],
        blank=BLANK,
        memory_mib=memory_mib,
    ).sum()


def check_before(before: Before, lengths: Tensor, ids: Sequence[str]) -> None:
    """Refuse a batch with a lead-in that leaves no frame of its utterance.

    Raises:
        EdgeSpeechError: there is one; the message names the utterance.
    """
    for row, (lead, length) in enumerate(zip(before.frames.tolist(), lengths.tolist(), strict=True)):
        if lead >= length:
            raise EdgeSpeechError(
                f"train: utterance {ids[row]}: its lead-in has {lead} of {length} feature frames, expected some left"
            )
