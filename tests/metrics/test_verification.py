"""Equal error rate and detection cost: values worked by hand, a reference that tries all thresholds, and intervals."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.verification import Speakers, curve, detected, equal_error_threshold, verified

Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


def given(targets: list[float], others: list[float]) -> tuple[np.ndarray, Flags]:
    return np.array(targets + others), np.array([True] * len(targets) + [False] * len(others))


def brute(scores: np.ndarray, targets: Flags, p_target: float) -> tuple[float, float]:
    """EER and lowest cost from all thresholds, one by one."""
    points = []
    for threshold in [*np.unique(scores), np.inf]:
        accepted = scores >= threshold
        points.append((float((~accepted)[targets].mean()), float(accepted[~targets].mean())))
    cost = min(p_target * miss + (1 - p_target) * false for miss, false in points)
    for (miss, false), (more, less) in pairwise(points):
        if more >= less:
            # The point of the line between both on which the rates are equal.
            share = (false - miss) / (false - miss + more - less)
            return miss + share * (more - miss), cost / min(p_target, 1 - p_target)
    raise AssertionError("above all scores everything is missed")


def test_values_worked_by_hand() -> None:
    # From 0.5 on one of four targets is missed, and one of four others accepted.
    found = curve(*given([0.9, 0.8, 0.7, 0.2], [0.6, 0.3, 0.1, 0.0]))
    assert found.eer() == pytest.approx(0.25)
    # From 0.7 on nobody else is accepted, and a quarter is missed: that costs a quarter of accepting nobody.
    assert found.min_dcf(0.01) == pytest.approx(0.25)
    # With both as likely, from 0.7 on: 0.5 * 0.25 over 0.5.
    assert found.min_dcf(0.5) == pytest.approx(0.25)
    # Half of the targets missed or a third of the others accepted: the line between (0, 1/3) and (1/2, 0).
    between = curve(*given([1.0, 3.0], [0.0, 0.5, 2.0]))
    assert between.eer() == pytest.approx(1 / 3)


def test_perfect_useless_and_reversed_scores() -> None:
    assert curve(*given([2.0, 3.0], [0.0, 1.0])).eer() == 0
    assert curve(*given([2.0, 3.0], [0.0, 1.0])).min_dcf() == 0
    assert curve(*given([1.0, 1.0], [1.0, 1.0])).eer() == pytest.approx(0.5)
    assert curve(*given([1.0, 1.0], [1.0, 1.0])).min_dcf() == 1
    assert curve(*given([0.0, 1.0], [2.0, 3.0])).eer() == 1


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_trying_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(4, 60))
    targets = rng.random(count) < 0.4
    targets[:2] = True, False
    scores = np.round(rng.standard_normal(count) + targets, int(rng.integers(0, 3)))  # with ties
    eer, cost = brute(scores, targets, 0.05)
    found = curve(scores, targets)
    assert found.eer() == pytest.approx(eer)
    assert found.min_dcf(0.05) == pytest.approx(cost)
    threshold = equal_error_threshold(scores, targets)
    miss, false = (scores < threshold)[targets].mean(), (scores >= threshold)[~targets].mean()
    assert abs(miss - false) == pytest.approx(np.abs(found.miss - found.accepted).min())
    assert threshold not in scores


def material(speakers: int, spread: float, rng: np.random.Generator) -> tuple[np.ndarray, Speakers]:
    """Three trials of each speaker with itself, and one with every other; some speakers are hard to tell."""
    names = [f"s{n}" for n in range(speakers)]
    ease = rng.standard_normal(speakers) * spread
    pairs = [(a, b) for a in range(speakers) for b in range(speakers) for _ in range(3 if a == b else 1)]
    scores = [rng.standard_normal() + (2 + ease[a] if a == b else -ease[b] / 2) for a, b in pairs]
    return np.array(scores), Speakers([names[a] for a, _ in pairs], [names[b] for _, b in pairs])


def test_intervals_cover_the_true_rate() -> None:
    rng = np.random.default_rng(0)
    truth = curve(*_flat(material(300, 0.5, rng))).eer()
    held = 0
    for _ in range(40):
        scores, speakers = material(12, 0.5, rng)
        found = verified([scores], speakers, seed=1, resamples=200).eer_estimate()
        assert found.interval.method == "speaker"
        assert found.interval.n_units == 12
        held += found.interval.low <= truth <= found.interval.high
    assert held >= 33  # 38 are expected; 32 or fewer of 40 come in fewer than one of a thousand tries


def _flat(made: tuple[np.ndarray, Speakers]) -> tuple[np.ndarray, Flags]:
    scores, speakers = made
    return scores, speakers.targets


def test_runs_are_averaged_and_resampled() -> None:
    rng = np.random.default_rng(3)
    scores, speakers = material(20, 0.0, rng)
    worse = scores + rng.standard_normal(len(scores)) * 3
    each = [verified([one], speakers, seed=0, resamples=100) for one in (scores, worse)]
    both = verified([scores, worse], speakers, seed=0, resamples=100)
    assert both.eer == pytest.approx((each[0].eer + each[1].eer) / 2)
    assert both.dcf == pytest.approx((each[0].dcf + each[1].dcf) / 2)
    widths = [one.eer_estimate().interval for one in (*each, both)]
    assert widths[2].high - widths[2].low > max(one.high - one.low for one in widths[:2])


def test_differences_are_paired() -> None:
    scores, speakers = material(20, 0.5, np.random.default_rng(4))
    own = verified([scores], speakers, seed=0, resamples=200)
    same = verified([scores * 2 + 1], speakers, seed=0, resamples=200)
    difference = own.eer_above(same)
    assert (difference.value, difference.interval.low, difference.interval.high) == (0, 0, 0)
    half = own.eer_above(same, 1.5)
    assert half.value == pytest.approx(-0.5 * own.eer)
    assert half.interval.high < 0
    assert own.dcf_estimate().interval.low <= own.dcf <= own.dcf_estimate().interval.high


def test_a_detector_of_events_has_intervals_over_speakers() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random(200) < 0.5
    scores = rng.standard_normal(200) + 2 * truth
    speakers: list[str | None] = [f"s{n % 10}" for n in range(200)]
    found = detected([scores], truth, speakers, seed=0, resamples=200)
    assert found.eer == curve(scores, truth).eer()
    estimate = found.eer_estimate()
    assert (estimate.interval.method, estimate.interval.n_units) == ("speaker", 10)
    assert estimate.interval.low < found.eer < estimate.interval.high
    # Speakers of one kind alone: where only such are drawn there is no rate, and the interval does without.
    apart: list[str | None] = ["yes" if one else "no" for one in truth]
    both = detected([scores], truth, apart, seed=0, resamples=50)
    assert np.isnan(both.eer_draws).any()
    assert both.eer_estimate().interval.low == found.eer == both.eer_estimate().interval.high


@pytest.mark.parametrize(
    ("scores", "targets", "named"),
    [
        ([1.0, 2.0], [True, True], "targets"),
        ([1.0, 2.0], [False, False], "targets"),
        ([1.0, np.nan], [True, False], "scores"),
        ([1.0], [True, False], "scores"),
    ],
)
def test_trials_that_have_no_rates(scores: list[float], targets: list[bool], named: str) -> None:
    with pytest.raises(EdgeSpeechError, match=f"verification: {named}"):
        curve(np.array(scores), np.array(targets))


def test_what_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="tested is 1"):
        Speakers(["a", "b"], ["a"])
    with pytest.raises(EdgeSpeechError, match="runs is 0"):
        verified([], Speakers(["a", "a"], ["a", "b"]), seed=0)
    with pytest.raises(EdgeSpeechError, match="p_target is 1"):
        curve(*given([1.0], [0.0])).min_dcf(1.0)
