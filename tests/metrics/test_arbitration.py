"""Whose result counts, event by event, and the same through replay, rows and figures."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.cloud.link import load_profiles
from edgespeech.contracts import Event, EventKind, LinkProfile, RemoteTrace, Reply, Word
from edgespeech.harness.replay import replay
from edgespeech.metrics.arbitration import Answer, arbitrate
from edgespeech.metrics.registry import Scored, measure
from edgespeech.metrics.upl import upl_s, was_revised
from edgespeech.records.rows import trace_from_row, trace_to_row
from edgespeech.records.trace import Chunk, Stamped, Trace

SENT, RESET, SPECULATIVE, ENDPOINT, FINAL = (
    EventKind.SENT,
    EventKind.RESET,
    EventKind.SPECULATIVE,
    EventKind.ENDPOINT,
    EventKind.FINAL,
)
ANSWER_DEADLINE_S = 0.5


def at(t_s: float, kind: EventKind, text: str = "") -> Stamped:
    return Stamped(event=Event(kind=kind, text=text, n_bytes=kind is SENT), t_s=t_s, chunk=0)


def answer(message: int, t_s: float, text: str) -> Answer:
    return Answer(message, dataclasses.replace(at(t_s, FINAL, text), remote=True))


CONFIRMED = [
    at(1.0, SENT),
    at(1.0, SPECULATIVE, "two late"),
    at(1.2, ENDPOINT),
    at(1.2, FINAL, "two late"),
]
REVISED = [
    *CONFIRMED[:2],
    at(1.1, RESET),
    at(1.4, SENT),
    at(1.4, ENDPOINT),
    at(1.4, FINAL, "two late please"),
]


def told(device: list[Stamped], *answers: Answer) -> tuple[list[tuple[float, str, str]], str | None]:
    events, note = arbitrate(device, answers, ANSWER_DEADLINE_S)
    assert [one.t_s for one in events] == sorted(one.t_s for one in events)
    letters = {SPECULATIVE: "S", RESET: "R", ENDPOINT: "E", FINAL: "F"}
    shown = [
        (one.t_s, letters[one.event.kind] + ("*" if one.remote else ""), one.event.text)
        for one in events
        if one.event.kind is not SENT
    ]
    return shown, note


def test_an_answer_before_the_end_point_is_what_the_final_says() -> None:
    assert told(CONFIRMED, answer(0, 1.1, "two lattes")) == (
        [(1.0, "S", "two late"), (1.1, "S*", "two lattes"), (1.2, "E", ""), (1.2, "F*", "two lattes")],
        None,
    )


def test_an_answer_that_agrees_changes_only_the_source() -> None:
    assert told(CONFIRMED, answer(0, 1.1, "two late")) == (
        [(1.0, "S", "two late"), (1.2, "E", ""), (1.2, "F*", "two late")],
        None,
    )


def test_an_answer_after_the_final_replaces_it() -> None:
    shown, note = told(CONFIRMED, answer(0, 1.7, "two lattes"))
    assert shown[-2:] == [(1.2, "F", "two late"), (1.7, "F*", "two lattes")]
    assert note is None


@pytest.mark.parametrize(
    ("answers", "note"),
    [
        ([], "no answer came"),
        (
            [answer(0, 1.71, "two lattes")],
            "the answer came 0.510 s after the device's result, expected 0.5 s at most",
        ),
    ],
)
def test_the_devices_result_stands(answers: list[Answer], note: str) -> None:
    shown, why = told(CONFIRMED, *answers)
    assert shown[-1] == (1.2, "F", "two late")
    assert why == note


def test_nothing_was_sent() -> None:
    assert told([at(1.2, FINAL, "")]) == ([(1.2, "F", "")], "nothing was sent")


def test_answers_to_what_was_withdrawn_have_no_effect() -> None:
    device = [(1.0, "S", "two late"), (1.1, "R", ""), (1.4, "E", ""), (1.4, "F", "two late please")]
    for came in (1.2, 1.5):
        assert told(REVISED, answer(0, came, "two lattes")) == (device, "no answer came")
    shown, note = told(REVISED, answer(0, 1.05, "two lattes"), answer(1, 1.6, "two lattes please"))
    assert note is None
    assert [text for _, _, text in shown] == [
        "two late", "two lattes", "", "", "two late please", "two lattes please",
    ]  # fmt: skip


def test_answers_out_of_order() -> None:
    shown, note = told(REVISED, answer(1, 1.6, "two lattes please"), answer(0, 1.7, "two lattes"))
    assert shown[-1] == (1.6, "F*", "two lattes please")
    assert note is None


def test_a_second_final_of_the_same_words_keeps_the_answer() -> None:
    device = [*CONFIRMED, at(3.0, FINAL, "two late")]
    for came in (1.1, 1.5):
        shown, note = told(device, answer(0, came, "two lattes"))
        assert shown[-1] == (3.0, "F*", "two lattes")
        assert note is None


def test_a_further_segment_is_settled_by_its_own_answer() -> None:
    device = [
        *CONFIRMED,
        at(2.0, SENT),
        at(2.0, SPECULATIVE, "two late to go"),
        at(2.2, FINAL, "two late to go"),
    ]
    first = answer(0, 1.1, "two lattes")
    shown, note = told(device, first)
    assert shown[-1] == (2.2, "F", "two late to go")
    assert note == "no answer came"
    shown, note = told(device, first, answer(1, 2.1, "two lattes to go"))
    assert shown[-1] == (2.2, "F*", "two lattes to go")


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.floats(0, 4), st.sampled_from(["a", "b"])), max_size=6),
    st.sampled_from([CONFIRMED, REVISED]),
)
def test_whatever_comes_there_is_a_result_in_time(
    came: list[tuple[int, float, str]], device: list[Stamped]
) -> None:
    answers = [answer(*one) for one in came if one[1] >= 0.5]
    events, note = arbitrate(device, answers, ANSWER_DEADLINE_S)
    finals = [one for one in events if one.event.kind is FINAL]
    own = device[-1]
    assert finals[0].t_s == own.t_s
    assert finals[-1].t_s <= own.t_s + ANSWER_DEADLINE_S
    assert (note is None) == finals[-1].remote
    if note is not None:
        assert finals[-1].event.text == own.event.text
    assert [one for one in events if one.event.kind is SENT] == [
        one for one in device if one.event.kind is SENT
    ]


def hybrid_trace(answer_deadline_s: float | None = ANSWER_DEADLINE_S) -> Trace:
    word = Word(text="lattes", start_s=0.4, end_s=0.8)
    final = Event(kind=FINAL, text="lattes", words=(word,))
    return Trace(
        utterance_id="u",
        duration_s=2.0,
        chunks=tuple(Chunk(ready_s=ready_s, compute_s=0.0) for ready_s in (1.0, 1.2)),
        events=(
            (0, Event(kind=SENT, n_bytes=100)),
            (0, Event(kind=SPECULATIVE, text="late")),
            (1, Event(kind=ENDPOINT, audio_s=1.2)),
            (1, Event(kind=FINAL, text="late")),
        ),
        remote=RemoteTrace(
            compute_s=(0.1,),
            replies=(Reply(after_message=0, n_bytes=50, event=final),),
            answer_deadline_s=answer_deadline_s,
            notes=("revision 0 was answered twice",),
        ),
    )


def link(rtt_s: float) -> LinkProfile:
    return LinkProfile(name="made", rtt_s=rtt_s, jitter_s=0.0, up_bps=1e9, down_bps=1e9)


@pytest.mark.parametrize(
    ("rtt_s", "text", "upl", "note"),
    [
        (0.05, "lattes", 0.15, None),
        (0.3, "lattes", 0.4, None),
        (2.0, "late", 0.0, "the answer came 1.900 s after the device's result, expected 0.5 s at most"),
    ],
)
def test_a_replay_settles_by_the_network(rtt_s: float, text: str, upl: float, note: str | None) -> None:
    timeline = replay(hybrid_trace(), link(rtt_s), seed=0, cloud_speedup=1.0)
    assert (timeline.text, timeline.note, timeline.failure) == (text, note, None)
    assert upl_s(timeline, 1.0) == pytest.approx(upl, abs=1e-4)
    assert was_revised(timeline) is (text == "lattes")
    final = timeline.last(FINAL)
    assert final is not None
    assert final.remote == (note is None)
    assert [word.text for word in final.event.words] == (["lattes"] if final.remote else [])
    assert sum(final.parts.values()) == pytest.approx(final.t_s)


def test_without_a_network_the_devices_result_stands() -> None:
    timeline = replay(hybrid_trace(), load_profiles()["offline"], seed=0, cloud_speedup=1.0)
    assert (timeline.text, timeline.note, timeline.failure) == ("late", "there is no network", None)
    assert (timeline.up_bytes, timeline.down_bytes) == (0, 0)


def test_without_a_deadline_times_decide() -> None:
    timeline = replay(hybrid_trace(None), link(2.0), seed=0, cloud_speedup=1.0)
    assert (timeline.text, timeline.note) == ("lattes", None)


@pytest.mark.parametrize("answer_deadline_s", [None, 0.5])
def test_a_row_keeps_it(answer_deadline_s: float | None) -> None:
    trace = hybrid_trace(answer_deadline_s)
    assert trace_from_row("u", trace_to_row(trace)) == trace


def test_the_share_of_rescored_utterances() -> None:
    def scored(rtt_s: float, answer_deadline_s: float | None = ANSWER_DEADLINE_S) -> Scored:
        timeline = replay(hybrid_trace(answer_deadline_s), link(rtt_s), seed=0, cloud_speedup=1.0)
        return Scored(
            duration_s=2.0, reference="lattes", hypothesis=timeline.text, eos_s=1.0, timeline=timeline
        )

    figure = measure([scored(0.05), scored(0.3), scored(2.0), scored(3.0)], seed=0)["rescored"]
    assert (figure.value, figure.n) == (0.5, 4)
    assert "rescored" not in measure([scored(0.05, None)], seed=0)
    assert not math.isnan(figure.value)
