import math

import numpy as np
import pytest

from edgespeech.cloud.framing import wire_bytes
from edgespeech.cloud.link import load_profiles
from edgespeech.contracts import Event, EventKind, LinkProfile, RemoteTrace, Reply, Request
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness import runner
from edgespeech.harness.replay import replay
from edgespeech.records.rows import trace_from_row, trace_to_row
from edgespeech.records.trace import Chunk, Trace
from scripted import FakeClock, Scripted

LOOPBACK = load_profiles()["loopback"]
PERFECT = LinkProfile(name="perfect", rtt_s=0.1, jitter_s=0.0, up_bps=8e6, down_bps=8e6)
FINAL = Event(kind=EventKind.FINAL, text="done")


def device_trace(ready: list[float], compute: list[float], events: list[tuple[int, Event]]) -> Trace:
    return Trace(
        utterance_id="u",
        duration_s=ready[-1],
        chunks=tuple(Chunk(ready_s=r, compute_s=c) for r, c in zip(ready, compute, strict=True)),
        events=tuple(events),
    )


def test_a_recogniser_faster_than_real_time_has_no_backlog() -> None:
    trace = device_trace([0.1, 0.2, 0.2], [0.05, 0.05, 0.02], [(2, FINAL)])
    stamped = replay(trace, LOOPBACK, seed=0, cloud_speedup=1).events[0]
    # The finish waits for the second chunk: it starts at 0.25, not at 0.2.
    assert stamped.t_s == pytest.approx(0.27)
    assert stamped.parts == pytest.approx({"listening": 0.2, "backlog": 0.05, "compute": 0.02})


def test_a_recogniser_slower_than_real_time_builds_a_visible_backlog() -> None:
    trace = device_trace([0.1, 0.2, 0.3, 0.3], [0.2, 0.2, 0.2, 0.0], [(k, FINAL) for k in range(4)])
    times = [stamped.t_s for stamped in replay(trace, LOOPBACK, seed=0, cloud_speedup=1).events]
    assert times == pytest.approx([0.3, 0.5, 0.7, 0.7])


def test_a_result_two_seconds_after_the_end_of_the_audio_reads_so(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(runner, "perf_counter", clock)
    recogniser = Scripted(compute_s=[0.0] * 10 + [2.0], spend=clock.spend, final="late")
    trace = runner.run_utterance(
        recogniser, np.zeros(16000, np.float32), Request(utterance_id="u"), chunk_s=0.1
    )
    final = replay(trace, LOOPBACK, seed=0, cloud_speedup=1).last(EventKind.FINAL)
    assert final is not None
    assert final.t_s == pytest.approx(3.0)


def cloud_trace(server_s: tuple[float, ...] = (0.0, 1.0)) -> Trace:
    sent = [(k, Event(kind=EventKind.SENT, n_bytes=100)) for k in range(2)]
    return Trace(
        utterance_id="u",
        duration_s=0.2,
        chunks=tuple(Chunk(ready_s=r, compute_s=0.01) for r in (0.1, 0.2)),
        events=tuple(sent),
        remote=RemoteTrace(compute_s=server_s, replies=(Reply(after_message=1, n_bytes=50, event=FINAL),)),
    )


def test_a_reply_takes_the_link_up_the_server_and_the_link_down() -> None:
    timeline = replay(cloud_trace(), PERFECT, seed=0, cloud_speedup=10)
    up, down = wire_bytes(100, up=True), wire_bytes(50, up=False)
    expected = 0.21 + up * 8 / 8e6 + 0.05 + 1.0 / 10 + down * 8 / 8e6 + 0.05
    final = timeline.last(EventKind.FINAL)
    assert final is not None
    assert final.remote
    assert final.t_s == pytest.approx(expected)
    assert sum(final.parts.values()) == pytest.approx(final.t_s)
    assert timeline.up_bytes == 2 * up
    assert timeline.down_bytes == down
    assert timeline.text == "done"


def test_a_reply_may_leave_before_its_message_is_done() -> None:
    early = Reply(
        after_message=1, n_bytes=50, event=Event(kind=EventKind.ENDPOINT, audio_s=0.2), compute_s=0.25
    )
    trace = cloud_trace()
    assert trace.remote is not None
    with_early = Trace(
        utterance_id="u",
        duration_s=0.2,
        chunks=trace.chunks,
        events=trace.events,
        remote=RemoteTrace(compute_s=trace.remote.compute_s, replies=(early, *trace.remote.replies)),
    )
    timeline = replay(with_early, PERFECT, seed=0, cloud_speedup=10)
    endpoint, final = timeline.last(EventKind.ENDPOINT), timeline.last(EventKind.FINAL)
    assert endpoint is not None
    assert final is not None
    assert final.t_s - endpoint.t_s == pytest.approx((1.0 - 0.25) / 10)
    assert sum(endpoint.parts.values()) == pytest.approx(endpoint.t_s)
    assert (
        replay(trace_from_row("u", trace_to_row(with_early)), PERFECT, seed=0, cloud_speedup=10) == timeline
    )


def test_the_server_finishes_earlier_messages_first() -> None:
    timeline = replay(cloud_trace((0.5, 0.2)), PERFECT, seed=0, cloud_speedup=1)
    final = timeline.last(EventKind.FINAL)
    assert final is not None
    assert final.parts["queue"] == pytest.approx(0.5 - 0.1, abs=1e-6)
    assert sum(final.parts.values()) == pytest.approx(final.t_s)


def test_without_a_network_there_is_no_result_and_no_byte() -> None:
    timeline = replay(cloud_trace(), load_profiles()["offline"], seed=0, cloud_speedup=10)
    assert timeline.failure == "no result over offline"
    assert timeline.text == ""
    assert (timeline.up_bytes, timeline.down_bytes) == (0, 0)


@pytest.mark.parametrize("name", ["wifi", "lte", "3g", "car"])
def test_the_same_seed_gives_the_same_timeline(name: str) -> None:
    profile = load_profiles()[name]
    first, again = (replay(cloud_trace(), profile, seed=3, cloud_speedup=10) for _ in range(2))
    assert first == again
    assert all(math.isfinite(stamped.t_s) for stamped in first.events)


def test_a_device_needs_no_network() -> None:
    trace = device_trace([0.1, 0.1], [0.0, 0.0], [(1, FINAL)])
    timeline = replay(trace, load_profiles()["offline"], seed=0, cloud_speedup=10)
    assert timeline.failure is None
    assert timeline.text == "done"


def test_a_failed_trace_has_no_text_however_far_it_came() -> None:
    trace = device_trace([0.1], [0.0], [(0, FINAL)])
    failed = Trace(
        utterance_id="u", duration_s=0.1, chunks=trace.chunks, events=trace.events, failure="raised: x"
    )
    timeline = replay(failed, LOOPBACK, seed=0, cloud_speedup=1)
    assert timeline.text == ""
    assert timeline.failure == "raised: x"


@pytest.mark.parametrize("speedup", [0.0, -1.0, math.nan])
def test_a_speedup_must_be_positive(speedup: float) -> None:
    with pytest.raises(EdgeSpeechError, match="cloud_speedup"):
        replay(cloud_trace(), LOOPBACK, seed=0, cloud_speedup=speedup)


def test_a_stored_row_replays_to_the_same_timeline() -> None:
    trace = cloud_trace((0.000125, 0.25))
    restored = trace_from_row("u", trace_to_row(trace))
    assert restored == trace
    profile = load_profiles()["3g"]
    assert replay(restored, profile, seed=1, cloud_speedup=10) == replay(
        trace, profile, seed=1, cloud_speedup=10
    )
