"""Word errors of whole corpora: the only implementation, used by every measurement.

`WordErrors` is constructed from references (with their corpus, its normaliser, and their speaker) and counts the errors
of any number of transcripts of them, with rates, intervals and paired differences, independently of how the transcripts
were made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from edgespeech.contracts import Difference
from edgespeech.errors import bad
from edgespeech.metrics.statistics import (
    Groups,
    Interval,
    PairedDifference,
    bootstrap_ratio,
    paired_ratio_difference,
)
from edgespeech.metrics.wer import ErrorCounts, count_errors, total, wer
from edgespeech.text.normalise import normaliser_of

POOLED = "pooled"
"""All corpora together."""
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's quantile for 97.5 % by degrees of freedom, from 1 on; beyond these the next is close enough."""


class Reference(Protocol):
    """The reference of an utterance (`edgespeech.corpora.utterances.Spoken`)."""

    @property
    def corpus(self) -> str:
        """Its corpus."""
        ...

    @property
    def text(self) -> str:
        """The transcript as written in the corpus."""
        ...

    @property
    def speaker(self) -> str | None:
        """Its speaker; None if unknown."""
        ...


class Compared(NamedTuple):
    """One system's word error rate minus another's, on the same utterances.

    Attributes:
        difference: of the rates.
        low: end of its 95 % interval; `high` the other one.
        relative: the difference over the other's rate.
        verdict: `better`, `worse` or `tie`.
        seeds: number of training runs of each.
        n: utterances.
        resampled: units of the interval: `speakers` or `utterances`, and `seeds` if there are several.
    """

    difference: float
    low: float
    high: float
    relative: float
    verdict: str
    seeds: int
    n: int
    resampled: tuple[str, ...]

    def as_row(self) -> dict[str, Any]:
        """The fields of a page's row; with a margin in the claim, its upper end gives a verdict of non-inferiority."""
        return {
            "measured": self.difference,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "seeds": self.seeds,
            "resampled": self.resampled,
        }


class WordErrors:
    """Counts word errors of transcripts of the same utterances.

    Args:
        references: in the order of the transcripts.
        corpora: by corpus the name of its normaliser.
        seed: of the intervals.

    Attributes:
        words: reference words of each utterance.

    Raises:
        EdgeSpeechError: a normaliser, or the corpus of a reference, is unknown.
    """

    def __init__(self, references: Sequence[Reference], corpora: Mapping[str, str], seed: int) -> None:
        self.seed = seed
        self._normalise = {corpus: normaliser_of(name, corpus) for corpus, name in corpora.items()}
        for one in references:
            if one.corpus not in corpora:
                raise bad("word errors", "corpus", one.corpus, "one of " + ", ".join(corpora))
        self._corpora = [one.corpus for one in references]
        self._texts = self._normalised([one.text for one in references])
        self._speakers = [
            None if one.speaker is None else f"{one.corpus} {one.speaker}" for one in references
        ]
        self.words = [len(text.split()) for text in self._texts]

    @property
    def corpora(self) -> list[str]:
        """Every corpus, and all of them together."""
        return [*self._normalise, POOLED]

    def places(self, corpus: str) -> list[int]:
        """The utterances of a corpus, or of all for `POOLED`."""
        return [at for at, name in enumerate(self._corpora) if corpus in (POOLED, name)]

    def counts(self, texts: Sequence[str]) -> list[ErrorCounts]:
        """Errors of each utterance by kind.

        Args:
            texts: raw transcripts, one an utterance; empty for a recogniser that failed.

        Raises:
            EdgeSpeechError: there are not as many texts as utterances.
        """
        if len(texts) != len(self._texts):
            raise bad("word errors", "texts", len(texts), f"as many as utterances, {len(self._texts)}")
        return count_errors(self._texts, self._normalised(texts))

    def errors(self, texts: Sequence[str]) -> list[int]:
        """Errors of each utterance; see `counts`."""
        return [count.errors for count in self.counts(texts)]

    def wer(self, texts: Sequence[str]) -> float:
        """The word error rate over all utterances, see `edgespeech.metrics.wer.wer`."""
        return wer(self.counts(texts))

    def describe(self, texts: Sequence[str]) -> str:
        """The word error rate with its parts: `6.8 % (12 substitutions, 3 deletions, 1 insertions)`."""
        whole = total(counts := self.counts(texts))
        parts = (
            f"{whole.substitutions} substitutions, {whole.deletions} deletions, {whole.insertions} insertions"
        )
        return f"{100 * wer(counts):.1f} % ({parts})"

    def rate(self, errors: Sequence[int], corpus: str = POOLED) -> dict[str, float]:
        """A word error rate, `wer`, with its 95 % interval from `low` to `high`, and `n`, the utterances.

        A single utterance has no interval. Without any reference word `wer` is infinite, or 0 without errors.
        """
        value, n, interval = self._rate(errors, corpus)
        ends = {} if interval is None else {"low": interval.low, "high": interval.high}
        return {"wer": value, "n": n, **ends}

    def as_row(self, errors: Sequence[int], corpus: str = POOLED) -> dict[str, Any]:
        """The same as a row of a page's record has it: `measured`, and what the interval resamples."""
        value, n, interval = self._rate(errors, corpus)
        return {"measured": value, "n": n, **({} if interval is None else interval.as_row())}

    def _rate(self, errors: Sequence[int], corpus: str) -> tuple[float, int, Interval | None]:
        at = self.places(corpus)
        wrong, words = ([values[place] for place in at] for values in (errors, self.words))
        if not sum(words):
            return math.inf if sum(wrong) else 0.0, len(at), None
        value = sum(wrong) / sum(words)
        if len(at) < 2:
            return value, len(at), None
        return value, len(at), bootstrap_ratio(wrong, words, self._groups(at), seed=self.seed)

    def compare(
        self, ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]], corpus: str = POOLED
    ) -> Compared:
        """The paired difference of two systems, ours minus theirs.

        Args:
            ours: errors of each utterance, by training seed; a single list without training.
            theirs: the same for the other system and the same seeds.
            corpus: one, or `POOLED`.

        Raises:
            EdgeSpeechError: the numbers of seeds differ, or there are fewer than two utterances.
        """
        if len(ours) != len(theirs) or not ours:
            raise bad("word errors", "seeds", (len(ours), len(theirs)), "as many of both, at least one")
        at = self.places(corpus)
        a, b = (np.array([[one[place] for place in at] for one in each]) for each in (ours, theirs))
        words = np.array([self.words[place] for place in at])
        found, resampled = paired_over_seeds(a, b, words, self._groups(at), seed=self.seed)
        return Compared(
            found.difference,
            found.interval.low,
            found.interval.high,
            float((a.sum() - b.sum()) / max(1, b.sum())),
            found.verdict.value,
            len(ours),
            len(at),
            resampled,
        )

    def _normalised(self, texts: Sequence[str]) -> list[str]:
        """Normalise the texts of one writer, corpus by corpus (`Normaliser.all`)."""
        found = list(texts)
        for corpus, normalise in self._normalise.items():
            at = self.places(corpus)
            for place, text in zip(at, normalise.all([texts[place] for place in at]), strict=True):
                found[place] = text
        return found

    def _groups(self, at: Sequence[int]) -> list[str | None]:
        return [self._speakers[place] for place in at]


class Text(NamedTuple):
    """A reference of a single corpus."""

    corpus: str
    text: str
    speaker: str | None


def word_errors_of(
    texts: Sequence[str],
    normaliser: str = "basic",
    speakers: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
) -> WordErrors:
    """`WordErrors` of transcripts of a single corpus.

    Args:
        texts: the reference of each utterance.
        normaliser: its name.
        speakers: of each; None if unknown.
        seed: of the intervals.

    Raises:
        EdgeSpeechError: as `WordErrors`, or there are not as many speakers as texts.
    """
    named = [None] * len(texts) if speakers is None else speakers
    if len(named) != len(texts):
        raise bad("word errors", "speakers", len(named), f"as many as texts, {len(texts)}")
    corpus = "texts"
    references = [Text(corpus, text, speaker) for text, speaker in zip(texts, named, strict=True)]
    return WordErrors(references, {corpus: normaliser}, seed)


def errors_against(reference: str, texts: Sequence[str]) -> list[int]:
    """Errors of several texts against one reference, such as the paths of a lattice, without normalisation."""
    return [count.errors for count in count_errors([reference] * len(texts), texts)]


def paired_over_seeds(
    ours: ArrayLike, theirs: ArrayLike, words: ArrayLike, groups: Groups, *, seed: int
) -> tuple[PairedDifference, tuple[str, ...]]:
    """The paired difference of two ways of training, each trained with the same S seeds, over N utterances.

    Errors of an utterance are summed over the seeds and its units resampled (`paired_ratio_difference`). Several seeds
    add a second component: the interval of the mean over seeds is Student's t times its standard error, since resamples
    of three or four seeds would be far too narrow. The ends of both are joined by the square-and-add rule
    (Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27:10, 2008).

    Args:
        ours: errors with shape `(S, N)`.
        theirs: the same for the other.
        words: reference words with shape `(N,)`.
        groups: per utterance its speaker, or None.
        seed: of the resamples.

    Returns:
        The difference with its interval and its resampled units.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    weights = np.asarray(words, np.float64)
    found = paired_ratio_difference(a.sum(axis=0), b.sum(axis=0), weights * len(a), groups, seed=seed)
    unit = f"{found.interval.method}s"
    if len(a) < 2:
        return found, (unit,)
    each = (a - b).sum(axis=1) / weights.sum()
    t = _T_975[min(len(a) - 1, len(_T_975)) - 1]
    half = t * float(each.std(ddof=1)) / math.sqrt(len(a))
    point = found.difference
    interval = replace(
        found.interval,
        low=point - math.hypot(point - found.interval.low, half),
        high=point + math.hypot(found.interval.high - point, half),
    )
    verdict = Difference.TIE
    if interval.high < 0 or interval.low > 0:
        verdict = Difference.BETTER if interval.high < 0 else Difference.WORSE
    return PairedDifference(point, interval, verdict), (unit, "seeds")
