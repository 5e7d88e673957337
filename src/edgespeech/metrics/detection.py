"""Detectors of an event in utterances: F1 with an interval over speakers and training runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import bad
from edgespeech.metrics.statistics import RESAMPLES, Estimate, Groups, Units

Flags = NDArray[np.bool_]


def f1(found: Sequence[Flags], truth: Flags, groups: Groups, *, seed: int) -> Estimate:
    """The harmonic mean of precision and recall, a mean over training runs.

    Args:
        found: of each run, which utterances the detector took for the event, with shape `(N,)`.
        truth: which ones are, with shape `(N,)`.
        groups: the speaker of each utterance, or None.
        seed: of the resamples, each of which draws speakers and runs.

    Raises:
        EdgeSpeechError: lengths differ, there is no run, or no utterance is the event.
    """
    return _resampled([found], truth, groups, seed, lambda values: values[0])


def f1_difference(
    found: Sequence[Flags], others: Sequence[Flags], truth: Flags, groups: Groups, *, seed: int
) -> Estimate:
    """By how much the F1 of a detector is above another's, on the same utterances.

    Args:
        found: as for `f1`.
        others: of the other detector's runs, each drawn for itself.
        truth: as for `f1`.
        groups: as for `f1`.
        seed: as for `f1`.

    Raises:
        EdgeSpeechError: as `f1`.
    """
    return _resampled([found, others], truth, groups, seed, lambda values: values[0] - values[1])


def _resampled(
    sides: Sequence[Sequence[Flags]],
    truth: Flags,
    groups: Groups,
    seed: int,
    statistic: Callable[[Sequence[float]], float],
) -> Estimate:
    for runs in sides:
        if not runs or any(len(run) != len(truth) for run in runs) or len(groups) != len(truth):
            lengths = [[len(run) for run in runs] for runs in sides]
            raise bad("detection", "lengths", lengths, f"runs of {len(truth)} utterances each")
    if not truth.any():
        raise bad("detection", "truth", "no utterance", "at least one that is the event")
    units = Units.of(groups)
    counts = [_counts(runs, truth, units) for runs in sides]
    rng = np.random.default_rng(seed + 1)
    draws = []
    for weights in units.weights(seed, RESAMPLES):
        for row in weights:
            values = []
            for side in counts:
                drawn = rng.integers(len(side), size=len(side))
                values.append(float(np.mean([_f1(row @ side[run]) for run in drawn])))
            draws.append(statistic(values))
    whole = [float(np.mean([_f1(run.sum(0)) for run in side])) for side in counts]
    return Estimate(statistic(whole), units.interval(np.array(draws), RESAMPLES))


def _counts(runs: Sequence[Flags], truth: Flags, units: Units) -> list[NDArray[np.float64]]:
    """True positives, false positives and false negatives of each unit, with shape `(units, 3)`, by run."""
    made = []
    for run in runs:
        found = np.zeros((units.n, 3))
        np.add.at(found, units.index, np.stack([run & truth, run & ~truth, ~run & truth], axis=1))
        made.append(found)
    return made


def _f1(counts: NDArray[np.float64]) -> float:
    hit, false, missed = counts
    return float(2 * hit / max(2 * hit + false + missed, 1))
