import numpy as np
import pytest

from edgespeech.contracts import SAMPLE_RATE, Event, EventKind, RemoteTrace, Reply, Request, Samples
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness import runner
from edgespeech.harness.runner import chunks_of, run_utterance, warm_up
from scripted import FakeClock, Scripted, Troubled

REQUEST = Request(utterance_id="u")


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(runner, "perf_counter", fake)
    return fake


def test_compute_is_what_the_calls_took_and_nothing_else(clock: FakeClock) -> None:
    recogniser = Scripted(compute_s=[0.01, 0.02, 0.03, 0.04], spend=clock.spend)
    trace = run_utterance(recogniser, silence(0.3), REQUEST, chunk_s=0.1)
    assert [chunk.compute_s for chunk in trace.chunks] == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert [chunk.ready_s for chunk in trace.chunks] == pytest.approx([0.1, 0.2, 0.3, 0.3])
    assert trace.duration_s == pytest.approx(0.3)
    assert trace.failure is None


def test_the_last_partial_chunk_is_consumed() -> None:
    recogniser = Scripted()
    trace = run_utterance(recogniser, silence(0.25), REQUEST, chunk_s=0.1)
    assert recogniser.opened[0].pieces == [1600, 1600, 800]
    assert [chunk.ready_s for chunk in trace.chunks] == pytest.approx([0.1, 0.2, 0.25, 0.25])


@pytest.mark.parametrize("n_samples", [0, 1, 1599, 1600, 1601])
def test_every_sample_is_fed_once(n_samples: int) -> None:
    recogniser = Scripted()
    run_utterance(recogniser, np.zeros(n_samples, np.float32), REQUEST, chunk_s=0.1)
    assert sum(recogniser.opened[0].pieces) == n_samples


def test_events_have_the_index_of_their_call() -> None:
    partial = Event(kind=EventKind.PARTIAL, text="a")
    trace = run_utterance(Scripted(script={1: [partial]}, final="a b"), silence(0.3), REQUEST, chunk_s=0.1)
    assert trace.events == ((1, partial), (3, Event(kind=EventKind.FINAL, text="a b")))


def test_raising_is_a_recorded_failure_with_earlier_events() -> None:
    trace = run_utterance(Troubled(trouble="raises", after_s=0.2), silence(0.5), REQUEST, chunk_s=0.1)
    assert trace.failure is not None
    assert "ValueError: the model is broken" in trace.failure
    assert len(trace.chunks) == 2


def test_never_finalising_is_a_recorded_failure() -> None:
    assert (
        run_utterance(Scripted(final=None), silence(0.2), REQUEST, chunk_s=0.1).failure == "never finalised"
    )


def test_a_far_side_must_account_for_every_message() -> None:
    sent = Event(kind=EventKind.SENT, n_bytes=10)
    final = Reply(after_message=0, n_bytes=5, event=Event(kind=EventKind.FINAL, text="x"))
    whole = RemoteTrace(compute_s=(0.1,), replies=(final,))
    short = RemoteTrace(compute_s=(), replies=(final,))
    for remote, failure in [
        (whole, None),
        (short, "raised: the far side accounts for 0 messages, 1 were sent"),
    ]:
        recogniser = Scripted(script={0: [sent]}, final=None, remote_trace=remote)
        assert run_utterance(recogniser, silence(0.1), REQUEST, chunk_s=0.1).failure == failure


def test_a_chunk_below_one_sample_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="chunk_s is 1e-06"):
        list(chunks_of(silence(0.1), 1e-6))


def test_warm_up_is_timed_and_leaves_failures_to_the_utterances(clock: FakeClock) -> None:
    assert warm_up(Scripted(compute_s=[0.5], spend=clock.spend), chunk_s=0.1) == pytest.approx(0.5)
    assert warm_up(Troubled(trouble="raises", after_s=0.1), chunk_s=0.1) == 0
