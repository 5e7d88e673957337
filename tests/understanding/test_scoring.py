"""Scores of understanding: counts, relative losses with intervals, and the threshold of what is out of scope."""

from __future__ import annotations

import numpy as np
import pytest

from edgespeech.corpora.requests import Request, annotated
from edgespeech.errors import EdgeSpeechError
from edgespeech.understanding.scoring import Answer, best_threshold, count, difference, relative_loss, scoped


def test_a_slot_counts_by_name_and_both_ends() -> None:
    requests = [annotated("to [city : new york] [day : monday]", "go")] * 2
    told = [
        Answer("go", 0.9, ("O", "B-city", "I-city", "O")),
        Answer("stay", 0.9, ("O", "B-city", "O", "B-day")),
    ]
    found = count(requests, told)

    assert found.accuracy == 0.5
    assert found.agreed.tolist() == [2, 2]
    assert found.marked.tolist() == [3, 4]
    assert found.f1 == pytest.approx(4 / 7)


def test_a_request_without_slots_counts_none() -> None:
    found = count([Request(("hello",), "greet", None)], [Answer("greet", 1.0, ())])

    assert found.marked.tolist() == [0]


def test_a_relative_loss_has_the_sign_and_size_of_the_loss() -> None:
    theirs, ours = np.ones(400), np.ones(400)
    ours[:100] = 0
    ones = np.ones(400)
    found = relative_loss([ours] * 3, [theirs] * 3, [ones] * 3, [ones] * 3, seed=1)

    assert found.value == pytest.approx(0.25)
    assert 0.2 < found.interval.low < 0.25 < found.interval.high < 0.31


def test_runs_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    flags = [(rng.random(500) < share).astype(float) for share in (0.9, 0.6, 0.75)]
    alike = [(rng.random(500) < 0.75).astype(float) for _ in range(3)]
    wide = difference(flags, alike, seed=1).interval
    narrow = difference(alike, alike, seed=1).interval

    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_difference_is_ours_minus_theirs() -> None:
    found = difference([np.array([1.0, 1, 1, 0])], [np.array([1.0, 0, 0, 0])], seed=1)

    assert found.value == pytest.approx(0.5)
    assert found.interval.low >= 0


def test_a_reference_of_nothing_and_sides_of_other_lengths_are_refused() -> None:
    one, none = np.ones(4), np.zeros(4)
    with pytest.raises(EdgeSpeechError, match="reference"):
        relative_loss([one], [none], [one], [one], seed=1)
    with pytest.raises(EdgeSpeechError, match="as many of both sides"):
        difference([one], [np.ones(5)], seed=1)


def test_the_threshold_sorts_out_what_is_unsure() -> None:
    requests = [Request(("a",), "x", None)] * 5 + [Request(("b",), "oos", None)] * 5
    told = [Answer("x", 0.8, ())] * 5 + [Answer("x", 0.3, ())] * 5
    threshold = best_threshold(requests, told)

    assert 0.3 < threshold <= 0.8
    assert [one.intent for one in scoped(told, threshold)] == ["x"] * 5 + ["oos"] * 5
