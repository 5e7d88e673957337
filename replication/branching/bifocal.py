"""Streams of a wake word and a command: the wake word's end picks the slow branch (Bifocal, arXiv 2108.01704)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from replication.branching.arms import BranchArms
from replication.branching.hearing import Sound, chooser, hear, sound_of
from replication.branching.listening import FRAME_S, cost_of

from edgespeech.contracts import SAMPLE_RATE
from edgespeech.corpora.utterances import Spoken, Utterances, utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Row
from edgespeech.harness.hear import word_errors
from edgespeech.metrics.statistics import bootstrap_ratio


def streams(settings: Mapping[str, Any], count: int | None, seed: int) -> tuple[list[Sound], Utterances]:
    """A wake word up to its end before each command; the pivot is where the wake word ends.

    Args:
        settings: `wake`, a corpus of wake words, and `commands`, a corpus with its normaliser.
        count: of commands.
        seed: of the choice.

    Raises:
        EdgeSpeechError: a corpus is not available, or no wake word says where it ends.
    """
    commands = utterances_of(settings["commands"], seed=seed, count=count)
    wakes = utterances_of({settings["wake"]: "basic"}, seed=seed)
    ended = [one for one in wakes if one.item.eos_s is not None]
    if not ended:
        raise EdgeSpeechError(f"{settings['wake']}: no wake word says where it ends")
    order = np.random.default_rng(seed).permutation(len(ended))
    found = [_stream(ended[order[place % len(ended)]], command) for place, command in enumerate(commands)]
    return found, commands


def bifocal(arms: BranchArms, settings: Mapping[str, Any], count: int | None, seed: int) -> Iterator[Row]:
    """What the pivot saves, and what it loses against the slow branch alone, on the same streams.

    Args:
        arms: the page's.
        settings: `arm`, `against`, and see `streams`.
        count: of streams.
        seed: of the streams and the intervals.

    Raises:
        EdgeSpeechError: an arm is not trained, or as `streams`.
    """
    pairs = [
        (arms.trained(ours), arms.trained(theirs))
        for ours, theirs in zip(arms.of(settings["arm"]), arms.of(settings["against"]), strict=False)
    ]
    sounds, commands = streams(settings, count, seed)
    words = word_errors(commands)
    errors: tuple[list[list[int]], list[list[int]]] = ([], [])
    cost = np.zeros(len(sounds))
    for ours, theirs in pairs:
        heard = hear(ours, sounds, chooser(ours, "pivot", sounds, 0.0, seed))
        macs = ours.model.transcriber.macs
        cost += [float(cost_of(macs, one.mix, arbitrated=False).sum()) for one in heard]
        errors[0].append(words.errors([one.text for one in heard]))
        slow = hear(theirs, sounds, chooser(theirs, "slow", sounds, 0.0, seed))
        errors[1].append(words.errors([one.text for one in slow]))
    frames = np.array([one.frames for one in sounds], np.float64) * len(pairs)
    detail = f"{settings['arm']} against {settings['against']}, streams of wake word and command"
    row: Row = {"claim": "branching.bifocal", "detail": detail, "seeds": len(pairs), "n": len(sounds)}
    row["measured"] = 1 - float(cost.sum() / frames.sum())
    if len(sounds) < 2:
        yield row
        return
    speakers = [None if one.speaker is None else f"{one.corpus} {one.speaker}" for one in commands]
    yield row | bootstrap_ratio(frames - cost, frames, speakers, seed=seed).as_row()
    against = words.compare(*errors)
    yield {"claim": "branching.bifocal_words", "detail": detail, **against.as_row()}


def _stream(wake: Spoken, command: Spoken) -> Sound:
    """One after the other; the command begins where the wake word ends."""
    end = round((wake.item.eos_s or 0.0) * SAMPLE_RATE)
    before = wake.samples()[:end]
    pivot = int(np.ceil(len(before) / SAMPLE_RATE / FRAME_S))
    return sound_of(np.concatenate([before, command.samples()]), FRAME_S, pivot=pivot)
