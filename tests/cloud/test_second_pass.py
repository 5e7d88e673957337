"""The second pass over real sockets: a good server, and servers that do what they should not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from cloud.fakes import BACKEND, DETECTOR, RESCORER, ask, importable, texts, tone
from edgespeech.cloud.limits import Limits
from edgespeech.cloud.process import ServerProcess
from edgespeech.cloud.protocol import (
    Endpoint,
    Error,
    ProtocolError,
    Rescored,
    ServerMessage,
    TraceMessage,
    encode,
    pack_request,
    parse_server,
    unpack_request,
)
from edgespeech.cloud.second_pass import Answers, SecondPassStream
from edgespeech.contracts import EventKind
from edgespeech.errors import EdgeSpeechError


def anything(text: str) -> bool:
    return bool(text)


def rescored(revision: int, text: str) -> str:
    return encode(Rescored(revision=revision, text=text))


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with importable():
        process = ServerProcess(
            backend=BACKEND,
            detector=DETECTOR,
            rescorer=RESCORER,
            limits=Limits(idle_s=2.0, max_audio_s=60.0, max_message_bytes=5000),
        )
    with process:
        yield process
        assert process.alive()


@contextmanager
def opened(server: ServerProcess, *, trace: bool = True) -> Iterator[SecondPassStream]:
    stream = SecondPassStream(server.rescore_url, server.token, trace=trace)
    try:
        yield stream
    finally:
        stream.close()


def assert_serves(server: ServerProcess) -> None:
    with opened(server) as stream:
        stream.send(b"two lattes", anything)
        assert stream.answer(20) == "two lattes"
        assert stream.notes == ()
    assert texts(ask(server, tone(0.3))) == ["heard 0.3 en"]


@given(st.integers(0, 255), st.binary(min_size=1, max_size=60))
def test_request_round_trip(revision: int, lattice: bytes) -> None:
    assert unpack_request(pack_request(revision, lattice)) == (revision, lattice)


@pytest.mark.parametrize(("revision", "lattice"), [(256, b"x"), (-1, b"x"), (0, b"")])
def test_bad_requests(revision: int, lattice: bytes) -> None:
    with pytest.raises(EdgeSpeechError, match=r"request: (revision|lattice) is"):
        pack_request(revision, lattice)


@pytest.mark.parametrize("message", [b"", b"\x00"])
def test_requests_without_a_lattice(message: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected a revision and a lattice"):
        unpack_request(message)


def test_the_answer_as_it_travels() -> None:
    assert rescored(1, "two lattes") == '{"type":"rescored","revision":1,"text":"two lattes"}'
    assert parse_server(rescored(1, "x")) == Rescored(revision=1, text="x")
    for bad in ('{"type":"rescored","revision":-1,"text":""}', '{"type":"rescored","revision":0}'):
        with pytest.raises(ProtocolError, match="server message"):
            parse_server(bad)


@pytest.mark.parametrize(
    ("message", "note"),
    [
        (Rescored(revision=2, text="x"), "revision 2 was answered, which was never asked for"),
        (Rescored(revision=1, text=""), "revision 1 was answered with no path of its lattice"),
        (Endpoint(segment=0, audio_s=1.0), "the server sent endpoint, expected rescored"),
        (Error(message="no"), "the server reported: no"),
    ],
)
def test_answers_that_cannot_be_right(message: ServerMessage, note: str) -> None:
    answers = Answers()
    assert [answers.ask(anything), answers.ask(anything)] == [0, 1]
    assert answers.take(message) is None
    assert answers.notes == [note]


def test_an_answer_counts_once_even_if_the_first_one_was_wrong() -> None:
    answers = Answers()
    answers.ask(anything)
    answers.ask(anything)
    assert answers.take(Rescored(revision=1, text="b")) == Rescored(revision=1, text="b")
    assert answers.take(Rescored(revision=1, text="b")) is None
    assert answers.take(Rescored(revision=0, text="")) is None
    assert answers.take(Rescored(revision=0, text="a")) is None
    assert answers.missing == []
    assert answers.notes == [
        "revision 1 was answered twice",
        "revision 0 was answered with no path of its lattice",
        "revision 0 was answered twice",
    ]


def test_no_more_revisions_than_a_byte_counts() -> None:
    answers = Answers()
    for _ in range(256):
        answers.ask(anything)
    with pytest.raises(EdgeSpeechError, match="256 requests were sent"):
        answers.ask(anything)


def test_two_revisions_and_their_trace(server: ServerProcess) -> None:
    with opened(server) as stream:
        first = stream.send(b"two", anything)
        second = stream.send(b"slow", anything)
        trace = stream.remote(20)
        assert stream.notes == ()
    assert [first.n_bytes, second.n_bytes] == [4, 5]
    assert first.kind is EventKind.SENT
    assert [(reply.after_message, reply.event.text) for reply in trace.replies] == [(0, "two"), (1, "slow")]
    assert {reply.event.kind for reply in trace.replies} == {EventKind.FINAL}
    assert trace.replies[0].n_bytes == len(rescored(0, "two"))
    assert trace.compute_s[0] < 0.5 < 1.0 <= trace.compute_s[1]


def test_a_client_may_listen_longer_than_a_message_may_take(server: ServerProcess) -> None:
    with opened(server) as stream:
        time.sleep(2.5)
        stream.send(b"late but fine", anything)
        assert stream.answer(20) == "late but fine"


def test_without_a_trace(server: ServerProcess) -> None:
    with opened(server, trace=False) as stream:
        stream.send(b"one", anything)
        trace = stream.remote(20)
    assert [reply.event.text for reply in trace.replies] == ["one"]
    assert trace.compute_s == (0.0,)


def test_an_answer_that_comes_too_late_is_not_waited_for(server: ServerProcess) -> None:
    with opened(server) as stream:
        stream.send(b"slow", anything)
        assert stream.answer(0.1) is None
        stream.send(b"new", anything)
        assert stream.answer(20) == "new"
        assert stream.notes == ("revision 0 was not answered in time", "revision 0 was answered late")


@pytest.mark.parametrize(
    ("lattice", "note"),
    [
        (b"damaged", "the server reported: lattice message: checksum is wrong"),
        (b"fail", "the server reported: server: the recogniser failed"),
    ],
)
def test_a_lattice_that_cannot_be_rescored(server: ServerProcess, lattice: bytes, note: str) -> None:
    with opened(server) as stream:
        stream.send(lattice, anything)
        assert stream.answer(20) is None
        assert stream.notes[0] == note
        stream.send(b"after that", anything)
        assert stream.answer(20) is None
        assert stream.remote(20).replies == ()
    assert_serves(server)


def test_an_oversized_lattice(server: ServerProcess) -> None:
    with opened(server) as stream:
        stream.send(bytes(6000), anything)
        assert stream.answer(20) is None
        assert "1009" in stream.notes[0]
    assert_serves(server)


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        (["text"], "request: text came, expected a lattice"),
        ([b"\x00"], "request: 1 bytes, expected a revision and a lattice"),
        ([b"\x00a", b"\x00a"], "request: revision 0 came after 0, expected a higher one"),
        ([b"\x05a", b"\x04a"], "request: revision 4 came after 5"),
    ],
)
def test_clients_that_break_the_protocol(
    server: ServerProcess, messages: list[str | bytes], problem: str
) -> None:
    headers = {"Authorization": f"Bearer {server.token}"}
    with connect(server.rescore_url, additional_headers=headers, proxy=None) as connection:
        for message in messages:
            connection.send(message)
        said: list[str] = []
        with pytest.raises(ConnectionClosedError, match="1008"):
            said.extend(map(str, connection))
    assert len(said) == len(messages)
    assert f'{{"type":"error","message":"{problem}' in said[-1]
    assert_serves(server)


def test_a_server_without_a_second_pass() -> None:
    with importable():
        server = ServerProcess(backend=BACKEND, detector=DETECTOR)
    with server, pytest.raises(EdgeSpeechError, match=r"refused \(404\): expected /v1/recognise"):
        SecondPassStream(server.rescore_url, server.token)


def test_no_server_and_a_wrong_token(server: ServerProcess) -> None:
    with pytest.raises(EdgeSpeechError, match="server: cannot connect"):
        SecondPassStream("ws://127.0.0.1:9/x", "t")
    with pytest.raises(EdgeSpeechError, match=r"refused \(401\)"):
        SecondPassStream(server.rescore_url, "wrong")


@contextmanager
def scripted(script: Callable[[ServerConnection], None]) -> Iterator[SecondPassStream]:
    """A client of a server that follows a script after the first request, and then is silent."""
    over = threading.Event()

    def handle(connection: ServerConnection) -> None:
        connection.recv()
        script(connection)
        over.wait(30)

    with serve(handle, "127.0.0.1", 0, close_timeout=1) as fake:
        thread = threading.Thread(target=fake.serve_forever)
        thread.start()
        stream = SecondPassStream(f"ws://127.0.0.1:{fake.socket.getsockname()[1]}/", "t", trace=False)
        try:
            yield stream
        finally:
            over.set()
            stream.close()
            fake.shutdown()
            thread.join()


def send(*messages: str | bytes) -> Callable[[ServerConnection], None]:
    def script(connection: ServerConnection) -> None:
        for message in messages:
            connection.send(message)

    return script


@pytest.mark.parametrize(
    ("messages", "text", "notes"),
    [
        (
            [rescored(7, "no"), rescored(0, "yes")],
            "yes",
            ["revision 7 was answered, which was never asked for"],
        ),
        ([rescored(0, "")], None, ["revision 0 was answered with no path of its lattice"]),
        ([encode(TraceMessage(compute_s=[1], causes=[0], after_s=[1])), rescored(0, "yes")], "yes", []),
        (["{"], None, ["server message: JSON"]),
        ([b"\x00\x01"], None, ["the server sent 2 binary bytes, expected JSON"]),
        ([], None, ["revision 0 was not answered in time"]),
    ],
)
def test_servers_that_answer_wrongly(messages: list[str | bytes], text: str | None, notes: list[str]) -> None:
    with scripted(send(*messages)) as stream:
        stream.send(b"lattice", anything)
        assert stream.answer(20 if messages else 0.2) == text
        assert len(stream.notes) == len(notes)
        assert all(found.startswith(note) for found, note in zip(stream.notes, notes, strict=True))


def test_a_server_that_answers_twice_and_out_of_order() -> None:
    script = send(rescored(1, "b"), rescored(0, "a"), rescored(1, "c"), rescored(2, "d"))
    with scripted(script) as stream:
        for lattice in (b"x", b"y", b"z"):
            stream.send(lattice, anything)
        trace = stream.remote(20)
        assert [(reply.after_message, reply.event.text) for reply in trace.replies] == [
            (1, "b"),
            (0, "a"),
            (2, "d"),
        ]
        assert stream.notes == ("revision 1 was answered twice",)


def test_a_server_that_dies() -> None:
    with scripted(lambda connection: connection.socket.close()) as stream:
        stream.send(b"x", anything)
        assert stream.answer(20) is None
        assert stream.notes[0].startswith("the connection broke")
        assert stream.send(b"y", anything).n_bytes == 2
        assert stream.answer(20) is None
        assert stream.remote(20).compute_s == (0.0, 0.0)


def test_a_server_that_never_stops_talking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgespeech.cloud.second_pass._GRACE_S", 0.05)
    over = threading.Event()

    def script(connection: ServerConnection) -> None:
        while not over.is_set():
            connection.send(rescored(9, "no"))

    with scripted(script) as stream:
        stream.send(b"x", anything)
        assert stream.answer(0.1) is None
        over.set()
    assert stream.notes[-1] == "revision 0 was not answered in time"
