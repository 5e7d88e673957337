"""Lists of trials: who is enrolled with which utterances, and which others are compared with the voice.

The same corpus, seed and counts give the same list on every machine; its hash is in the record.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgespeech.corpora.manifest import Utterance
from edgespeech.errors import bad
from edgespeech.metrics.verification import Speakers
from edgespeech.records.records import sha256_json


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A voice to enrol.

    Attributes:
        speaker: whose it is.
        utterances: ids of those that enrol it.
    """

    speaker: str
    utterances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trials:
    """Trials of one kind on one corpus.

    Attributes:
        voices: to enrol; a speaker may have several, one for each text.
        tests: the speaker and the id of each test utterance; none of them enrols.
        pairs: of each trial, the number of a voice and the number of a test.
    """

    voices: tuple[Enrolled, ...]
    tests: tuple[tuple[str, str], ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def speakers(self) -> Speakers:
        """Who is compared in each trial."""
        return Speakers(
            [self.voices[voice].speaker for voice, _ in self.pairs],
            [self.tests[test][0] for _, test in self.pairs],
        )

    def sha256(self) -> str:
        """Of the list."""
        return sha256_json(
            [
                [[one.speaker, *one.utterances] for one in self.voices],
                [list(one) for one in self.tests],
                [list(one) for one in self.pairs],
            ]
        )


def free_trials(
    utterances: Sequence[Utterance], *, enrol: int, speakers: int | None, strangers: int, seed: int
) -> Trials:
    """Trials of any text: each speaker enrols with some utterances and is tested with all others.

    Args:
        utterances: of a corpus; those without a speaker are left out.
        enrol: utterances that enrol a voice, at least 1.
        speakers: as many are drawn; None: all.
        strangers: voices of others that each test utterance is compared with, beside its own speaker's.
        seed: of all that is drawn.

    Raises:
        EdgeSpeechError: fewer than two speakers have more than `enrol` utterances.
    """
    by_speaker = _by_speaker(utterances)
    named = sorted(
        (one for one, own in by_speaker.items() if len(own) > enrol), key=lambda one: _rank(seed, one)
    )
    named = sorted(named[:speakers])
    if len(named) < 2:
        raise bad("trials", "speakers", len(named), f"at least 2 with more than {enrol} utterances")
    voices: list[Enrolled] = []
    tests: list[tuple[str, str]] = []
    pairs: list[tuple[int, int]] = []
    for number, speaker in enumerate(named):
        own = sorted(by_speaker[speaker], key=lambda one: _rank(seed, one.id))
        voices.append(Enrolled(speaker, tuple(one.id for one in own[:enrol])))
        others = [n for n in range(len(named)) if n != number]
        for one in own[enrol:]:
            pairs += [(voice, len(tests)) for voice in (number, *_some(others, strangers, seed, one.id))]
            tests.append((speaker, one.id))
    return Trials(tuple(voices), tuple(tests), tuple(pairs))


def same_text_trials(utterances: Sequence[Utterance], *, enrol: int, strangers: int, seed: int) -> Trials:
    """Trials of one text each, as of a wake word: enrolled and tested with takes of the same words.

    Args:
        utterances: of a corpus; those without a speaker are left out.
        enrol: takes that enrol a voice.
        strangers: as for `free_trials`, of voices that say the same.
        seed: likewise.

    Raises:
        EdgeSpeechError: no text has two speakers with more than `enrol` takes.
    """
    by_text: dict[str, list[Utterance]] = defaultdict(list)
    for one in utterances:
        by_text[one.text].append(one)
    voices: list[Enrolled] = []
    tests: list[tuple[str, str]] = []
    pairs: list[tuple[int, int]] = []
    for text in sorted(by_text):
        if sum(len(own) > enrol for own in _by_speaker(by_text[text]).values()) < 2:
            continue
        own = free_trials(by_text[text], enrol=enrol, speakers=None, strangers=strangers, seed=seed)
        pairs += [(len(voices) + voice, len(tests) + test) for voice, test in own.pairs]
        voices += own.voices
        tests += own.tests
    if not pairs:
        raise bad("trials", "texts", 0, f"one with two speakers of more than {enrol} takes each")
    return Trials(tuple(voices), tuple(tests), tuple(pairs))


def _by_speaker(utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    found: dict[str, list[Utterance]] = defaultdict(list)
    for one in utterances:
        if one.speaker is not None:
            found[one.speaker].append(one)
    return found


def _some(numbers: Sequence[int], count: int, seed: int, key: str) -> list[int]:
    """Some of them, by the seed and the key alone."""
    if count >= len(numbers):
        return list(numbers)
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    return sorted(int(n) for n in rng.choice(numbers, count, replace=False))


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
