"""A hybrid's stream: what it says and sends, live over loopback and replayed, with servers good and bad."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict

import pytest
from websockets.sync.server import ServerConnection

from cloud.fakes import BACKEND, DETECTOR, importable
from edgespeech.cloud.link import load_profiles
from edgespeech.cloud.process import ServerProcess
from edgespeech.cloud.protocol import Rescored, encode
from edgespeech.contracts import EventKind, LinkProfile
from edgespeech.harness.live import LiveRun, run_live
from edgespeech.harness.replay import replay
from edgespeech.harness.runner import run_utterance
from edgespeech.lattice.codec import MAX_BYTES
from edgespeech.records.trace import Trace
from helpers_hybrid import CHUNK_S, REQUEST, Script, TinyHybrid, answers, kinds, noise, read, server_of

LOOPBACK = load_profiles()["loopback"]


class Frames(TypedDict):
    """In which frames the end-pointers fire."""

    early: tuple[int, ...]
    final: tuple[int, ...]


CONFIRMED, REVISED, TWICE = 1, 0, 2
"""Seeds of noise after which the end-pointers agree, disagree, and disagree more than once."""
SOON, NEVER = Frames(early=(14,), final=(19,)), Frames(early=(), final=())
LATER = Frames(early=(8, 25), final=(14, 33))


def traced(hybrid: TinyHybrid, seed: int = CONFIRMED) -> Trace:
    return run_utterance(hybrid, noise(1.5, seed), REQUEST, chunk_s=CHUNK_S)


def shape(trace: Trace) -> str:
    return kinds([event.kind for _, event in trace.events])


def sent_bytes(trace: Trace) -> tuple[int, ...]:
    return tuple(event.n_bytes for _, event in trace.events if event.kind is EventKind.SENT)


def reply_bytes(trace: Trace) -> tuple[int, ...]:
    assert trace.remote is not None
    return tuple(reply.n_bytes for reply in trace.remote.replies)


def live(hybrid: TinyHybrid, seed: int = CONFIRMED) -> LiveRun:
    return run_live(hybrid, noise(1.5, seed), REQUEST, chunk_s=CHUNK_S)


@pytest.mark.parametrize(
    ("seed", "frames", "events"),
    [
        (CONFIRMED, SOON, "sSEF"),
        (REVISED, SOON, "sSREsF"),
        (CONFIRMED, NEVER, "sF"),
        (TWICE, LATER, "sSREsFsSREsF"),
    ],
)
def test_what_it_says_and_sends(seed: int, frames: Frames, events: str) -> None:
    with server_of(answers()) as url:
        trace = traced(TinyHybrid(url, **frames), seed)
    assert trace.failure is None
    assert shape(trace) == events
    assert trace.remote is not None
    assert trace.remote.notes == ()
    assert len(trace.remote.replies) == events.count("s")
    *early, last = [reply.event.kind for reply in trace.remote.replies]
    assert set(early) <= {EventKind.SPECULATIVE}
    assert last is EventKind.FINAL
    assert all(0 < size < 400 for size in sent_bytes(trace))


def test_the_device_alone_says_the_same() -> None:
    alone = traced(TinyHybrid(None, **LATER), TWICE)
    assert shape(alone) == "SREFSREF"
    assert alone.remote is not None
    assert (alone.remote.compute_s, alone.remote.notes) == ((), ("server: cannot connect: a test",))
    with server_of(answers()) as url:
        both = traced(TinyHybrid(url, **LATER), TWICE)
    own = [event for _, event in both.events if event.kind is not EventKind.SENT]
    assert own == [event for _, event in alone.events]
    timeline = replay(alone, LOOPBACK, seed=0, cloud_speedup=1.0)
    assert (timeline.up_bytes, timeline.note) == (0, "nothing was sent")


def test_words_of_an_answer_have_the_times_of_the_lattice() -> None:
    with server_of(answers(5)) as url:
        trace = traced(TinyHybrid(url), REVISED)
    assert trace.remote is not None
    for reply in trace.remote.replies:
        assert [word.text for word in reply.event.words] == reply.event.text.split()
        assert all(0 <= word.start_s <= word.end_s <= 1.5 for word in reply.event.words)


@pytest.mark.parametrize(
    ("seed", "frames"),
    [(CONFIRMED, SOON), (REVISED, SOON), (TWICE, LATER), (CONFIRMED, NEVER)],
)
def test_a_live_run_is_what_is_simulated(seed: int, frames: Frames) -> None:
    with server_of(answers()) as url:
        hybrid = TinyHybrid(url, **frames)
        run, trace = live(hybrid, seed), traced(hybrid, seed)
    timeline = replay(trace, LOOPBACK, seed=0, cloud_speedup=1.0)
    assert run.sent_bytes == sent_bytes(trace)
    assert run.reply_bytes == reply_bytes(trace)
    assert run.replies[-1][1].text == timeline.text
    assert (run.note, timeline.note) == (None, None)


def test_a_server_on_a_slow_link_is_believed_in_time_only() -> None:
    with server_of(answers(first_s=1.2)) as url:
        in_time, late = (
            live(TinyHybrid(url, answer_deadline_s=answer_deadline_s)) for answer_deadline_s in (5.0, 0.05)
        )
        trace = traced(TinyHybrid(url, answer_deadline_s=0.05))
    assert in_time.note is None
    assert late.note is not None
    assert late.note.startswith("the answer came")
    assert late.sent_bytes == in_time.sent_bytes
    own = [event for _, event in trace.events if event.kind is EventKind.FINAL][-1]
    assert late.replies[-1][1] == own
    slow = LinkProfile(name="slow", rtt_s=3.0, jitter_s=0.0, up_bps=1e9, down_bps=1e9)
    timeline = replay(trace, slow, seed=0, cloud_speedup=1.0)
    assert timeline.text == own.text
    assert timeline.note is not None


def misbehaving(does: Callable[[ServerConnection, int, str], None]) -> Script:
    def script(connection: ServerConnection) -> None:
        for message in connection:
            assert isinstance(message, bytes)
            does(connection, *read(message))

    return script


def say(connection: ServerConnection, revision: int, text: str) -> None:
    connection.send(encode(Rescored(revision=revision, text=text)))


def twice(connection: ServerConnection, revision: int, text: str) -> None:
    say(connection, revision, text)
    say(connection, revision, text)


def out_of_order(connection: ServerConnection, revision: int, text: str) -> None:
    if revision == 1:
        say(connection, 1, text)
        say(connection, 0, text)


def no_path(connection: ServerConnection, revision: int, text: str) -> None:
    say(connection, revision, text + " and then some")


def never(connection: ServerConnection, revision: int, text: str) -> None:
    del connection, revision, text


def leaves(connection: ServerConnection, revision: int, text: str) -> None:
    del revision, text
    connection.close()


@pytest.mark.parametrize(
    ("does", "note", "rescored"),
    [
        (twice, "revision 0 was answered twice", True),
        (out_of_order, "", True),
        (no_path, "revision 0 was answered with no path of its lattice", False),
        (never, "revision 1 was not answered in time", False),
        (leaves, "the connection broke", False),
    ],
)
def test_servers_that_answer_wrongly(
    does: Callable[[ServerConnection, int, str], None], note: str, rescored: bool
) -> None:
    with server_of(misbehaving(does)) as url:
        hybrid = TinyHybrid(url, timeout_s=1.0)
        trace, run = traced(hybrid, REVISED), live(hybrid, REVISED)
    assert trace.failure is None
    assert trace.remote is not None
    assert any(told.startswith(note) for told in trace.remote.notes) or not note, trace.remote.notes
    timeline = replay(trace, LOOPBACK, seed=0, cloud_speedup=1.0)
    own = [event for _, event in trace.events if event.kind is EventKind.FINAL][-1]
    assert timeline.text == own.text == run.replies[-1][1].text
    assert timeline.note == run.note == (None if rescored else "no answer came")
    assert run.sent_bytes == sent_bytes(trace)


def test_a_cut_in_the_middle_of_an_utterance() -> None:
    """The server goes after its first answer: what was answered before counts, and the rest is the device's."""

    def once(connection: ServerConnection) -> None:
        message = connection.recv()
        assert isinstance(message, bytes)
        say(connection, *read(message, 1))

    with server_of(once) as url:
        run = live(TinyHybrid(url, timeout_s=0.5, **LATER), TWICE)
        cut = traced(TinyHybrid(url, timeout_s=0.5, **LATER), TWICE)
    with server_of(answers()) as url:
        whole = traced(TinyHybrid(url, **LATER), TWICE)
    assert whole.remote is not None
    kept = replace(whole.remote, replies=whole.remote.replies[:1])
    simulated = replay(replace(whole, remote=kept), LOOPBACK, seed=0, cloud_speedup=1.0)
    alone = replay(whole, load_profiles()["offline"], seed=0, cloud_speedup=1.0)
    for text in (run.replies[-1][1].text, replay(cut, LOOPBACK, seed=0, cloud_speedup=1.0).text):
        assert text == simulated.text == alone.text
    assert run.note == simulated.note == "no answer came"
    assert run.sent_bytes == sent_bytes(cut) == sent_bytes(whole)
    assert run.reply_bytes == reply_bytes(cut) == reply_bytes(whole)[:1]


def test_a_server_that_is_started_again() -> None:
    with server_of(answers()) as url:
        hybrid = TinyHybrid(url)
        before = traced(hybrid)
        port = int(url.rstrip("/").rpartition(":")[2])
    down = traced(hybrid)
    with server_of(answers(), port):
        after = traced(hybrid)
    assert before.remote == after.remote
    assert before.events == after.events
    assert down.remote is not None
    assert down.remote.notes[0].startswith("server: cannot connect")
    assert (down.failure, sent_bytes(down)) == (None, ())


def test_a_real_server_that_cannot_read_the_lattice() -> None:
    with importable():
        server = ServerProcess(backend=BACKEND, detector=DETECTOR, rescorer="helpers_hybrid:Refusing")
    with server:
        trace = traced(TinyHybrid(server.rescore_url, server.token, trace=True))
    assert trace.failure is None
    assert trace.remote is not None
    assert trace.remote.notes[0] == "the server reported: lattice message: refused"


def test_a_lattice_that_is_too_large_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgespeech.lattice.codec.MAX_BYTES", 20)
    assert MAX_BYTES > 20
    with server_of(answers()) as url:
        trace = traced(TinyHybrid(url))
    assert (trace.failure, shape(trace)) == (None, "SEF")
    assert trace.remote is not None
    assert all("a lattice was not sent: lattice message: length" in note for note in trace.remote.notes)


def test_two_streams_at_once_do_not_disturb_each_other() -> None:
    with server_of(answers()) as url:
        hybrid = TinyHybrid(url)
        alone = [traced(hybrid, seed) for seed in (CONFIRMED, REVISED)]
        both: dict[int, Trace] = {}
        threads = [
            threading.Thread(target=lambda seed=seed: both.update({seed: traced(hybrid, seed)}))
            for seed in (CONFIRMED, REVISED)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [both[seed].events for seed in (CONFIRMED, REVISED)] == [trace.events for trace in alone]
    assert [both[seed].remote for seed in (CONFIRMED, REVISED)] == [trace.remote for trace in alone]
