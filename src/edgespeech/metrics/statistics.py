"""Intervals and verdicts by bootstrap over speakers, or over utterances if speakers are unknown.

Errors within a speaker are correlated, so intervals that should hold for new speakers resample speakers (n = their
number), each with all of its utterances. Only if some utterance has no speaker, or all have the same, are utterances
resampled; the interval states which.

Every interval is a 95 % percentile interval over seeded resamples. Its percentiles are widened according to Student's t
for n units (the expanded percentile interval: Hesterberg, "What teachers should know about
the bootstrap", The American Statistician 69:4, 2015), because the plain one is too narrow for few speakers;
from about 100 units on the two are the same. A quantile is always a value that occurred (the smallest that at
least a share `q` of all values do not exceed), so infinite values give infinite quantiles and never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgespeech.contracts import Difference
from edgespeech.errors import bad

RESAMPLES = 2000
CONFIDENCE = 0.95
_BLOCK = 4_000_000
_ROUNDING = 1e-9

Floats = NDArray[np.float64]
Groups = Sequence[str | None]
"""The speaker of each utterance, None if unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A 95 % interval.

    Attributes:
        low: lower end; `high` the upper one. Either may be infinite.
        method: the unit that was resampled.
        n_units: number of speakers or utterances.
        resamples: number of resamples.
    """

    low: float
    high: float
    method: Literal["speaker", "utterance"]
    n_units: int
    resamples: int

    def describe(self) -> str:
        """One line for a record, e.g. `bootstrap over 40 speakers, 2000 resamples`."""
        return f"bootstrap over {self.n_units} {self.method}s, {self.resamples} resamples"

    def as_row(self) -> dict[str, Any]:
        """The fields of a page's row: `low`, `high`, `resampled`."""
        return {"low": self.low, "high": self.high, "resampled": (f"{self.method}s",)}


class Estimate(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    interval: Interval


class PairedDifference(NamedTuple):
    """The difference of system A from system B on the same utterances; below 0, A is lower."""

    difference: float
    interval: Interval
    verdict: Difference


def quantile(values: ArrayLike, q: float) -> float:
    """The smallest value that at least a share `q` of all values do not exceed.

    Args:
        values: with shape `(N,)`, `N` > 0; infinities allowed.
        q: above 0, at most 1.

    Raises:
        EdgeSpeechError: no values, NaN, or `q` out of range.
    """
    array = np.sort(_vector("values", values))
    if not array.size:
        raise bad("quantile", "values", "none", "at least one")
    return float(array[_rank(_checked(q), array.size)])


def bootstrap_ratio(
    numerators: ArrayLike, denominators: ArrayLike, groups: Groups, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Interval of `sum(numerators) / sum(denominators)`, such as a word error rate or a real-time factor.

    Args:
        numerators: per utterance, with shape `(N,)`, finite.
        denominators: per utterance, with shape `(N,)`, finite and not negative. Resamples in which they sum to 0 are
            left out.
        groups: the speaker of each utterance, or None.
        seed: determines the resamples, independently of the values.
        resamples: how many.

    Raises:
        EdgeSpeechError: lengths differ, a value is out of range, there are fewer than 2 utterances, or the
            denominators sum to 0.
    """
    units = Units.of(groups)
    top, bottom = _ratio_sums(units, "numerators", numerators, denominators)
    draws = []
    for weights in units.weights(seed, resamples):
        above, below = weights @ top, weights @ bottom
        draws.append(above[below > 0] / below[below > 0])
    return units.interval(np.concatenate(draws), resamples)


def bootstrap_share(
    flags: Sequence[bool], groups: Groups, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Interval of the share of utterances with a property.

    If all or none have it, all resamples agree and a bootstrap interval would have no width; the other end is then the
    exact binomial bound for `n_units` independent trials, at a distance of `1 - 0.025 ** (1 / n)`.

    Args:
        flags: per utterance.
        groups: the speaker of each utterance, or None.
        seed: as for `bootstrap_ratio`.
        resamples: how many.

    Raises:
        EdgeSpeechError: as for `bootstrap_ratio`.
    """
    values = np.asarray(flags, dtype=np.float64)
    found = bootstrap_ratio(values, np.ones(len(values)), groups, seed=seed, resamples=resamples)
    if values.min() < values.max():
        return found
    width = 1 - ((1 - CONFIDENCE) / 2) ** (1 / found.n_units)
    low, high = (0.0, width) if values[0] == 0 else (1 - width, 1.0)
    return Interval(low=low, high=high, method=found.method, n_units=found.n_units, resamples=resamples)


def bootstrap_quantiles(
    values: Sequence[ArrayLike],
    qs: Sequence[float],
    groups: Groups,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[Interval, ...]:
    """Intervals of quantiles of all pooled values; an utterance may have any number of values.

    Exact, without binning: the pooled values are sorted once, and a resample is one cumulative sum of unit
    weights in that order, from which all quantiles are read (100,000 values: about 1 s). No resample holds a
    value above the largest that occurred, so the interval of a P99 over fewer than some 400 units is too
    narrow.

    Args:
        values: per utterance its values, infinities allowed. Utterances without any are left out, also from
            `n_units`.
        qs: each above 0, at most 1.
        groups: the speaker of each utterance, or None.
        seed: as for `bootstrap_ratio`.
        resamples: how many.

    Raises:
        EdgeSpeechError: lengths differ, a value is NaN, or fewer than 2 utterances have values.
    """
    if len(values) != len(groups):
        raise bad("bootstrap", "values", len(values), f"as many as utterances, {len(groups)}")
    lists = [_vector("values", item) for item in values]
    lists, kept = (
        [item for item in lists if item.size],
        [g for item, g in zip(lists, groups, strict=True) if item.size],
    )
    units = Units.of(kept)
    pooled = np.concatenate(lists)
    order = np.argsort(pooled, kind="stable")
    ranked = pooled[order]
    unit = np.repeat(units.index, [item.size for item in lists])[order]
    levels = [_checked(q) for q in qs]
    draws = np.empty((len(levels), resamples))
    column = 0
    for weights in units.weights(seed, resamples):
        for row in weights.astype(np.int64):
            reached = np.cumsum(row[unit])
            ranks = [_rank(q, int(reached[-1])) + 1 for q in levels]
            draws[:, column] = ranked[np.searchsorted(reached, ranks)]
            column += 1
    return tuple(units.interval(row, resamples) for row in draws)


def bootstrap_quantile(
    values: Sequence[ArrayLike], q: float, groups: Groups, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Interval of one quantile; see `bootstrap_quantiles`."""
    return bootstrap_quantiles(values, [q], groups, seed=seed, resamples=resamples)[0]


def paired_ratio_difference(
    numerators_a: ArrayLike,
    numerators_b: ArrayLike,
    denominators: ArrayLike,
    groups: Groups,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> PairedDifference:
    """Paired difference of the ratios of two systems, A minus B, on the same utterances.

    Lower is better: for a rate where higher is better, pass the complement (rejections for acceptances).

    Args:
        numerators_a: system A's, per utterance, with shape `(N,)`, finite.
        numerators_b: system B's, for the same utterances in the same order.
        denominators: of both (reference words, seconds, ones), not negative.
        groups: the speaker of each utterance, or None.
        seed: as for `bootstrap_ratio`.
        resamples: how many.

    Returns:
        The difference, its interval, and the verdict on A: `tie` when the interval holds 0.

    Raises:
        EdgeSpeechError: as for `bootstrap_ratio`.
    """
    a, b = _vector("numerators_a", numerators_a), _vector("numerators_b", numerators_b)
    if a.shape != b.shape:
        raise bad("bootstrap", "numerators_b", b.size, f"as many as numerators_a, {a.size}")
    difference = a - b
    interval = bootstrap_ratio(difference, denominators, groups, seed=seed, resamples=resamples)
    point = float(difference.sum() / _vector("denominators", denominators).sum())
    return PairedDifference(point, interval, _verdict(interval))


def paired_quantile_difference(
    values_a: ArrayLike,
    values_b: ArrayLike,
    q: float,
    groups: Groups,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> PairedDifference:
    """Paired difference of a quantile, A's minus B's, with one value per utterance and system.

    Args:
        values_a: system A's, with shape `(N,)`, infinities allowed.
        values_b: system B's, for the same utterances in the same order.
        q: above 0, at most 1.
        groups: the speaker of each utterance, or None.
        seed: as for `bootstrap_ratio`.
        resamples: how many. Those in which both quantiles are infinite are left out.

    Raises:
        EdgeSpeechError: lengths differ, a value is NaN, `q` is out of range, there are fewer than 2 utterances, or both
            quantiles are infinite.
    """
    both = [_vector("values_a", values_a), _vector("values_b", values_b)]
    if {item.size for item in both} != {len(groups)}:
        raise bad(
            "bootstrap", "values", [item.size for item in both], f"as many as utterances, {len(groups)}"
        )
    points = [quantile(item, q) for item in both]
    if np.isnan(points[0] - points[1]):
        raise bad("bootstrap", "quantiles", points, "at least one that is finite")
    units = Units.of(groups)
    orders = [np.argsort(item, kind="stable") for item in both]
    draws = []
    for weights in units.weights(seed, resamples):
        each = weights[:, units.index]
        found = []
        for item, order in zip(both, orders, strict=True):
            reached = each[:, order].cumsum(axis=1)
            wanted = np.ceil(_checked(q) * reached[:, -1:] - _ROUNDING)
            found.append(item[order][(reached < wanted).sum(axis=1)])
        with np.errstate(invalid="ignore"):
            draws.append(found[0] - found[1])
    drawn = np.concatenate(draws)
    interval = units.interval(drawn[~np.isnan(drawn)], resamples)
    return PairedDifference(points[0] - points[1], interval, _verdict(interval))


@dataclass(frozen=True, slots=True)
class Units:
    """The resampling units: the unit of each utterance, the number of units, and their kind."""

    index: NDArray[np.intp]
    n: int
    method: Literal["speaker", "utterance"]

    @classmethod
    def of(cls, groups: Groups) -> Units:
        """The speaker of each utterance, or the utterances themselves if speakers are unknown or there is only one.

        Raises:
            EdgeSpeechError: fewer than two utterances.
        """
        if len(groups) < 2:
            raise bad("bootstrap", "utterances", len(groups), "at least 2")
        numbers: dict[str | None, int] = {}
        index = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp)
        if None in numbers or len(numbers) < 2:
            return cls(np.arange(len(groups)), len(groups), "utterance")
        return cls(index, len(numbers), "speaker")

    def weights(self, seed: int, resamples: int) -> Iterator[Floats]:
        """Blocks with shape `(B, n)`: how often each unit is drawn in each of `B` resamples."""
        rng = np.random.default_rng(seed)
        for start in range(0, resamples, size := max(1, _BLOCK // self.n)):
            rows = min(size, resamples - start)
            drawn = rng.integers(self.n, size=(rows, self.n)) + self.n * np.arange(rows)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=rows * self.n)
            yield counts.reshape(rows, self.n).astype(np.float64)

    def interval(self, draws: Floats, resamples: int) -> Interval:
        """The 95 % interval of a statistic, given its values in the resamples, `draws` with shape `(resamples,)`."""
        tail = _tail(self.n)
        return Interval(
            low=quantile(draws, tail),
            high=-quantile(-draws, tail),
            method=self.method,
            n_units=self.n,
            resamples=resamples,
        )


def _verdict(interval: Interval) -> Difference:
    """The verdict on A, if lower is better: `tie` if the interval contains 0."""
    if interval.high < 0:
        return Difference.BETTER
    return Difference.WORSE if interval.low > 0 else Difference.TIE


def _ratio_sums(
    units: Units, name: str, numerators: ArrayLike, denominators: ArrayLike
) -> tuple[Floats, Floats]:
    """Numerators and denominators summed per unit."""
    top, bottom = _vector(name, numerators), _vector("denominators", denominators)
    for field, array in ((name, top), ("denominators", bottom)):
        if array.size != units.index.size:
            raise bad("bootstrap", field, array.size, f"as many as utterances, {units.index.size}")
        if not np.isfinite(array).all():
            raise bad("bootstrap", field, "infinite", "finite numbers")
    if (bottom < 0).any() or bottom.sum() == 0:
        raise bad(
            "bootstrap", "denominators", float(bottom.min()), "numbers of at least 0 with a sum above 0"
        )
    sums = np.zeros((2, units.n))
    np.add.at(sums[0], units.index, top)
    np.add.at(sums[1], units.index, bottom)
    return sums[0], sums[1]


def _tail(n: int) -> float:
    """Probability beyond each end of a percentile interval over `n` units, expanded for small `n`.

    Student's quantile from the normal one by the Cornish-Fisher series (Abramowitz and Stegun, 26.7.5), good
    to 1 % from 4 units on. For 2 or 3 units the interval is the range of the resamples.
    """
    z, nu = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), n - 1
    t = (
        z
        + (z**3 + z) / (4 * nu)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * nu**3)
    )
    return max(NormalDist().cdf(-math.sqrt(n / nu) * t), _ROUNDING)


def _rank(q: float, n: int) -> int:
    """Index, from 0, of the quantile among `n` sorted values."""
    return max(0, math.ceil(q * n - _ROUNDING) - 1)


def _checked(q: float) -> float:
    if not 0 < q <= 1:
        raise bad("quantile", "q", q, "above 0, at most 1")
    return q


def _vector(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or np.isnan(array).any():
        raise bad("statistics", name, values, "a list of numbers without NaN")
    return array
