"""Figures with intervals over utterances and training runs, from what the networks heard.

Utterances are resampled by speaker where all have one, and training runs add a component of their own
(`edgespeech.metrics.word_errors.paired_over_seeds`). A share is measured as a difference from no error at all, so that
one rule makes every interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespeech.metrics.statistics import bootstrap_quantile, bootstrap_share, quantile
from edgespeech.metrics.word_errors import Text, WordErrors, paired_over_seeds

Row = dict[str, Any]
Floats = NDArray[np.float64]
Named = Sequence[tuple[str, Mapping[str, Any]]]
"""Utterances, each with the language that is spoken."""
_RATIOS = (0.0, 8.0)
"""The range in which the ends of a relative interval are looked for."""
_CLOSE = 1e-4


def _row(found: Any, resampled: Sequence[str], n: int, seeds: int) -> Row:
    return {
        "measured": found.difference,
        "low": found.interval.low,
        "high": found.interval.high,
        "n": n,
        "seeds": seeds,
        "resampled": tuple(resampled),
    }


class Counted:
    """The word errors of one test by every seed of an arm.

    Attributes:
        errors: with shape `(S, N)`.
        words: of each reference, with shape `(N,)`.
        groups: speakers; None where one is unknown.
    """

    def __init__(self, tests: Sequence[Mapping[str, Any]]) -> None:
        rows = tests[0]["rows"]
        texts = [Text("test", row["text"], row["speaker"]) for row in rows]
        counter = WordErrors(texts, {"test": tests[0]["normaliser"]}, 0)
        self.errors = np.array(
            [counter.errors([row["hyp"] for row in test["rows"]]) for test in tests], float
        )
        self.words = np.array(counter.words, float)
        self.ids = [row["id"] for row in rows]
        speakers = [row["speaker"] for row in rows]
        self.groups = speakers if all(speakers) else [None] * len(rows)


def word_rate(tests: Sequence[Mapping[str, Any]], seed: int) -> Row:
    """A word error rate, mean of the seeds."""
    own = Counted(tests)
    found, resampled = paired_over_seeds(own.errors, 0 * own.errors, own.words, own.groups, seed=seed)
    return _row(found, resampled, len(own.words), len(tests))


def compared_words(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], seed: int) -> Row:
    """The difference of two word error rates on the same utterances, in points."""
    a, b = Counted(ours), Counted(theirs)
    found, resampled = paired_over_seeds(a.errors, b.errors, a.words, a.groups, seed=seed)
    return _row(found, resampled, len(a.words), len(ours))


def relative_words(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], seed: int) -> Row:
    """By how much our word error rate is above theirs, relative to theirs.

    The interval holds each ratio r for which `ours - r * theirs` is no different from 0: unlike an interval of the
    difference over their rate, it does not take that rate as known.
    """
    a, b = Counted(ours), Counted(theirs)
    n, seeds = len(a.words), len(ours)
    if not b.errors.sum():
        return {"skipped": "the monolingual recogniser makes no error to compare with"}

    def ends(ratio: float) -> tuple[float, float]:
        found, _ = paired_over_seeds(a.errors, ratio * b.errors, a.words, a.groups, seed=seed)
        return found.interval.low, found.interval.high

    _, resampled = paired_over_seeds(a.errors, b.errors, a.words, a.groups, seed=seed)
    low = _root(lambda ratio: ends(ratio)[0])
    high = _root(lambda ratio: ends(ratio)[1])
    value = float(a.errors.sum() / b.errors.sum())
    return {
        "measured": value - 1,
        "low": low - 1,
        "high": high - 1,
        "n": n,
        "seeds": seeds,
        "resampled": resampled,
        "rates": [float(one.errors.sum() / (one.words.sum() * seeds)) for one in (a, b)],
    }


def _root(falling: Callable[[float], float]) -> float:
    """Where a function that falls with its argument crosses 0, within `_RATIOS`."""
    low, high = _RATIOS
    if falling(low) <= 0:
        return low
    if falling(high) >= 0:
        return high
    while high - low > _CLOSE:
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def named_rows(seeds: Sequence[Mapping[str, Any]], part: str, languages: Sequence[str]) -> list[Named] | None:
    """The utterances of a part in all languages, of every seed; None where one was not heard."""
    found: list[Named] = []
    for heard in seeds:
        tests = [heard["tests"].get(f"{part}/{language}") for language in languages]
        if any(test is None for test in tests):
            return None
        found.append([(one, row) for one, test in zip(languages, tests, strict=True) for row in test["rows"]])
    return found


def _wrong(seeds: Sequence[Named], place: int) -> Floats:
    """Flags of utterances whose language is named wrong, with shape `(S, N)`."""
    return np.array([[row["named"][place][0] != language for language, row in one] for one in seeds], float)


def _groups(rows: Named) -> list[str | None]:
    """Speakers of each language by themselves; None where one is unknown."""
    speakers = [row["speaker"] for _, row in rows]
    return (
        [f"{language} {one}" for (language, _), one in zip(rows, speakers, strict=True)]
        if all(speakers)
        else [None] * len(rows)
    )


def _share(flags: Floats, rows: Named, seed: int) -> Row:
    groups = _groups(rows)
    found, resampled = paired_over_seeds(flags, 0 * flags, np.ones(flags.shape[1]), groups, seed=seed)
    row = _row(found, resampled, flags.shape[1], len(flags))
    if (
        flags.min() == flags.max()
    ):  # no resample differs: the exact bound stands in for an interval without width
        bound = bootstrap_share([bool(one) for one in flags[0]], groups, seed=seed)
        return {**row, "low": bound.low, "high": bound.high}
    return {**row, "low": max(0.0, row["low"]), "high": min(1.0, row["high"])}


def named_right(seeds: Sequence[Named], place: int, seed: int) -> Row:
    """The share of utterances whose language is named right at a time."""
    return _turned(_share(_wrong(seeds, place), seeds[0], seed))


def _turned(row: Row) -> Row:
    """A share of errors as the share without."""
    return {**row, "measured": 1 - row["measured"], "low": 1 - row["high"], "high": 1 - row["low"]}


def named_better(ours: Sequence[Named], theirs: Sequence[Named], place: int, seed: int) -> Row:
    """How much more often ours names the language right than theirs, in points."""
    a, b = _wrong(ours, place), _wrong(theirs, place)
    found, resampled = paired_over_seeds(b, a, np.ones(a.shape[1]), _groups(ours[0]), seed=seed)
    return _row(found, resampled, a.shape[1], len(a))


def sure(seeds: Sequence[Named], least: float, seed: int) -> Row:
    """The share of utterances of whose language a head is sure at their end."""
    flags = np.array([[row["named"][-1][1] >= least for _, row in one] for one in seeds], float)
    return _share(flags, seeds[0], seed)


def confusion(seeds: Sequence[Named], languages: Sequence[str]) -> dict[str, dict[str, int]]:
    """How often each language is named for each spoken one at the end, over all seeds."""
    counts = Counter((language, row["named"][-1][0]) for one in seeds for language, row in one)
    return {spoken: {told: counts[spoken, told] for told in languages} for spoken in languages}


def by_language(rows: Named) -> dict[str, dict[str, Any]]:
    """Of each language its clips, the share named right at the end, and what it is most often taken for."""
    found = {}
    for language in sorted({one for one, _ in rows}):
        told = [row["named"][-1][0] for one, row in rows if one == language]
        others = Counter(one for one in told if one != language).most_common(1)
        found[language] = {
            "n": len(told),
            "right": sum(one == language for one in told) / len(told),
            "for": others[0][0] if others else None,
        }
    return found


def session_words(
    sessions: Sequence[Sequence[Mapping[str, Any]]],
    alone: Mapping[str, Sequence[Mapping[str, Any]] | None],
    seed: int,
) -> Row:
    """The word error rate within sessions minus that of the same utterances alone, in points."""
    normalisers = {language: tests[0]["normaliser"] for language, tests in alone.items() if tests}
    within, apart, words, groups = [], [], [], []
    for number, told in enumerate(sessions):
        rows = [row for session in told for row in session["rows"]]
        known = {
            (language, row["id"]): row["hyp"]
            for language, tests in alone.items()
            if tests
            for row in tests[number]["rows"]
        }
        texts = [Text(row["language"], row["text"], None) for row in rows]
        counter = WordErrors(texts, normalisers, 0)
        within.append(counter.errors([row["hyp"] for row in rows]))
        apart.append(counter.errors([known[row["language"], row["id"]] for row in rows]))
        words = counter.words
        groups = [f"session {at}" for at, session in enumerate(told) for _ in session["rows"]]
    found, resampled = paired_over_seeds(within, apart, words, groups, seed=seed)
    named = tuple("sessions" if one == "speakers" else one for one in resampled)
    return _row(found, named, len(words), len(within))


def median_delay(delays: Sequence[Floats], seed: int) -> Row:
    """The median over all seeds; its interval resamples switches."""
    pooled = np.concatenate(list(delays))
    found = bootstrap_quantile([[float(one)] for one in pooled], 0.5, [None] * len(pooled), seed=seed)
    return {"measured": quantile(pooled, 0.5), **found.as_row(), "n": len(pooled), "seeds": len(delays)}
