"""Hearing streams: the arms' packed files, with and without what comes before each utterance.

The transcriber hears the whole stream at once, and the search begins behind the lead-in. The frames of the utterance
are the same with and without it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgespeech.arms.configuration import Arm, Arms
from edgespeech.audio.features import Features, log_mel_at_once
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.core.files import write_atomic
from edgespeech.corpora.streams import load_stream_plan
from edgespeech.corpora.utterances import Spoken, Utterances, utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Row
from edgespeech.harness.hear import hear, word_errors
from edgespeech.metrics.word_errors import WordErrors, paired_over_seeds
from edgespeech.packed.runtime import PackedModel
from edgespeech.records.records import sha256_json, without_paths
from edgespeech.search.hypothesis import words_of
from edgespeech.search.partials import TAIL_S

ARMS = "arms"
"""Folder of the transcripts among the page's results."""


class Sound(NamedTuple):
    """An utterance in its stream.

    Attributes:
        before: features of the lead-in, whole stacks, with shape `(L, 80)`.
        own: of the utterance and a tail of silence, with shape `(F, 80)`.
        duration_s: of the utterance.
    """

    before: Features
    own: Features
    duration_s: float


class Way(NamedTuple):
    """A way to hear an arm: with or without lead-ins, on some sets."""

    name: str
    arm: str
    lead_in: bool
    sets: tuple[str, ...]


class Heard(NamedTuple):
    """The transcripts of one training seed, by way and set."""

    arm: Arm
    texts: Mapping[tuple[str, str], Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class StreamSet:
    """The streams of a set, prepared.

    Attributes:
        utterances: what is said.
        sounds: of each.
        words: counts errors.
        key: a hash of what is heard.
    """

    utterances: Utterances
    sounds: Sequence[Sound]
    words: WordErrors
    key: str

    @property
    def speakers(self) -> list[str | None]:
        """Of each utterance, with its corpus."""
        return [None if one.speaker is None else f"{one.corpus} {one.speaker}" for one in self.utterances]


def stream_set(settings: Mapping[str, Any], profile: str, stack: int, seed: int) -> StreamSet:
    """A set of the page.

    Args:
        settings: `corpora`, `stream`, and by profile the number of utterances.
        profile: `quick` or `full`.
        stack: feature frames of a transcriber frame.
        seed: of the subset and the streams.

    Raises:
        EdgeSpeechError: no corpus is available, or no stream can be made.
    """
    plan = load_stream_plan(settings["stream"])
    found = utterances_of(settings["corpora"], seed=seed, count=settings[profile], stream=plan)
    manifests = sorted(found.manifests.items())
    key = sha256_json([plan.model_dump(mode="json"), manifests, [one.id for one in found], seed])
    sounds = _Sounds(found, stack)
    return StreamSet(utterances=found, sounds=sounds, words=word_errors(found), key=key)


class _Sounds(Sequence[Sound]):
    """The sounds of some utterances, each made when it is first asked for: published transcripts need none."""

    def __init__(self, utterances: Utterances, stack: int) -> None:
        self._utterances, self._stack = utterances.items, stack
        self._made: dict[int, Sound] = {}

    def __len__(self) -> int:
        return len(self._utterances)

    def __getitem__(self, place: Any) -> Any:
        if not 0 <= place < len(self):
            raise IndexError(place)  # which ends a loop
        if place not in self._made:
            self._made[place] = _sound(self._utterances[place], self._stack)
        return self._made[place]


def _sound(one: Spoken, stack: int) -> Sound:
    lead_in, samples = one.stream()
    assert lead_in is not None, "a plan has one for every utterance"
    before = log_mel_at_once(lead_in.samples)
    own = log_mel_at_once(np.concatenate([samples, np.zeros(round(TAIL_S * SAMPLE_RATE), np.float32)]))
    return Sound(before[: len(before) - len(before) % stack], own, len(samples) / SAMPLE_RATE)


def say(file: Path, streams: StreamSet, beam: int, *, lead_in: bool) -> list[str]:
    """A packed model's transcript of every utterance of a set.

    Args:
        file: the model.
        streams: the set.
        beam: of the search.
        lead_in: whether the transcriber hears what comes before.

    Raises:
        EdgeSpeechError: the file is not a packed model.
    """
    with PackedModel(file) as model:
        one = partial(_said, model, beam, lead_in)
        # The engine releases Python's global lock.
        heard = hear(one, streams.utterances, given=streams.sounds, threads=os.cpu_count() or 1)
    return list(heard.texts)


def _said(model: PackedModel, beam: int, lead_in: bool, sound: Sound) -> str:
    before = sound.before if lead_in else sound.before[:0]
    encoded = model.transcribe(np.concatenate([before, sound.own]))
    with closing(model.open(beam)) as stream:
        stream.accept_encoded(encoded[len(before) // model.config.stack :])
        words = words_of(stream.best, model.pieces, model.config.frame_s, sound.duration_s)
    return " ".join(word.text for word in words)


class Listening:
    """The page's sets, and its arms as heard on them.

    Args:
        config: the page's.
        arms: its arms.
        results: its folder among the results.
        scratch: a folder for files.

    Attributes:
        sets: those whose corpora are here, by name.
        missing: why the others are not here.
    """

    def __init__(self, config: Mapping[str, Any], arms: Arms, results: Path, scratch: Path) -> None:
        self._config, self._arms, self._results, self._scratch = config, arms, results, scratch
        self.ways = ways_of(config)
        self.sets: dict[str, StreamSet] = {}
        self.missing: dict[str, str] = {}
        for name, settings in config["sets"].items():
            try:
                made = stream_set(settings, config["profile"], arms.shape.stack, config["seed"])
            except EdgeSpeechError as error:
                self.missing[name] = without_paths(str(error))
                continue
            self.sets[name] = made
            if made.utterances.missing:
                self.missing[name] = "; ".join(f"{at}: {why}" for at, why in made.utterances.missing.items())

    def results(self) -> Iterator[Heard | Row]:
        """Every arm that is in a way: heard now, or as published; or a row that says why not."""
        for arm in self._arms.arms.values():
            if not any(way.arm == arm.first for way in self.ways):
                continue
            try:
                self._arms.model_folder(arm)
            except EdgeSpeechError as error:
                published = self.published(arm)
                reason = without_paths(str(error))
                yield Heard(arm, published) if published else {"name": arm.name, "skipped": reason}
                continue
            yield Heard(arm, self._hear(arm))

    def _hear(self, arm: Arm) -> dict[tuple[str, str], Sequence[str]]:
        file = self._scratch / f"{arm.name}.edge"
        self._arms.pack(arm, file)
        beam = self._config["beam"]
        return {
            (way.name, name): say(file, self.sets[name], beam, lead_in=way.lead_in)
            for way in self.ways
            for name in way.sets
            if way.arm == arm.first and name in self.sets
        }

    def published(self, arm: Arm) -> dict[tuple[str, str], Sequence[str]]:
        """An arm's published transcripts of what is heard here; empty if it, or the streams, have changed."""
        path = self._path(arm)
        if not path.is_file():
            return {}
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["key"] != self._key(arm):
            return {}
        return {
            (way.name, name): told["texts"][way.name][name]["texts"]
            for way in self.ways
            for name in way.sets
            if name in self.sets
            and told["texts"].get(way.name, {}).get(name, {}).get("key") == self.sets[name].key
        }

    def publish(self, heard: Heard) -> None:
        """Keep an arm's transcripts among the results.

        Raises:
            EdgeSpeechError: the file cannot be written.
        """
        texts: dict[str, dict[str, Any]] = {}
        for (way, name), said in heard.texts.items():
            texts.setdefault(way, {})[name] = {"key": self.sets[name].key, "texts": list(said)}
        told = {"key": self._key(heard.arm), "texts": texts}
        write_atomic(self._path(heard.arm), json.dumps(told, indent=1) + "\n")

    def _path(self, arm: Arm) -> Path:
        return self._results / ARMS / f"{arm.name}.json"

    def _key(self, arm: Arm) -> str:
        return f"{self._arms.sha256(arm)} {self._arms.root_sha256} beam {self._config['beam']}"

    def rows(self, found: Sequence[Heard]) -> Iterator[Row]:
        """Word error rates of each seed, way and set, for the page's table."""
        for one in found:
            for (way, name), said in one.texts.items():
                words = self.sets[name].words
                rate = words.rate(words.errors(said))
                yield {"name": one.arm.name, "way": way, "set": name, "seed": one.arm.seed, "wer": rate}

    def errors(self, found: Sequence[Heard], way: str, name: str) -> dict[int, list[int]]:
        """Word errors of each utterance of a set, by training seed."""
        if name not in self.sets:
            return {}
        words = self.sets[name].words
        return {one.arm.seed: words.errors(one.texts[way, name]) for one in found if (way, name) in one.texts}

    def compare(self, found: Sequence[Heard], entry: Mapping[str, Any]) -> Row:
        """One of the page's comparisons, as a row: of two ways on one set, or of one way on two sets of the same
        utterances.
        """
        way, name = entry["way"], entry["set"]
        other_way, other_set = entry.get("against", way), entry.get("against_set", name)
        detail = (
            f"{way} against {other_way}, {name}"
            if other_set == name
            else f"{way}, {name} against {other_set}"
        )
        row: Row = {"claim": entry["claim"], "detail": detail}
        ours, theirs = self.errors(found, way, name), self.errors(found, other_way, other_set)
        if len(set(theirs)) == 1 and len(ours) > 1:  # what is not trained has no seeds
            theirs = dict.fromkeys(ours, next(iter(theirs.values())))
        both = sorted(ours.keys() & theirs.keys())
        if not both:
            reasons = [self.missing[one] for one in dict.fromkeys((name, other_set)) if one in self.missing]
            return {**row, "skipped": "; ".join(reasons) or "not trained on this machine, nor published"}
        a, b = (np.array([each[seed] for seed in both], np.float64) for each in (ours, theirs))
        streams = self.sets[name]
        weights = np.array(streams.words.words, np.float64)
        if entry.get("relative"):
            if not b.sum():
                return {**row, "skipped": f"no word errors without it, {a.sum():g} with it"}
            weights = b.mean(axis=0)
        told, units = paired_over_seeds(a, b, weights, streams.speakers, seed=streams.utterances.seed)
        interval = told.interval.as_row() | {"resampled": units}
        return {**row, "measured": told.difference, **interval, "n": a.shape[1], "seeds": len(both)}


def ways_of(config: Mapping[str, Any]) -> list[Way]:
    """The page's ways, in their order."""
    return [Way(name, one["arm"], one["lead_in"], tuple(one["sets"])) for name, one in config["ways"].items()]
