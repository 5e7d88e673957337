"""The lists of a measurement: for every utterance the phrases that the speaker uses, and others.

Source: D. Le et al., "Contextualized streaming end-to-end speech recognition with trie-based deep biasing and shallow
fusion" (Interspeech 2021), section 4.1: the list of an utterance has its rare words, and distractors up to a length.
Here distractors are rare words and names of other utterances, then names from `data_manifests/contexts`. None of them
has a word of the reference, so that the words of the list in the reference are the same for every length.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from edgespeech.audio.features import Features
from edgespeech.biasing.spellings import spellings
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.corpora.phrases import load_phrases
from edgespeech.corpora.utterances import Spoken, Utterances, utterances_of
from edgespeech.errors import bad
from edgespeech.lattice.codec import Vocabulary
from edgespeech.packed.log_mel import NativeLogMel
from edgespeech.search.partials import TAIL_S
from edgespeech.secondpass.folder import VOCABULARY, second_pass_folder
from edgespeech.text.normalise import normalisers

KINDS = ("full", "absent", "anti", "oracle")
"""A list with the right phrases and distractors; without the right ones; of words that sound like the spoken ones; of
the right phrases alone."""
_FAINT = 1e-3
"""Standard deviation of the noise of a pause: 60 dB below full scale."""
_LETTERS = 3
"""Least letters of a rare word, and least spelled letters in a row that count as a name."""


@dataclass(frozen=True)
class Case:
    """An utterance with the phrases that it says.

    Attributes:
        spoken: the utterance.
        text: its normalised reference.
        right: the phrases of the reference, normalised alike.
        pause_s: of faint noise behind the audio, in seconds.
    """

    spoken: Spoken
    text: str
    right: tuple[str, ...]
    pause_s: float = 0.0

    @property
    def words(self) -> list[str]:
        """The words of the reference."""
        return self.text.split()

    @cached_property
    def samples(self) -> Samples:
        """The audio, read once, and the pause."""
        noise = np.random.default_rng(0).standard_normal(round(self.pause_s * SAMPLE_RATE))
        return np.concatenate([self.spoken.samples(), (_FAINT * noise).astype(np.float32)])

    @cached_property
    def features(self) -> Features:
        """The log-mel features with the silence behind them, with shape `(F, 80)`, computed once."""
        extractor = NativeLogMel()
        tail = np.zeros(round(TAIL_S * SAMPLE_RATE), np.float32)
        parts = [extractor.accept(self.samples), extractor.accept(tail), extractor.finish()]
        return np.ascontiguousarray(np.concatenate(parts))


@dataclass(frozen=True)
class Set:
    """The cases of one corpus, and what distractors are drawn from.

    Attributes:
        name: of the corpus.
        cases: its utterances that say a phrase.
        pool: phrases in order of preference.
        seed: of the lists.
    """

    name: str
    cases: tuple[Case, ...]
    pool: tuple[str, ...]
    seed: int

    def phrases(self, case: Case, count: int, kind: str = "full") -> tuple[str, ...]:
        """The list of an utterance.

        Args:
            case: the utterance.
            count: length of the list; those of kind `oracle` have the right phrases alone.
            kind: one of `KINDS`.
        """
        if kind == "oracle":
            return case.right
        said = set(case.words)
        kept = [
            phrase for phrase, words in zip(self.pool, self._words, strict=True) if said.isdisjoint(words)
        ]
        if kind == "anti":
            return tuple(_nearest(case.words, kept, count))
        rng = random.Random(f"{self.seed} {case.spoken.id}")
        right = list(case.right)[:count] if kind == "full" else []
        near = kept[: max(4 * count, 200)]
        found = [*right, *rng.sample(near, min(count - len(right), len(near)))]
        rng.shuffle(found)
        return tuple(found)

    @cached_property
    def _words(self) -> list[list[str]]:
        return [phrase.split() for phrase in self.pool]


def _nearest(words: Sequence[str], pool: Sequence[str], count: int) -> Iterator[str]:
    """The phrases with the words that differ least from words of the reference, by edits for each letter."""
    others = sorted({other for phrase in pool for other in phrase.split()})
    edits = (
        cdist(words, others, scorer=Levenshtein.normalized_distance) if words else np.ones((1, len(others)))
    )
    nearest = dict(zip(others, edits.min(axis=0).tolist(), strict=True))

    def distance(phrase: str) -> float:
        return min((nearest[other] for other in phrase.split()), default=1.0)

    yield from sorted(pool, key=lambda phrase: (distance(phrase), phrase))[:count]


def sets_of(config: dict[str, Any], *, seed: int, count: int | None) -> tuple[list[Set], dict[str, str]]:
    """The sets of a configuration, and the reasons for those that are not available.

    Args:
        config: by corpus `normaliser`, and `right`: how the phrases of an utterance are found.
        seed: of the subsets and the lists.
        count: maximum number of utterances of each corpus, before those without a phrase are left out.
    """
    common = frozenset(Vocabulary.load(second_pass_folder() / VOCABULARY).words)
    found: list[Set] = []
    heard = utterances_of({name: how["normaliser"] for name, how in config.items()}, seed=seed, count=count)
    listed = {name.split("/")[-1].removesuffix(".jsonl"): how for name, how in config.items()}
    for name, how in listed.items():
        if name in heard.missing:
            continue
        found.append(_of_cases(name, _cases(heard, name, how, common), seed))
    return found, dict(heard.missing)


def set_of(name: str, how: dict[str, Any], *, seed: int, count: int | None) -> tuple[Set, dict[str, str]]:
    """The utterances of several corpora as one set, and the reasons for corpora that are not available.

    Args:
        name: of the set.
        how: `corpora`, and what `sets_of` needs to know of each.
        seed: of the subsets and the lists.
        count: maximum number of utterances of each corpus.

    Raises:
        EdgeSpeechError: none of the corpora is available, or none of the utterances says a phrase.
    """
    found, missing = sets_of(dict.fromkeys(how["corpora"], how), seed=seed, count=count)
    cases = [case for one in found for case in one.cases]
    if len(cases) < 2:  # an interval needs two
        raise bad(f"lists of {name}", "utterances that say a phrase", len(cases), "at least 2")
    return _of_cases(name, cases, seed), missing


def _of_cases(name: str, cases: Iterable[Case], seed: int) -> Set:
    cases = tuple(cases)
    own = dict.fromkeys(phrase for case in cases for phrase in case.right)
    order = sorted(own, key=lambda phrase: hashlib.sha256(phrase.encode()).hexdigest())
    return Set(name, cases, tuple(dict.fromkeys([*order, *names()])), seed)


def names() -> tuple[str, ...]:
    """Names of every list of the project, then pairs of a given name and a surname, in a fixed random order."""
    named = [
        spellings(phrase)[0]
        for name in ("contacts", "songs", "artists", "places", "devices", "rooms", "skills")
        for phrase in load_phrases(name)
    ]
    given, surnames = (
        [spellings(name)[0] for name in load_phrases(part)] for part in ("given_names", "surnames")
    )
    pairs = [f"{first} {last}" for first, last in product(given, surnames)]
    rng = random.Random(0)
    rng.shuffle(named)
    rng.shuffle(pairs)
    return tuple(dict.fromkeys([*named, *pairs]))


def _cases(heard: Utterances, name: str, how: dict[str, Any], common: frozenset[str]) -> Iterator[Case]:
    normalise = normalisers()[how["normaliser"]]
    find = _FINDERS[how["right"]]
    for spoken in heard:
        if spoken.corpus != name:
            continue
        text = normalise(spoken.text)
        right = (normalise(phrase) for phrase in find(spoken, text, common))
        present = tuple(dict.fromkeys(phrase for phrase in right if phrase and f" {phrase} " in f" {text} "))
        if present:
            yield Case(spoken, text, present)


def _slots(spoken: Spoken, text: str, common: frozenset[str]) -> Iterator[str]:
    del text, common
    yield from (spoken.item.slots or {}).values()


def _rare(spoken: Spoken, text: str, common: frozenset[str]) -> Iterator[str]:
    del spoken
    yield from (word for word in text.split() if len(word) >= _LETTERS and word not in common)


def _spelled(spoken: Spoken, text: str, common: frozenset[str]) -> Iterator[str]:
    """Letters in a row, as a name is spelled."""
    del spoken, common
    run: list[str] = []
    for word in [*text.split(), ""]:
        if len(word) == 1 and word.isalpha():
            run.append(word)
            continue
        if len(run) >= _LETTERS:
            yield " ".join(run)
        run = []


def _whole(spoken: Spoken, text: str, common: frozenset[str]) -> Iterator[str]:
    del spoken, common
    yield text


_FINDERS: dict[str, Callable[[Spoken, str, frozenset[str]], Iterator[str]]] = {
    "slots": _slots,
    "rare": _rare,
    "spelled": _spelled,
    "whole": _whole,
}
