from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.contracts import Difference
from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics import statistics
from edgespeech.metrics.statistics import (
    bootstrap_quantile,
    bootstrap_quantiles,
    bootstrap_ratio,
    bootstrap_share,
    paired_ratio_difference,
    quantile,
)

TRUE_RATE = 0.2


def utterances(
    rng: np.random.Generator, speakers: int, per_speaker: int, *, systems: int = 1
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Errors with shape `(systems, N)`, words `(N,)`, and speakers, who each have a rate of their own."""
    rates = np.repeat(rng.beta(8, 32, size=speakers), per_speaker)
    words = rng.integers(3, 15, size=rates.size)
    errors = rng.binomial(words, rates, size=(systems, rates.size))
    return errors, words, [f"s{index // per_speaker}" for index in range(rates.size)]


def coverage(speakers: int, per_speaker: int, *, by_speaker: bool, trials: int = 800) -> float:
    rng = np.random.default_rng(11)
    hits = 0
    for trial in range(trials):
        errors, words, names = utterances(rng, speakers, per_speaker)
        groups: Sequence[str | None] = names if by_speaker else [None] * len(names)
        interval = bootstrap_ratio(errors[0], words, groups, seed=trial, resamples=500)
        hits += interval.low <= TRUE_RATE <= interval.high
    return hits / trials


class TestCoverage:
    def test_independent_utterances(self) -> None:
        assert 0.93 <= coverage(150, 1, by_speaker=False) <= 0.97

    def test_utterances_that_share_a_speaker(self) -> None:
        assert 0.93 <= coverage(80, 8, by_speaker=True) <= 0.97

    def test_resampling_utterances_of_shared_speakers_is_too_narrow(self) -> None:
        assert coverage(80, 8, by_speaker=False, trials=200) < 0.9
        assert coverage(40, 40, by_speaker=False, trials=40) < 0.7

    def test_few_speakers_need_the_expanded_percentiles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expanded = coverage(8, 8, by_speaker=True)
        monkeypatch.setattr(statistics, "_tail", lambda n: 0.025)
        plain = coverage(8, 8, by_speaker=True)
        assert plain < expanded - 0.03
        assert 0.92 <= expanded <= 0.97

    def test_pooled_quantiles(self) -> None:
        rng = np.random.default_rng(5)
        # Half of the utterances are three times as slow: 0.5 exp(-2 t) + 0.5 exp(-t / 1.5) is 0.1 at the P90.
        hits, trials, truth = 0, 600, 2.4689
        assert 0.5 * math.exp(-2 * truth) + 0.5 * math.exp(-truth / 1.5) == pytest.approx(0.1, abs=1e-5)
        for trial in range(trials):
            values = rng.exponential(size=(100, 6)) * rng.choice([0.5, 1.5], size=(100, 1))
            interval = bootstrap_quantile(list(values), 0.9, [None] * 100, seed=trial, resamples=400)
            hits += interval.low <= truth <= interval.high
        assert 0.93 <= hits / trials <= 0.97

    def test_false_alarms_under_the_null(self) -> None:
        rng = np.random.default_rng(7)
        verdicts = []
        for trial in range(1000):
            errors, words, names = utterances(rng, 60, 5, systems=2)
            a, b = errors
            found = paired_ratio_difference(a, b, words, names, seed=trial, resamples=1000)
            verdicts.append(found.verdict)
        share = 1 - verdicts.count(Difference.TIE) / len(verdicts)
        assert 0.03 <= share <= 0.07
        assert 0.01 <= verdicts.count(Difference.BETTER) / len(verdicts) <= 0.04


class TestUnits:
    def test_speakers_where_all_are_known(self) -> None:
        interval = bootstrap_ratio([1, 0, 1, 0], [1, 1, 1, 1], ["a", "a", "b", "c"], seed=0)
        assert (interval.method, interval.n_units, interval.resamples) == ("speaker", 3, 2000)
        assert interval.describe() == "bootstrap over 3 speakers, 2000 resamples"

    @pytest.mark.parametrize("groups", [["a", "b", None, "c"], [None] * 4, ["a"] * 4])
    def test_utterances_otherwise(self, groups: list[str | None]) -> None:
        interval = bootstrap_ratio([1, 0, 1, 0], [1, 1, 1, 1], groups, seed=0)
        assert (interval.method, interval.n_units) == ("utterance", 4)

    def test_speakers_move_as_one(self) -> None:
        # Within each speaker the ratio is the same, so no resample of speakers can change it.
        assert _ends(bootstrap_ratio([1, 0, 0, 1], [1, 1, 1, 1], ["a", "a", "b", "b"], seed=0)) == (0.5, 0.5)

    def test_one_utterance_has_no_interval(self) -> None:
        with pytest.raises(EdgeSpeechError, match="utterances is 1, expected at least 2"):
            bootstrap_ratio([1], [1], [None], seed=0)


class TestRatio:
    def test_seeded(self) -> None:
        rng = np.random.default_rng(0)
        errors, words, names = utterances(rng, 30, 3)
        first = bootstrap_ratio(errors[0], words, names, seed=1)
        assert first == bootstrap_ratio(errors[0], words, names, seed=1)
        assert first != bootstrap_ratio(errors[0], words, names, seed=2)

    def test_weights_do_not_depend_on_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(0)
        errors, words, names = utterances(rng, 30, 3)
        whole = bootstrap_ratio(errors[0], words, names, seed=1)
        monkeypatch.setattr(statistics, "_BLOCK", 100)
        assert bootstrap_ratio(errors[0], words, names, seed=1) == whole

    def test_width_is_that_of_theory(self) -> None:
        rng = np.random.default_rng(2)
        values = rng.normal(10, 3, size=2000)
        interval = bootstrap_ratio(values, np.ones(2000), [None] * 2000, seed=0)
        assert interval.low == pytest.approx(values.mean() - 1.96 * values.std() / 2000**0.5, abs=0.02)
        assert interval.high == pytest.approx(values.mean() + 1.96 * values.std() / 2000**0.5, abs=0.02)

    def test_resamples_without_a_denominator_are_left_out(self) -> None:
        interval = bootstrap_ratio([1, 0, 0], [2, 0, 0], [None] * 3, seed=0)
        assert _ends(interval) == (0.5, 0.5)

    @pytest.mark.parametrize(
        ("top", "bottom", "message"),
        [
            ([1, math.nan], [1, 1], "numerators"),
            ([1, math.inf], [1, 1], "finite"),
            ([1, 1], [1, -1], "at least 0"),
            ([1, 1], [0, 0], "sum above 0"),
            ([1, 1, 1], [1, 1], "as many as utterances, 2"),
        ],
    )
    def test_bad_input(self, top: list[float], bottom: list[float], message: str) -> None:
        with pytest.raises(EdgeSpeechError, match=message):
            bootstrap_ratio(top, bottom, [None] * 2, seed=0)

    @pytest.mark.parametrize(
        ("n", "t"), [(4, 3.182), (5, 2.776), (10, 2.262), (31, 2.042), (101, 1.984), (100_000, 1.960)]
    )
    def test_expansion_follows_student(self, n: int, t: float) -> None:
        reach = -NormalDist().inv_cdf(statistics._tail(n)) * math.sqrt((n - 1) / n)
        assert reach == pytest.approx(t, rel=0.01)


class TestShare:
    def test_between_none_and_all(self) -> None:
        interval = bootstrap_share([True] * 30 + [False] * 70, [None] * 100, seed=0)
        assert interval.low == pytest.approx(0.21, abs=0.02)
        assert interval.high == pytest.approx(0.39, abs=0.02)

    def test_none_and_all_claim_no_certainty(self) -> None:
        none = bootstrap_share([False] * 100, [None] * 100, seed=0)
        assert none.low == 0
        assert none.high == pytest.approx(0.0362, abs=1e-4)  # Clopper and Pearson, 0 of 100
        every = bootstrap_share([True] * 100, [None] * 100, seed=0)
        assert every.low == pytest.approx(1 - none.high)
        assert every.high == 1


class TestQuantile:
    @pytest.mark.parametrize(
        ("q", "expected"), [(0.07, 7), (0.5, 50), (0.501, 51), (0.9, 90), (0.99, 99), (1.0, 100)]
    )
    def test_is_a_value_that_occurred(self, q: float, expected: float) -> None:
        assert quantile(np.arange(100, 0, -1), q) == expected

    @given(
        st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.sampled_from([0.01, 0.25, 0.5, 0.9, 1.0])
    )
    def test_agrees_with_numpy(self, values: list[float], q: float) -> None:
        assert quantile(values, q) == np.quantile(values, q, method="inverted_cdf")

    def test_unbounded_values_are_unbounded_never_nan(self) -> None:
        values = [1.0] * 8 + [math.inf] * 2
        assert quantile(values, 0.8) == 1.0
        assert quantile(values, 0.81) == math.inf
        low, high = _ends(bootstrap_quantile([[v] for v in values], 0.8, [None] * 10, seed=0))
        assert (low, high) == (1.0, math.inf)
        assert _ends(bootstrap_quantile([[math.inf]] * 3, 0.5, [None] * 3, seed=0)) == (math.inf, math.inf)

    @pytest.mark.parametrize(("values", "q"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1), ([math.nan], 0.5)])
    def test_bad_input(self, values: list[float], q: float) -> None:
        with pytest.raises(EdgeSpeechError):
            quantile(values, q)

    def test_bootstrap_agrees_with_the_slow_obvious_one(self) -> None:
        rng = np.random.default_rng(4)
        values = [rng.normal(size=size) for size in (3, 1, 5, 2, 4, 1)]
        names = ["a", "b", "a", "c", "b", "d"]
        units = statistics.Units.of(names)
        draws: list[list[float]] = [[], []]
        for weights in units.weights(9, 300):
            for row in weights.astype(int):
                drawn = np.concatenate(
                    [np.tile(item, row[unit]) for item, unit in zip(values, units.index, strict=True)]
                )
                for q, column in zip((0.5, 0.9), draws, strict=True):
                    column.append(quantile(drawn, q))
        expected = tuple(units.interval(np.array(column), 300) for column in draws)
        assert bootstrap_quantiles(values, (0.5, 0.9), names, seed=9, resamples=300) == expected

    def test_utterances_without_values_are_not_units(self) -> None:
        interval = bootstrap_quantile([[1.0], [], [2.0], [3.0]], 0.5, ["a", "b", "c", "d"], seed=0)
        assert interval.n_units == 3


class TestPaired:
    def test_identical_systems_tie_exactly(self) -> None:
        errors, words, names = utterances(np.random.default_rng(0), 20, 3)
        found = paired_ratio_difference(errors[0], errors[0], words, names, seed=0)
        assert (found.difference, *_ends(found.interval), found.verdict) == (0, 0, 0, Difference.TIE)

    def test_verdict_is_on_the_first_system(self) -> None:
        errors, words, names = utterances(np.random.default_rng(0), 20, 3)
        good, worse = errors[0], errors[0] + 1
        assert paired_ratio_difference(good, worse, words, names, seed=0).verdict is Difference.BETTER
        assert paired_ratio_difference(worse, good, words, names, seed=0).verdict is Difference.WORSE

    def test_pairing_is_sharper_than_two_intervals(self) -> None:
        rng = np.random.default_rng(1)
        errors, words, names = utterances(rng, 40, 10)
        other = errors[0] + rng.binomial(1, 0.05, size=words.size)
        found = paired_ratio_difference(errors[0], other, words, names, seed=0)
        apart = [bootstrap_ratio(e, words, names, seed=0) for e in (errors[0], other)]
        assert found.verdict is Difference.BETTER
        assert apart[0].high > apart[1].low

    def test_other_lengths_are_refused(self) -> None:
        with pytest.raises(EdgeSpeechError, match="numerators_b"):
            paired_ratio_difference([1, 2], [1], [1, 1], [None] * 2, seed=0)


def _ends(interval: statistics.Interval) -> tuple[float, float]:
    return interval.low, interval.high
