"""F1 of detectors: known values, paired differences, and intervals over speakers and runs."""

from __future__ import annotations

import numpy as np
import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.detection import f1, f1_difference

TRUTH = np.array([True, True, True, True, False, False, False, False])
SPEAKERS = ["a", "a", "b", "b", "a", "b", "c", "c"]


def flags(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


def test_known_values() -> None:
    assert f1([TRUTH], TRUTH, SPEAKERS, seed=0).value == 1
    assert f1([~TRUTH], TRUTH, SPEAKERS, seed=0).value == 0
    # Three hits, one false, one missed.
    assert f1([flags("11101000")], TRUTH, SPEAKERS, seed=0).value == pytest.approx(6 / 8)
    # A mean over runs.
    assert f1([TRUTH, ~TRUTH], TRUTH, SPEAKERS, seed=0).value == 0.5


def test_a_detector_that_is_always_right_has_no_doubt() -> None:
    found = f1([TRUTH], TRUTH, [None] * 8, seed=0)
    assert (found.interval.low, found.interval.high) == (1, 1)


def test_intervals_hold_the_value_and_widen_with_fewer_speakers() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.5
    run = truth ^ (rng.random(400) < 0.1)
    many = f1([run], truth, [str(n) for n in range(400)], seed=0)
    few = f1([run], truth, [str(n % 8) for n in range(400)], seed=0)
    assert many.interval.low < many.value < many.interval.high
    assert few.interval.method == "speaker"
    assert many.interval.high - many.interval.low < 0.08


def test_runs_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.5
    good, bad = truth ^ (rng.random(400) < 0.05), truth ^ (rng.random(400) < 0.3)
    groups = [str(n) for n in range(400)]
    one, both = f1([good], truth, groups, seed=0), f1([good, bad], truth, groups, seed=0)
    assert both.interval.high - both.interval.low > 2 * (one.interval.high - one.interval.low)


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.5
    other = truth ^ (rng.random(300) < 0.2)
    better = other.copy()
    better[:150] = truth[:150]
    groups = [str(n) for n in range(300)]
    gain = f1_difference([better], [other], truth, groups, seed=0)
    assert gain.interval.low > 0
    assert gain.value == pytest.approx(
        f1([better], truth, groups, seed=0).value - f1([other], truth, groups, seed=0).value
    )
    same = f1_difference([other], [other], truth, groups, seed=0)
    assert (same.value, same.interval.low, same.interval.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("runs", "truth", "groups"),
    [
        ([], TRUTH, SPEAKERS),
        ([TRUTH[:3]], TRUTH, SPEAKERS),
        ([TRUTH], TRUTH, SPEAKERS[:3]),
        ([TRUTH], np.zeros(8, bool), SPEAKERS),
    ],
)
def test_what_has_no_f1(runs: list[np.ndarray], truth: np.ndarray, groups: list[str]) -> None:
    with pytest.raises(EdgeSpeechError, match="detection"):
        f1(runs, truth, groups, seed=0)
