"""Speaker verification: equal error rate and detection cost over trials, with intervals over speakers and runs.

A trial compares a test utterance with an enrolled speaker and has a score: the higher, the more alike. Accepting from a
threshold on, a system misses some of the target trials (both are the same speaker) and accepts some of the others.
Sources: NIST, "2016 Speaker Recognition Evaluation Plan", section 3 (normalised detection cost); A. Martin et al., "The
DET curve in assessment of detection task performance", Eurospeech 1997.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import bad
from edgespeech.metrics.statistics import RESAMPLES, Estimate, Groups, Units

P_TARGET = 0.01
"""Prior probability of a target in the detection cost; a miss and a false acceptance cost the same."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Speakers:
    """Who is compared in each trial.

    Attributes:
        enrolled: the speaker of the enrolled voice.
        tested: the speaker of the test utterance.
    """

    enrolled: Sequence[str]
    tested: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.enrolled) != len(self.tested):
            raise bad(
                "verification", "tested", len(self.tested), f"as many as enrolled, {len(self.enrolled)}"
            )

    @property
    def targets(self) -> NDArray[np.bool_]:
        """Which trials are of one speaker, with shape `(N,)`."""
        return np.array([a == b for a, b in zip(self.enrolled, self.tested, strict=True)], dtype=bool)


@dataclass(frozen=True, slots=True)
class Curve:
    """Error rates at every threshold that scores distinguish, from the lowest up.

    Attributes:
        miss: share of target trials below the threshold, with shape `(K,)`, rising from 0 to 1.
        accepted: share of the other trials at or above it, with shape `(K,)`, falling from 1 to 0.
    """

    miss: Floats
    accepted: Floats

    def eer(self) -> float:
        """The equal error rate: where the curve crosses `miss == accepted`, with straight lines between thresholds."""
        gap = self.miss - self.accepted
        at = int(np.argmax(gap >= 0))
        share = -gap[at - 1] / (gap[at] - gap[at - 1])
        return float(self.miss[at - 1] + share * (self.miss[at] - self.miss[at - 1]))

    def min_dcf(self, p_target: float = P_TARGET) -> float:
        """The lowest normalised detection cost, `p_target` in (0, 1); 1 is a system that decides without listening.

        Raises:
            EdgeSpeechError: `p_target` out of range.
        """
        if not 0 < p_target < 1:
            raise bad("verification", "p_target", p_target, "above 0, below 1")
        costs = p_target * self.miss + (1 - p_target) * self.accepted
        return float(costs.min() / min(p_target, 1 - p_target))


class _Sorted:
    """Trials in the order of their scores, for curves with any weights."""

    def __init__(self, scores: Floats, targets: NDArray[np.bool_]) -> None:
        if scores.shape != targets.shape or not np.isfinite(scores).all():
            raise bad("verification", "scores", scores.shape, f"finite numbers with shape {targets.shape}")
        if targets.all() or not targets.any():
            raise bad("verification", "targets", int(targets.sum()), "trials of one speaker and of two")
        self._order = np.argsort(scores, kind="stable")
        ranked = scores[self._order]
        self._last = np.flatnonzero(np.append(ranked[1:] > ranked[:-1], True))
        self._is_target = targets[self._order]

    def curve(self, weights: Floats) -> Curve | None:
        """The curve with a weight for each trial, with shape `(N,)`; None without weight on one of both kinds."""
        ranked = weights[self._order]
        sums = [np.cumsum(np.where(self._is_target == kind, ranked, 0.0)) for kind in (True, False)]
        if min(total[-1] for total in sums) <= 0:
            return None
        shares = [np.concatenate([[0.0], total[self._last] / total[-1]]) for total in sums]
        return Curve(shares[0], 1 - shares[1])


def curve(scores: Floats, targets: NDArray[np.bool_]) -> Curve:
    """The error rates of a system.

    Args:
        scores: of the trials, with shape `(N,)`, finite.
        targets: which ones are of one speaker, with shape `(N,)`; some are, and some are not.

    Raises:
        EdgeSpeechError: shapes differ, a score is not finite, or one of both kinds of trials is missing.
    """
    found = _Sorted(scores, targets).curve(np.ones(len(scores)))
    assert found is not None, "both kinds are there, each with weight 1"
    return found


def equal_error_threshold(scores: Floats, targets: NDArray[np.bool_]) -> float:
    """A threshold at which about as large a share of targets is missed as of the others accepted.

    It is in the middle between two scores.

    Args:
        scores: as for `curve`.
        targets: as for `curve`.

    Raises:
        EdgeSpeechError: as `curve`.
    """
    found = curve(scores, targets)
    distinct = np.unique(scores)
    ends = np.concatenate([[distinct[0] - 1], distinct, [distinct[-1] + 1]])
    # Between these ends lie all thresholds of the curve: below all scores, between two of them, above all.
    middles = (ends[:-1] + ends[1:]) / 2
    return float(middles[np.abs(found.miss - found.accepted).argmin()])


@dataclass(frozen=True, slots=True)
class Verified:
    """Error rates of a system on a list of trials, a mean over its runs, and those in resamples of speakers and runs.

    Attributes:
        eer: equal error rate; `eer_draws` in the resamples, NaN where one has no two speakers.
        dcf: lowest detection cost; `dcf_draws` likewise.
        eer_draws: with shape `(resamples,)`.
        dcf_draws: with shape `(resamples,)`.
        units: the speakers.
    """

    eer: float
    dcf: float
    eer_draws: Floats
    dcf_draws: Floats
    units: Units

    def eer_estimate(self) -> Estimate:
        """The equal error rate with its interval."""
        return self._estimate(self.eer, self.eer_draws)

    def dcf_estimate(self) -> Estimate:
        """The lowest detection cost with its interval."""
        return self._estimate(self.dcf, self.dcf_draws)

    def eer_above(self, other: Verified, factor: float = 1.0) -> Estimate:
        """By how much the equal error rate is above `factor` times another system's on the same trials.

        Args:
            other: verified with the same seed and resamples, which makes the difference paired.
            factor: 0 or more.
        """
        return self._estimate(self.eer - factor * other.eer, self.eer_draws - factor * other.eer_draws)

    def _estimate(self, value: float, draws: Floats) -> Estimate:
        return Estimate(value, self.units.interval(draws[~np.isnan(draws)], len(draws)))


def verified(
    runs: Sequence[Floats],
    speakers: Speakers,
    *,
    seed: int,
    p_target: float = P_TARGET,
    resamples: int = RESAMPLES,
) -> Verified:
    """The error rates of a system, and of resamples of speakers and of its runs.

    A speaker that is drawn n times counts n times in target trials; a trial of two speakers counts as often as the
    product of both.

    Args:
        runs: the scores by each training run, all with shape `(N,)`.
        speakers: of the trials.
        seed: determines the speakers that are drawn, independently of the scores.
        p_target: see `Curve.min_dcf`.
        resamples: how many.

    Raises:
        EdgeSpeechError: there is no run, or as `curve` and `Curve.min_dcf`.
    """
    targets = speakers.targets
    names = sorted({*speakers.enrolled, *speakers.tested})
    number = {name: n for n, name in enumerate(names)}
    first = np.array([number[name] for name in speakers.enrolled])
    second = np.array([number[name] for name in speakers.tested])
    units = Units.of(names)

    def weigh(row: Floats) -> Floats:
        weights: Floats = np.where(targets, row[first], row[first] * row[second])
        return weights

    return _resampled(runs, targets, units, weigh, seed, p_target, resamples)


def detected(
    runs: Sequence[Floats],
    targets: NDArray[np.bool_],
    groups: Groups,
    *,
    seed: int,
    p_target: float = P_TARGET,
    resamples: int = RESAMPLES,
) -> Verified:
    """The error rates of a detector of an event in utterances, in place of trials of two speakers.

    Args:
        runs: the scores by each training run, all with shape `(N,)`.
        targets: which utterances are the event, with shape `(N,)`.
        groups: the speaker of each utterance, or None.
        seed: as for `verified`.
        p_target: likewise.
        resamples: likewise.

    Raises:
        EdgeSpeechError: as `verified`.
    """
    units = Units.of(groups)
    return _resampled(runs, targets, units, lambda row: row[units.index], seed, p_target, resamples)


def _resampled(
    runs: Sequence[Floats],
    targets: NDArray[np.bool_],
    units: Units,
    weigh: Callable[[Floats], Floats],
    seed: int,
    p_target: float,
    resamples: int,
) -> Verified:
    """Error rates in resamples; `weigh` gives the weight of each trial from how often each unit is drawn."""
    if not runs:
        raise bad("verification", "runs", 0, "at least one")
    ranked = [_Sorted(scores, targets) for scores in runs]
    rng = np.random.default_rng(seed + 1)
    draws = np.full((2, resamples), np.nan)
    column = 0
    for block in units.weights(seed, resamples):
        for row in block:
            weights = weigh(row)
            drawn = np.bincount(rng.integers(len(ranked), size=len(ranked)), minlength=len(ranked))
            found = [(ranked[run].curve(weights), count) for run, count in enumerate(drawn) if count]
            pairs = [(one, count) for one, count in found if one is not None]
            if pairs:
                each = [count for _, count in pairs]
                draws[0, column] = np.average([one.eer() for one, _ in pairs], weights=each)
                draws[1, column] = np.average([one.min_dcf(p_target) for one, _ in pairs], weights=each)
            column += 1
    whole = [curve(scores, targets) for scores in runs]
    return Verified(
        float(np.mean([one.eer() for one in whole])),
        float(np.mean([one.min_dcf(p_target) for one in whole])),
        draws[0],
        draws[1],
        units,
    )
