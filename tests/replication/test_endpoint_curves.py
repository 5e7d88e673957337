"""Sweeps: what each threshold would have done, checked against running it; and the interval of a difference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replication.endpointing.curves import Scores, chunk_end, median_difference, sweep

from edgespeech.contracts import Difference
from edgespeech.errors import EdgeSpeechError

CHUNK = 0.12


def utterance(scores: list[float], eos_s: float) -> Scores:
    return Scores(
        scores=np.array(scores),
        audio_s=np.arange(1, len(scores) + 1, dtype=np.float64) * 0.04 + 0.0075,
        eos_s=eos_s,
    )


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.floats(-3, 3), min_size=1, max_size=12), st.floats(0, 0.5)),
        min_size=1,
        max_size=5,
    )
)
def test_a_sweep_does_what_each_threshold_does(drawn: list[tuple[list[float], float]]) -> None:
    scored = [utterance(scores, eos_s) for scores, eos_s in drawn]
    found = sweep(scored, chunk_s=CHUNK)
    for row, one in enumerate(scored):
        for column, threshold in enumerate(found.thresholds):
            fired = [place for place, score in enumerate(one.scores) if score >= threshold]
            if not fired:
                assert math.isinf(found.latency_s[row, column])
                assert not found.cut[row, column]
                continue
            heard_s = one.audio_s[fired[0]]
            assert found.latency_s[row, column] == pytest.approx(
                math.ceil(heard_s / CHUNK) * CHUNK - one.eos_s
            )
            assert found.cut[row, column] == (heard_s < one.eos_s - 0.05)
    assert np.all(np.diff(found.cut_off_rate()) <= 0)


def test_the_threshold_for_a_rate_is_the_lowest_that_keeps_it() -> None:
    scored = [utterance([0.1 * n, 0.0, 1.0], eos_s=0.12) for n in range(10)]  # cut in frame 1 up to 0.1 n
    found = sweep(scored, chunk_s=CHUNK, thresholds=np.linspace(0.05, 0.95, 10))
    assert found.cut_off_rate() == pytest.approx(np.arange(9, -1, -1) / 10)
    assert found.at(0.3) == 6
    assert found.at(0.0) == 9
    assert found.latency(6, 0.5) == pytest.approx(0.24 - 0.12)


def test_a_rate_that_nothing_keeps_has_no_threshold() -> None:
    found = sweep([utterance([1.0], eos_s=1.0)], chunk_s=CHUNK)
    assert found.at(0.5) is None
    assert math.isinf(found.latency(0, 0.5))


def test_an_end_point_at_the_end_of_a_chunk_waits_for_nothing() -> None:
    assert chunk_end(np.array([0.12, 0.1200001, 0.36]), CHUNK) == pytest.approx([0.12, 0.24, 0.36])


def test_nothing_to_sweep_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="utterances"):
        sweep([], chunk_s=CHUNK)
    with pytest.raises(EdgeSpeechError, match="scores"):
        sweep([utterance([math.inf], 1.0)], chunk_s=CHUNK)


def silence(wait_s: list[float], thresholds: np.ndarray) -> list[Scores]:
    """Utterances whose score is seconds of silence; each pauses once for so long, then ends at 1 s."""
    made = []
    for pause_s in wait_s:
        scores = np.concatenate([np.arange(0, pause_s, 0.04), np.zeros(25), np.arange(0, 3, 0.04)])
        times = np.arange(1, len(scores) + 1, dtype=np.float64) * 0.04
        made.append(Scores(scores=scores, audio_s=times, eos_s=float(times[len(scores) - 75])))
    return made


def test_a_policy_that_is_earlier_at_equal_cut_offs_is_found_better() -> None:
    rng = np.random.default_rng(0)
    thresholds = np.arange(0.02, 2.0, 0.04)
    long_, short = (
        sweep(silence(list(rng.uniform(0, most, 120)), thresholds), chunk_s=0.04, thresholds=thresholds)
        for most in (1.2, 0.4)
    )
    groups = [None] * 120
    found = median_difference(short, long_, 0.03, groups, seed=0, resamples=200)
    assert found.verdict is Difference.BETTER
    assert found.difference == pytest.approx(
        short.latency(short.at(0.03) or 0, 0.5) - long_.latency(long_.at(0.03) or 0, 0.5)
    )
    assert found.interval.low <= found.difference <= found.interval.high < 0
    same = median_difference(short, short, 0.03, groups, seed=0, resamples=50)
    assert (same.difference, same.verdict) == (0.0, Difference.TIE)


def test_policies_that_never_keep_the_rate_are_not_compared() -> None:
    cut = sweep([utterance([1.0], eos_s=1.0)] * 2, chunk_s=CHUNK)
    with pytest.raises(EdgeSpeechError, match="cut-off rate"):
        median_difference(cut, cut, 0.03, [None, None], seed=0)
