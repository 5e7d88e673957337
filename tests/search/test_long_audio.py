"""Hours of audio: what a search holds stays bounded, and words and times are those of one search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgespeech.contracts import SAMPLE_RATE, Event, EventKind, Request, Samples
from edgespeech.core.labels import SPACE
from edgespeech.harness import runner
from edgespeech.harness.boundary import weight_of
from edgespeech.harness.runner import run_utterance
from edgespeech.metrics.latency import emission_delays
from edgespeech.records.trace import Stamped, Timeline, Trace, result_of
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.search.partials import PartialsStream
from edgespeech.search.segments import SEGMENT_S

FRAME_S = 0.04
PIECES = [f"{SPACE}{word}" for word in ("zero", "one", "two", "three", "four")]
CHUNK = SAMPLE_RATE // 5


class Counting(PartialsStream):
    """Hears a word where a sample is not 0, and holds the labels since its search started."""

    def __init__(self, *, restarts: bool, final_s: float | None = 0.8) -> None:
        super().__init__(PIECES, FRAME_S, final_s)
        self.restarts, self.longest, self.started = restarts, 0, 0
        self.labels: list[int] = []
        self.frames: list[int] = []
        self.fed = 0

    def _hear(self, samples: Samples) -> None:
        for at in np.flatnonzero(samples):
            self.labels.append(int(samples[at]))
            self.frames.append(int((self.fed + at) / SAMPLE_RATE / FRAME_S))
        self.fed += len(samples)
        self.longest = max(self.longest, len(self.labels))

    def _end(self) -> None:
        return None

    def _best(self) -> Hypothesis:
        return Hypothesis(tuple(self.labels), tuple(self.frames))

    def _restart(self) -> bool:
        if self.restarts:
            self.labels, self.frames, self.fed = [], [], 0
            self.started += 1
        return self.restarts


def speech(seconds: float, every_s: float, pause_every: int, pause_s: float) -> Samples:
    """A word so often, with a longer pause after so many."""
    samples = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    at, number = 0.5, 0
    while at < seconds - 1:
        samples[round(at * SAMPLE_RATE)] = 1 + number % 4
        number += 1
        at += every_s if number % pause_every else pause_s
    return samples


def run(stream: PartialsStream, samples: Samples) -> list[Event]:
    events: list[Event] = []
    for start in range(0, len(samples), CHUNK):
        events += stream.accept(samples[start : start + CHUNK])
    said: Sequence[Event] = stream.finish()
    return [*events, *said]


@pytest.mark.parametrize(
    ("every_s", "pause_every", "pause_s"), [(0.6, 10, 1.5), (0.6, 10**9, 0.0), (1.2, 1, 1.2)]
)
def test_words_of_long_audio_are_those_of_one_search(
    every_s: float, pause_every: int, pause_s: float
) -> None:
    samples = speech(420.0, every_s, pause_every, pause_s)
    one, several = Counting(restarts=False), Counting(restarts=True)
    whole, cut = run(one, samples), run(several, samples)
    assert several.started >= 1
    assert several.longest < 0.7 * one.longest
    assert len(cut) > len(whole) > 0
    one_result, result = result_of(whole), result_of(cut)
    assert one_result is not None
    assert result is not None
    assert result.text == one_result.text
    for a, b in zip(one_result.words, result.words, strict=True):
        assert a.text == b.text
        assert b.start_s == pytest.approx(a.start_s, abs=2 * FRAME_S)
        assert b.end_s == pytest.approx(a.end_s, abs=2 * FRAME_S)


def test_what_is_held_does_not_grow_with_the_audio() -> None:
    held, said = [], []
    for minutes in (5, 12):
        stream = Counting(restarts=True)
        events = run(stream, speech(60.0 * minutes, 0.8, 10, 1.5))
        held.append(stream.longest)
        said.append(weight_of(events) / minutes)
    assert held[1] <= 1.2 * held[0]
    assert said[1] <= 1.2 * said[0]


def test_the_words_of_all_segments_are_timed_and_stamped() -> None:
    events = run(Counting(restarts=True), speech(420.0, 0.6, 10, 1.5))
    result = result_of(events)
    assert result is not None
    stamped = tuple(
        Stamped(event=event, t_s=event.words[-1].end_s + 1 if event.words else 0.0, chunk=0)
        for event in events
    )
    trace = Trace(utterance_id="x", duration_s=420.0, chunks=(), events=())
    timeline = Timeline(trace=trace, network="loopback", events=stamped, up_bytes=0, down_bytes=0)
    delays, n_words = emission_delays(timeline)
    assert sum(event.kind is EventKind.SETTLED for event in events) >= 2
    assert n_words == len(delays) == len(result.words)
    assert all(0.9 < delay < 2.7 for delay in delays)
    assert timeline.text == result.text


def test_words_of_a_final_before_a_restart_are_not_repeated() -> None:
    samples = np.zeros(round(140 * SAMPLE_RATE), np.float32)
    samples[: 125 * SAMPLE_RATE : SAMPLE_RATE // 2] = 1.0
    events = run(Counting(restarts=True), samples)
    assert [event.kind for event in events[-3:]] == [EventKind.ENDPOINT, EventKind.FINAL, EventKind.SETTLED]
    result = result_of(events)
    assert result is not None
    assert result.text == events[-2].text


def test_a_recogniser_that_repeats_hours_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_HELD", 100_000)
    recogniser = Repeats()
    trace = run_utterance(recogniser, speech(60.0, 0.5, 10, 1.0), Request(utterance_id="x"), chunk_s=0.2)  # type: ignore[arg-type]  # it only opens
    assert trace.failure is not None
    assert "all hypotheses up to" in trace.failure
    assert weight_of([event for _, event in trace.events]) <= 100_000


class Repeats:
    def open(self, request: Request) -> PartialsStream:
        return Counting(restarts=False)


def test_without_a_pause_it_is_cut_all_the_same() -> None:
    stream = Counting(restarts=True, final_s=None)
    run(stream, speech(3.5 * SEGMENT_S, 0.5, 10**9, 0.0))
    assert stream.started >= 1
    assert stream.longest <= 3.2 * SEGMENT_S / 0.5


def test_a_short_utterance_is_one_search() -> None:
    stream = Counting(restarts=True)
    events = run(stream, speech(SEGMENT_S - 5, 0.4, 10, 2.0))
    assert stream.started == 0
    assert events[-1].kind is EventKind.FINAL


def test_a_long_pause_after_a_restart_ends_the_utterance() -> None:
    stream = Counting(restarts=True, final_s=3.0)
    samples = np.zeros(round(200 * SAMPLE_RATE), np.float32)
    samples[:: SAMPLE_RATE // 2] = 1.0
    samples[round((SEGMENT_S + 5) * SAMPLE_RATE) : round((SEGMENT_S + 15) * SAMPLE_RATE)] = 0
    kinds = [event.kind for event in run(stream, samples)]
    assert stream.started == 1
    assert kinds.count(EventKind.ENDPOINT) == 1
