"""Streams made of corpora: a lead-in before each utterance, and perhaps another sound over both.

A file `data_manifests/streams/NAME.yaml` says of what they are made. Nothing is stored: which recordings surround an
utterance hangs on the seed and the utterance's id alone, and the audio is made when it is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgespeech.audio.io import read_audio
from edgespeech.audio.streams import Stream, generator, joined, talk
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.config import validated
from edgespeech.core.files import visible
from edgespeech.core.places import manifests_dir
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest, Utterance
from edgespeech.errors import EdgeSpeechError, bad

FOLDER = "streams"
_TALK = 8
"""Utterances of a speaker that are joined, where one is too short."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LeadInPlan(_Strict):
    """What comes before an utterance.

    Attributes:
        speaker: `any` takes recordings of `corpus`; `same` and `other`, utterances of the same manifest by the same
            speaker, or by another one.
        corpus: of the recordings.
        ids: beginnings of the ids of those that are used; empty: all.
        longest_s: longer ones are left out.
    """

    speaker: Literal["any", "same", "other"] = "any"
    corpus: str | None = None
    ids: tuple[str, ...] = ()
    longest_s: Annotated[float, Field(gt=0, le=20)] = 4.0

    @model_validator(mode="after")
    def _whole(self) -> LeadInPlan:
        if (self.speaker == "any") != (self.corpus is not None):
            raise ValueError("a corpus for any speaker, none for the same or another one of the utterances'")
        return self


class OtherPlan(_Strict):
    """What is over the stream: speech of one speaker, or a noise.

    Attributes:
        corpus: of speech, whose utterances of one speaker are joined; or of noise.
        ids: as for lead-ins.
        snr_db: the lowest and highest ratio (`edgespeech.audio.streams.joined`).
        over_all: whether it is over the lead-in too.
    """

    corpus: str
    ids: tuple[str, ...] = ()
    snr_db: tuple[Annotated[float, Field(ge=-60, le=100)], Annotated[float, Field(ge=-60, le=100)]]
    over_all: bool = True


class StreamPlan(_Strict):
    """A file of `data_manifests/streams`.

    Attributes:
        title: in a few words.
        lead_in: what comes first.
        pause_s: the shortest and longest pause behind it, which is part of it.
        other: what is over the stream; None: nothing.
    """

    title: str
    lead_in: LeadInPlan
    pause_s: tuple[Annotated[float, Field(ge=0, le=10)], Annotated[float, Field(ge=0, le=10)]]
    other: OtherPlan | None = None

    @property
    def corpora(self) -> tuple[str, ...]:
        """The corpora that it takes recordings of."""
        named = (self.lead_in.corpus, None if self.other is None else self.other.corpus)
        return tuple(name for name in named if name is not None)


class Recording(NamedTuple):
    """A recording, or a part of one, as a manifest has it."""

    id: str
    path: Path
    offset: float | None
    duration: float
    sha256: str | None

    def samples(self) -> Samples:
        """Its audio, 16 kHz, with shape `(N,)`; a file at another rate is resampled.

        Raises:
            EdgeSpeechError: as `read_audio`.
        """
        return read_audio(self.path, offset=self.offset, duration=self.duration, sha256=self.sha256)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What surrounds one utterance.

    Attributes:
        lead_in: the recording before it.
        pause_s: behind that.
        others: what is over both, one after the other; empty: nothing.
        snr_db: see `edgespeech.audio.streams.joined`.
        over_all: likewise.
        seed: of the draws.
    """

    lead_in: Recording
    pause_s: float
    others: tuple[Recording, ...]
    snr_db: float
    over_all: bool
    seed: int

    def around(self, samples: Samples, utterance_id: str) -> Stream:
        """The stream of an utterance's samples, with shape `(N,)`; the utterance in it has the same length.

        Raises:
            EdgeSpeechError: a recording cannot be read, or is silent; the message names the utterance.
        """
        where = f"stream of {utterance_id}"
        try:
            lead_in = self.lead_in.samples()
            wanted = len(samples) + len(lead_in) + round(self.pause_s * SAMPLE_RATE)
            other = talk([one.samples() for one in self.others], wanted) if self.others else None
        except EdgeSpeechError as error:
            raise EdgeSpeechError(f"{where}: {error}") from error
        return joined(
            lead_in,
            samples,
            pause_s=(self.pause_s, 0.0, 0.0),
            rng=generator(self.seed, f"{utterance_id}/sound"),
            where=where,
            other=other,
            snr_db=self.snr_db,
            over_all=self.over_all,
        )


def stream_names() -> list[str]:
    """The names of all files of streams."""
    return sorted(path.stem for path in visible(manifests_dir() / FOLDER, "*.yaml"))


def load_stream_plan(name: str) -> StreamPlan:
    """Read a file of streams.

    Raises:
        EdgeSpeechError: there is none of that name, or it is not valid.
    """
    if name not in stream_names():
        raise bad("streams", "name", name, "one of " + ", ".join(stream_names()))
    path = manifests_dir() / FOLDER / f"{name}.yaml"
    plan = validated(StreamPlan, load_yaml(path), str(path))
    for field, ends in (
        ("pause_s", plan.pause_s),
        ("snr_db", (0, 0) if plan.other is None else plan.other.snr_db),
    ):
        if ends[0] > ends[1]:
            raise bad(str(path), field, ends, "the lower end first")
    return plan


def scenes_of(
    plan: StreamPlan, manifest: Manifest, chosen: Sequence[Utterance], seed: int
) -> dict[str, Scene]:
    """What surrounds each of some utterances, by their ids. Plans with the same other sound and pause have the same of
    both for an utterance, whatever their lead-ins are.

    Args:
        plan: of what streams are made.
        manifest: of the utterances, all of it.
        chosen: those that are wanted.
        seed: of the draws.

    Raises:
        EdgeSpeechError: a corpus is not available or has no such recording, or an utterance has no lead-in by such a
            speaker; the message names it.
    """
    other = plan.other
    talkers = () if other is None else _talkers(other.corpus, other.ids)
    own = _by_speaker(manifest, plan.lead_in.longest_s)
    anyone = _recordings(plan.lead_in)
    found = {}
    for item in chosen:
        rng = generator(seed, item.id)
        pause_s = float(rng.uniform(*plan.pause_s))
        snr_db = 0.0 if other is None else float(rng.uniform(*other.snr_db))
        talker, lead = int(rng.integers(1 << 30)), int(rng.integers(1 << 30))
        recordings = anyone or _of_speakers(plan.lead_in, manifest, own, item)
        found[item.id] = Scene(
            lead_in=recordings[lead % len(recordings)],
            pause_s=pause_s,
            others=() if other is None else _one_talker(talkers, talker, item, rng),
            snr_db=snr_db,
            over_all=other is not None and other.over_all,
            seed=seed,
        )
    return found


def _recording(manifest: Manifest, item: Utterance) -> Recording:
    return Recording(item.id, manifest.audio_path(item).resolve(), item.offset, item.duration, item.sha256)


def _by_speaker(manifest: Manifest, longest_s: float) -> Mapping[str, list[Recording]]:
    """The utterances of each speaker that are short enough."""
    found: defaultdict[str, list[Recording]] = defaultdict(list)
    for item in manifest.utterances:
        if item.speaker is not None and item.duration <= longest_s:
            found[item.speaker].append(_recording(manifest, item))
    return found


def _of_speakers(
    plan: LeadInPlan, manifest: Manifest, own: Mapping[str, list[Recording]], item: Utterance
) -> Sequence[Recording]:
    """The utterances by the same speaker as an utterance's, or by others."""
    where = f"{manifest.name}: utterance {item.id}"
    if item.speaker is None:
        raise bad(where, "speaker", None, f"one, to find a lead-in by the {plan.speaker} speaker")
    if plan.speaker == "same":
        found = [one for one in own.get(item.speaker, ()) if one.id != item.id]
    else:
        found = [one for speaker, each in own.items() if speaker != item.speaker for one in each]
    if not found:
        raise bad(
            where,
            "lead-in",
            None,
            f"an utterance of {plan.longest_s:g} s at most by the {plan.speaker} speaker",
        )
    return found


def _recordings(plan: LeadInPlan) -> tuple[Recording, ...]:
    """The recordings of a corpus; none where lead-ins are utterances of the same manifest."""
    if plan.corpus is None:
        return ()
    manifest, ids = manifest_of(plan.corpus), plan.ids
    found = tuple(
        _recording(manifest, item)
        for item in manifest.utterances
        if item.duration <= plan.longest_s and (not ids or item.id.startswith(ids))
    )
    if not found:
        named = f"{plan.corpus}: {', '.join(ids) or 'all'}"
        raise bad("streams", "lead-ins", named, f"some of {plan.longest_s:g} s at most")
    return found


class _Talker(NamedTuple):
    """One speaker, or one noise."""

    speaker: str | None
    recordings: tuple[Recording, ...]


def _talkers(corpus: str, ids: tuple[str, ...]) -> tuple[_Talker, ...]:
    manifest = manifest_of(corpus)
    found: defaultdict[str, list[Utterance]] = defaultdict(list)
    for item in manifest.utterances:
        if not ids or item.id.startswith(ids):
            found[item.speaker or item.id].append(item)
    if not found:
        raise bad("streams", "recordings", f"{corpus}: {', '.join(ids)}", "some")
    return tuple(
        _Talker(items[0].speaker, tuple(_recording(manifest, item) for item in items))
        for items in found.values()
    )


def _one_talker(
    talkers: Sequence[_Talker], first: int, item: Utterance, rng: np.random.Generator
) -> tuple[Recording, ...]:
    """Recordings of one speaker who is not the utterance's."""
    for at in range(len(talkers)):
        chosen = talkers[(first + at) % len(talkers)]
        if chosen.speaker is None or chosen.speaker != item.speaker:
            break
    order = rng.permutation(len(chosen.recordings))[:_TALK]
    return tuple(chosen.recordings[place] for place in order)
