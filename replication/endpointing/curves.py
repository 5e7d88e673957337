"""Trade-off of a policy's thresholds: early cut-offs against latency, over a set of utterances.

Each utterance is decoded once; a policy's scores over its frames determine the result of every threshold. A cut-off is
as in `edgespeech.metrics.latency`: the audio received at the end-point ends 50 ms or more before the end of speech.
Latency is the end-point's time, at the end of its chunk of audio, minus the end of speech; a missing end-point has
infinite latency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgespeech.contracts import Difference
from edgespeech.errors import bad
from edgespeech.metrics.latency import CUT_OFF_S
from edgespeech.metrics.statistics import Groups, PairedDifference, Units, quantile

Floats = NDArray[np.float64]

STEPS = 200
"""Maximum number of thresholds in a sweep."""
QUANTILES = {"ep50_s": 0.5, "ep90_s": 0.9, "ep99_s": 0.99}
MOST_CUT = 0.2
"""Maximum cut-off rate of a curve."""
_CURVE = 60
"""Maximum number of points of a curve."""
Point = dict[str, float | None]
"""The result of a threshold. Infinite values are None, since JSON has no infinity."""
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """One utterance with the scores of one policy.

    Attributes:
        scores: after each frame, with shape `(T,)`, none of them NaN.
        audio_s: received by then, with shape `(T,)`.
        eos_s: end of speech.
    """

    scores: Floats
    audio_s: Floats
    eos_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """The result of every threshold on every utterance.

    Attributes:
        thresholds: increasing, with shape `(K,)`.
        latency_s: with shape `(N, K)`; infinite if it never fires.
        cut: whether the user is cut off, with shape `(N, K)`.
    """

    thresholds: Floats
    latency_s: Floats
    cut: NDArray[np.bool_]

    def cut_off_rate(self) -> Floats:
        """Share of utterances that are cut off, for each threshold, non-increasing."""
        return np.asarray(self.cut.mean(axis=0))

    def at(self, rate: float) -> int | None:
        """The lowest threshold that cuts off at most this share; None if there is none."""
        kept = np.flatnonzero(self.cut_off_rate() <= rate + _ROUNDING)
        return int(kept[0]) if len(kept) else None

    def latency(self, place: int, q: float) -> float:
        """A quantile of the latency at a threshold, over utterances that are not cut off; infinite without any."""
        values = self.latency_s[~self.cut[:, place], place]
        return quantile(values, q) if len(values) else math.inf


def sweep(scored: Sequence[Scores], *, chunk_s: float, thresholds: Floats | None = None) -> Sweep:
    """Try all thresholds.

    Args:
        scored: the utterances.
        chunk_s: duration of a chunk of audio.
        thresholds: increasing; None for quantiles of the utterances' scores.

    Raises:
        EdgeSpeechError: there are no utterances, or no finite score.
    """
    if not scored:
        raise bad("end-pointing", "utterances", 0, "at least one")
    highest = [np.maximum.accumulate(one.scores) for one in scored]
    if thresholds is None:
        reached = np.unique(np.concatenate([one[np.isfinite(one)] for one in highest]))
        if not len(reached):
            raise bad("end-pointing", "scores", "none", "finite scores")
        places = np.unique(np.linspace(0, len(reached) - 1, STEPS).round().astype(int))
        thresholds = reached[places]
    latency_s = np.full((len(scored), len(thresholds)), np.inf)
    cut = np.zeros(latency_s.shape, dtype=bool)
    for row, (one, high) in enumerate(zip(scored, highest, strict=True)):
        first = np.searchsorted(high, thresholds)
        fired = first < len(high)
        heard_s = one.audio_s[first[fired]]
        latency_s[row, fired] = chunk_end(heard_s, chunk_s) - one.eos_s
        cut[row, fired] = heard_s < one.eos_s - CUT_OFF_S
    return Sweep(thresholds=thresholds, latency_s=latency_s, cut=cut)


def point(found: Sweep, place: int) -> Point:
    """The result of a threshold: `threshold`, `cut_off_rate`, and `ep50_s`, `ep90_s`, `ep99_s`."""
    latencies = {name: found.latency(place, q) for name, q in QUANTILES.items()}
    return {
        "threshold": float(found.thresholds[place]),
        "cut_off_rate": float(found.cut_off_rate()[place]),
        **{name: value if math.isfinite(value) else None for name, value in latencies.items()},
    }


def curve(found: Sweep) -> list[Point]:
    """Points of a sweep, one for each of its cut-off rates up to 20 %, at most 60."""
    rates = found.cut_off_rate()
    first = [place for place in range(len(rates)) if not place or rates[place] != rates[place - 1]]
    kept = [place for place in first if rates[place] <= MOST_CUT]
    numbers = np.unique(np.linspace(0, len(kept) - 1, min(_CURVE, len(kept))).round().astype(int))
    return [point(found, kept[number]) for number in numbers.tolist()]


def chunk_end(audio_s: Floats, chunk_s: float) -> Floats:
    """The end of the chunk that contains the end of this audio."""
    return np.asarray(np.ceil(audio_s / chunk_s - _ROUNDING) * chunk_s)


def median_difference(
    a: Sweep, b: Sweep, rate: float, groups: Groups, *, seed: int, resamples: int = 2000
) -> PairedDifference:
    """The difference of A's and B's median end-points on the same utterances, each at its threshold for a rate.

    The thresholds are chosen again in every resample, so the interval includes the uncertainty of their choice.

    Args:
        a: the one policy.
        b: the other.
        rate: of early cut-offs, at most.
        groups: per utterance its speaker, or None.
        seed: of the resamples.
        resamples: how many.

    Raises:
        EdgeSpeechError: one of them exceeds the rate at every threshold, or there are fewer than 2 utterances.
    """
    medians = [_median(one, np.ones((1, len(groups))), rate)[0] for one in (a, b)]
    if not all(map(math.isfinite, medians)):
        raise bad("end-pointing", "cut-off rate", rate, "a rate that both policies keep at some threshold")
    units = Units.of(groups)
    draws = []
    for weights in units.weights(seed, resamples):
        each = weights[:, units.index]
        with np.errstate(invalid="ignore"):
            draws.append(_median(a, each, rate) - _median(b, each, rate))
    drawn = np.concatenate(draws)
    interval = units.interval(drawn[~np.isnan(drawn)], resamples)
    verdict = Difference.TIE
    if interval.high < 0:
        verdict = Difference.BETTER
    elif interval.low > 0:
        verdict = Difference.WORSE
    return PairedDifference(medians[0] - medians[1], interval, verdict)


def _median(one: Sweep, weights: Floats, rate: float) -> Floats:
    """The median latency at the threshold for a rate, of every resample; infinite if no threshold satisfies it.

    Args:
        one: the policy.
        weights: how often each utterance was drawn, with shape `(B, N)`.
        rate: of early cut-offs, at most.
    """
    kept = weights @ one.cut / weights.sum(axis=1, keepdims=True) <= rate + _ROUNDING  # (B, K)
    places = np.where(kept.any(axis=1), kept.argmax(axis=1), -1)
    found = np.full(len(weights), np.inf)
    for place in np.unique(places[places >= 0]):
        rows = np.flatnonzero(places == place)
        order = np.argsort(one.latency_s[:, place], kind="stable")
        order = order[~one.cut[order, place]]
        reached = weights[np.ix_(rows, order)].cumsum(axis=1)
        total = reached[:, -1:] if len(order) else np.zeros((len(rows), 1))
        for row, sums, all_ in zip(rows, reached, total[:, 0], strict=True):
            if all_ > 0:
                found[row] = one.latency_s[order[np.searchsorted(sums, all_ / 2)], place]
    return found
