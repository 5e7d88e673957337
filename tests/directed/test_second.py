"""A second stream of features with its own clock: made streams that run well, stall, run backward or end early."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgespeech.directed.score import DirectedScorer, SecondWeights
from edgespeech.directed.second import MOST_WAITING, Clock, Observation, SecondStream, State
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.perceptron import Classifier


def value(number: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array([number, 0], np.float32)


def made(times: list[float], **options: object) -> SecondStream:
    """A stream whose values are their own times."""
    stream = SecondStream("camera", 2, **options)  # type: ignore[arg-type]  # of the tests
    for at in times:
        stream.push(at, value(at))
    return stream


def seen(stream: SecondStream, at: float) -> tuple[State, float | None]:
    found = stream.at(at)
    return found.state, None if found.value is None else round(float(found.value[0]), 4)


def test_a_value_counts_from_its_own_time_on() -> None:
    stream = made([0.1, 0.2, 0.3])
    assert seen(stream, 0.05) == (State.NOTHING, None)
    assert seen(stream, 0.1) == (State.LIVE, 0.1)
    assert seen(stream, 0.29) == (State.LIVE, 0.2)
    assert stream.at(0.35).age_s == pytest.approx(0.05)


def test_a_stream_that_stalls_leaves_its_last_value_with_its_age() -> None:
    stream = made([0.1, 0.2], stalls_after_s=0.5)
    assert seen(stream, 0.7)[0] is State.LIVE
    assert seen(stream, 0.71) == (State.STALLED, 0.2)
    assert stream.at(2.2).age_s == pytest.approx(2.0)
    stream.push(2.3, value(2.3))  # it goes on
    assert seen(stream, 2.3)[0] is State.LIVE


@pytest.mark.parametrize("time", [0.2, 0.1, math.nan, math.inf])
def test_a_clock_that_runs_backward_or_stands_is_refused_and_the_values_stay(time: float) -> None:
    stream = made([0.1, 0.2])
    with pytest.raises(EdgeSpeechError, match="camera: time is"):
        stream.push(time, value(9))
    assert seen(stream, 0.3) == (State.LIVE, 0.2)
    stream.push(0.4, value(0.4))
    assert seen(stream, 0.4) == (State.LIVE, 0.4)


def test_a_stream_that_ends_early_leaves_its_last_value() -> None:
    stream = made([0.1, 0.2])
    stream.end()
    assert seen(stream, 0.15) == (State.LIVE, 0.1)  # the rest of it is still to come
    assert seen(stream, 0.25) == (State.ENDED, 0.2)
    assert stream.at(60).age_s == pytest.approx(59.8)
    with pytest.raises(EdgeSpeechError, match="after the end"):
        stream.push(0.3, value(0.3))
    empty = made([])
    empty.end()
    assert empty.at(1.0) == Observation(State.ENDED, None, math.inf)


def test_times_are_moved_to_the_audios_clock() -> None:
    clock = Clock.through((10.0, 0.0), (20.0, 10.5))  # it began 10 s earlier and runs 5 % slower
    assert clock.audio_s(10) == pytest.approx(0)
    assert clock.rate == pytest.approx(1.05)
    stream = made([10.0, 12.0], clock=clock)
    assert seen(stream, 2.09)[1] == pytest.approx(10)
    assert seen(stream, 2.11)[1] == pytest.approx(12)
    for wrong in ((10.0, 5.0), (30.0, 1.0)):
        with pytest.raises(EdgeSpeechError, match="second"):
            Clock.through((10.0, 0.0), wrong)


@pytest.mark.parametrize("wrong", [np.zeros(3, np.float32), np.array([np.nan, 0], np.float32)])
def test_values_of_another_kind(wrong: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    stream = made([0.1])
    with pytest.raises(EdgeSpeechError, match=r"camera: .*value at 0\.2 s"):
        stream.push(0.2, wrong)
    assert seen(stream, 1.0)[1] == pytest.approx(0.1)


def test_too_far_ahead_of_the_audio() -> None:
    stream = made([0.001 * n for n in range(1, MOST_WAITING + 1)])
    with pytest.raises(EdgeSpeechError, match="ahead of the audio"):
        stream.push(100.0, value(1))
    stream.at(5.0)
    stream.push(100.0, value(1))


def test_audio_that_runs_backward() -> None:
    stream = made([0.1])
    stream.at(0.5)
    with pytest.raises(EdgeSpeechError, match=r"time of the audio is 0\.4"):
        stream.at(0.4)


@pytest.mark.parametrize(("width", "stalls"), [(0, 0.5), (2, 0.0), (2, math.inf)])
def test_streams_that_cannot_be(width: int, stalls: float) -> None:
    with pytest.raises(EdgeSpeechError, match="camera"):
        SecondStream("camera", width, stalls_after_s=stalls)


def test_what_the_second_stream_adds_to_the_score() -> None:
    classifier, features = Classifier(9).eval(), np.zeros(9)
    weights = SecondWeights(np.array([10, 1], np.float32), bias=-1.0, keeps_s=2.0)
    stream = made([0.1, 0.2])
    scorer = DirectedScorer(classifier, stream, weights)
    alone = DirectedScorer(classifier).score(features, 0.0)
    assert alone.second is None
    assert scorer.score(features, 0.05).log_odds == alone.log_odds  # nothing is known yet
    assert scorer.score(features, 0.2).log_odds == pytest.approx(alone.log_odds + 1.0)
    stalled = scorer.score(features, 2.1)
    assert stalled.second is not None
    assert stalled.second.state is State.STALLED
    assert stalled.log_odds == pytest.approx(alone.log_odds + 1.0)  # the last value known
    assert scorer.score(features, 2.3).log_odds == alone.log_odds  # it is too old by now
    with pytest.raises(EdgeSpeechError, match="come together"):
        DirectedScorer(classifier, stream)
    with pytest.raises(EdgeSpeechError, match="camera: weights"):
        DirectedScorer(classifier, stream, SecondWeights(np.zeros(3, np.float32)))
    with pytest.raises(EdgeSpeechError, match="features"):
        scorer.score(np.zeros(8), 3.0)
