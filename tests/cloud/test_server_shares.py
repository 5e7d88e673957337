"""A real server process and clients who show a token and want more than their share."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from cloud.fakes import (
    BACKEND,
    DETECTOR,
    RESCORER,
    RawClient,
    close_code,
    importable,
    send_all,
    tone,
)
from edgespeech.audio.codec import OpusEncoder
from edgespeech.cloud.client import CloudStream
from edgespeech.cloud.limits import Limits
from edgespeech.cloud.process import ServerProcess
from edgespeech.cloud.protocol import RESCORE_PATH, Hello, encode, pack_audio, pack_request
from edgespeech.cloud.second_pass import SecondPassStream
from edgespeech.contracts import Request
from edgespeech.errors import EdgeSpeechError

HELLO = encode(Hello()).encode()
AUDIO = pack_audio(OpusEncoder().encode(tone(0.1)))
GREEDY, MODEST = 0, 1


@contextmanager
def started(**limits: float) -> Iterator[ServerProcess]:
    with importable():
        server = ServerProcess(
            backend=BACKEND,
            detector=DETECTOR,
            rescorer=RESCORER,
            limits=Limits(**limits),  # type: ignore[arg-type]  # some are whole numbers
            tokens=2,
        )
    with server:
        yield server


def rescore(server: ServerProcess, lattice: bytes = b"two lattes", timeout_s: float = 20.0) -> str | None:
    stream = SecondPassStream(server.rescore_url, server.tokens[MODEST], trace=False)
    try:
        stream.send(lattice, bool)
        answer = stream.answer(timeout_s)
        return answer if answer is not None else " ".join(stream.notes)
    finally:
        stream.close()


def recognise(server: ServerProcess, token: int = MODEST) -> str:
    stream = CloudStream(server.url, server.tokens[token], Request(utterance_id="u"), timeout_s=20)
    try:
        send_all(stream, tone(0.5))
        return stream.remote().replies[-1].event.text
    finally:
        stream.close()


def assert_serves(server: ServerProcess) -> None:
    assert rescore(server) == "two lattes"
    assert recognise(server) == "heard 0.5 en"


def greedy(server: ServerProcess, path: str = RESCORE_PATH) -> RawClient:
    return RawClient(server, server.tokens[GREEDY], path)


def ended_in(server: ServerProcess) -> float:
    """Seconds that a server takes to end."""
    processes = [psutil.Process(pid) for pid in server.pids]
    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    _, left = psutil.wait_procs(processes, timeout=20)
    assert not left
    return time.monotonic() - began


@pytest.mark.parametrize("work", [b"stuck", b"busy"])
def test_it_ends_whatever_it_works_on(work: bytes) -> None:
    with started() as server, greedy(server) as raw:
        raw.send(pack_request(0, work), opcode=2)
        time.sleep(0.3)
        assert len(server.pids) == 3
        assert ended_in(server) < 5


def test_others_go_on_in_the_middle_of_a_long_job() -> None:
    with started() as server, greedy(server) as raw:
        raw.send(pack_request(0, b"busy"), opcode=2)
        for _ in range(3):
            assert_serves(server)


def test_work_of_a_client_that_left_is_dropped() -> None:
    with started(leave_s=0.5) as server:
        for work in (b"busy", b"stuck"):
            before = server.pids
            with greedy(server) as raw:
                raw.send(pack_request(0, work), opcode=2)
                time.sleep(0.3)
            assert_serves(server)
            # What pauses is dropped; what does not is ended with its process, and that is started again.
            assert (server.pids == before) == (work == b"busy")


def test_work_that_takes_too_long() -> None:
    with started(max_work_s=0.3, max_step_s=1.0) as server:
        assert "its work takes over 0.3 s, the most of this server" in str(rescore(server, b"busy"))
        assert "the recogniser failed" in str(rescore(server, b"stuck"))
        assert "the recogniser failed" in str(rescore(server, b"crash"))
        assert_serves(server)


def test_one_holder_cannot_take_all_places() -> None:
    with started(max_streams=4) as server:
        taken = [greedy(server) for _ in range(4)]
        with greedy(server) as refused:
            assert refused.head.startswith(b"HTTP/1.1 503")
        modest = [RawClient(server, server.tokens[MODEST]) for _ in range(2)]
        assert all(raw.head.startswith(b"HTTP/1.1 101") for raw in modest)
        for raw in taken[:2]:  # the oldest ones gave way
            received = raw.rest()
            assert b"another one's turn" in received
            assert close_code(received) == 1013
        with RawClient(server, server.tokens[MODEST]) as raw:  # it has its share now
            assert raw.head.startswith(b"HTTP/1.1 503")
        for raw in (*taken, *modest):
            raw.socket.close()
        time.sleep(0.3)
        assert_serves(server)


def test_refused_connections_take_no_place() -> None:
    with started(max_streams=2) as server:
        refused = [RawClient(server, "wrong") for _ in range(10)]
        assert_serves(server)
        for raw in refused:
            raw.socket.close()


def test_connections_without_a_request_give_way() -> None:
    with started(max_opening=5) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        assert_serves(server)
        ready, _, _ = select.select(silent, [], [], 1)  # those that are closed; the others may wait for 5 s
        assert len(ready) >= 15
        for one in silent:
            one.close()


def pour(raw: socket.socket, line: bytes) -> None:
    raw.sendall(b"GET / HTTP/1.1\r\n")
    for _ in range(200):
        raw.sendall(line)
        time.sleep(0.01)


def test_a_request_without_end() -> None:
    with started() as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        with pytest.raises(OSError, match=r"reset|pipe"):
            pour(raw, b"A: " + b"a" * 4000 + b"\r\n")
        assert_serves(server)


def test_a_nearly_silent_stream_ends() -> None:
    with started(max_stream_s=1.5, idle_s=1.0) as server, greedy(server, "/v1/recognise") as raw:
        raw.send(HELLO)
        for _ in range(3):
            raw.send(AUDIO, opcode=2)
            time.sleep(0.4)
        received = raw.rest()
        assert b"open for 1.5 s, the longest that this server allows" in received
        assert close_code(received) == 1008


@pytest.mark.parametrize(("payload", "opcode"), [(b"", 9), (b"x", 2), (b"x" * 125, 10)])
def test_a_flood_of_small_frames(payload: bytes, opcode: int) -> None:
    with started(messages_per_s=50, burst=100) as server:
        floods = [greedy(server) for _ in range(3)]
        for raw in floods:
            raw.socket.setblocking(False)
            frames = raw.frame(payload, opcode) * 5000
            sent = 0
            while sent < len(frames):
                try:
                    sent += raw.socket.send(frames[sent:])
                except OSError:  # it takes no more, or has refused the stream
                    break
        assert_serves(server)
        for raw in floods:
            raw.socket.close()


def test_memory_is_shared() -> None:
    second = 16_000 * 4
    with started(max_buffered_bytes=3 * second) as server:
        hungry = CloudStream(server.url, server.tokens[GREEDY], Request(utterance_id="u"))
        modest = CloudStream(server.url, server.tokens[MODEST], Request(utterance_id="u"))
        modest.accept(tone(1.0))
        with pytest.raises(EdgeSpeechError, match="too much audio waits, of all streams together"):
            send_all(hungry, tone(20.0), pause_s=0.01)
        modest.accept(tone(1.0))
        modest.finish()
        assert modest.remote().replies[-1].event.text == "heard 2.0 en"
        hungry.close()
        modest.close()
