from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from cloud.fakes import (
    BACKEND,
    DETECTOR,
    CountingForwarder,
    ask,
    importable,
    send_all,
    silence,
    texts,
    tone,
)
from edgespeech.cloud.client import _ATTEMPTS, CloudStream
from edgespeech.cloud.framing import ws_bytes
from edgespeech.cloud.process import ServerProcess
from edgespeech.cloud.protocol import PATH, End, Hello, encode
from edgespeech.contracts import EventKind, Request
from edgespeech.errors import EdgeSpeechError

CLOSE = 2
"""Payload of a close frame: its code."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with importable():
        process = ServerProcess(backend=BACKEND, options={"delay_s": 0.3}, detector=DETECTOR)
    with process:
        yield process


def test_every_message_is_an_event_with_its_payload(server: ServerProcess) -> None:
    request = Request(utterance_id="u", context=("flat white", "café"), language="de")
    stream = CloudStream(server.url, server.token, request)
    first = stream.accept(tone(0.1))
    rest = [event for _ in range(9) for event in stream.accept(tone(0.1))]
    last = stream.finish()
    trace = stream.remote()
    stream.close()
    hello = len(encode(Hello(language="de", context=["flat white", "café"])).encode())
    assert [event.n_bytes for event in first] == [hello, 5 * 62]
    assert [event.n_bytes for event in rest] == [5 * 62] * 9
    assert [event.n_bytes for event in last] == [62, len(encode(End()))]
    assert {event.kind for event in first + rest + last} == {EventKind.SENT}
    assert len(trace.compute_s) == 13
    assert trace.replies[0].after_message == 12
    assert trace.replies[0].event.text == "heard 1.0 de flat white café"
    assert trace.compute_s[12] >= 0.3
    assert sum(trace.compute_s[:12]) < 0.3


def test_accept_never_waits_for_the_server(server: ServerProcess) -> None:
    stream = CloudStream(server.url, server.token, Request(utterance_id="u"))
    samples = np.concatenate([tone(0.5), silence(0.9)] * 10)
    stream.accept(samples[:1600])
    began = time.monotonic()
    send_all(stream, samples[1600:])
    sent_s = time.monotonic() - began
    trace = stream.remote()
    stream.close()
    # Ten segments take the server 0.3 s each, after it has their audio.
    assert sent_s < time.monotonic() - began
    assert time.monotonic() - began >= 10 * 0.3 > sent_s
    assert len(texts(trace)) == 20


def test_streams_do_not_disturb_each_other(server: ServerProcess) -> None:
    signals = [tone(0.3), np.concatenate([tone(0.5), silence(1.0)]), tone(0.7)]
    serial = [texts(ask(server, samples, str(i))) for i, samples in enumerate(signals)]
    streams = [
        CloudStream(server.url, server.token, Request(utterance_id=str(i), context=(str(i),)))
        for i in range(len(signals))
    ]
    for at in range(0, max(map(len, signals)), 800):
        for stream, samples in zip(streams, signals, strict=True):
            if at < len(samples):
                stream.accept(samples[at : at + 800])
    for stream in streams:
        stream.finish()
    concurrent = [texts(stream.remote()) for stream in streams]
    for stream in streams:
        stream.close()
    assert concurrent == serial


@pytest.mark.parametrize("chunk", [160, 1600, 5000])
def test_bytes_on_the_socket_are_what_the_formula_says(server: ServerProcess, chunk: int) -> None:
    samples = np.concatenate([tone(0.55), silence(0.9), tone(0.33)])
    forwarder = CountingForwarder(server.port)
    request = Request(utterance_id="u", context=("a phrase",) * 30)
    url = f"ws://127.0.0.1:{forwarder.port}{PATH}"
    stream = CloudStream(url, server.token, request, trace=False)
    sent = send_all(stream, samples, chunk)
    replies = list(stream.receive())
    stream.close()
    forwarder.wait()
    assert forwarder.up == sum(ws_bytes(e.n_bytes, up=True) for e in sent) + ws_bytes(CLOSE, up=True)
    assert forwarder.down == sum(ws_bytes(r.n_bytes, up=False) for r in replies) + ws_bytes(CLOSE, up=False)
    assert len(replies) == 3


def test_bytes_do_not_depend_on_whether_a_trace_was_asked_for(server: ServerProcess) -> None:
    samples = np.concatenate([tone(0.5), silence(1.0)])
    sent = []
    for trace in (True, False):
        stream = CloudStream(server.url, server.token, Request(utterance_id="u"), trace=trace)
        sent.append(send_all(stream, samples))
        if trace:
            with_trace = [reply.n_bytes for reply in stream.remote().replies]
        else:
            assert [reply.n_bytes for reply in stream.receive()] == with_trace
        stream.close()
    assert sent[0] == sent[1]


def test_remote_needs_the_trace(server: ServerProcess) -> None:
    stream = CloudStream(server.url, server.token, Request(utterance_id="u"), trace=False)
    send_all(stream, tone(0.2))
    with pytest.raises(EdgeSpeechError, match="closed without the trace"):
        stream.remote()
    stream.close()


def test_no_server() -> None:
    with pytest.raises(EdgeSpeechError, match=r"server: cannot connect: .*refused"):
        CloudStream("ws://127.0.0.1:9/x", "t", Request(utterance_id="u"))


def test_a_connection_that_is_dropped_before_its_answer_is_opened_again(server: ServerProcess) -> None:
    forwarder = CountingForwarder(server.port, drops=2)
    stream = CloudStream(f"ws://127.0.0.1:{forwarder.port}{PATH}", server.token, Request(utterance_id="u"))
    send_all(stream, tone(0.2))
    heard = texts(stream.remote())
    stream.close()
    forwarder.wait()
    assert heard == texts(ask(server, tone(0.2)))


def test_a_server_that_drops_every_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drop() -> None:
            for _ in range(_ATTEMPTS):
                listener.accept()[0].close()

        dropped = threading.Thread(target=drop, daemon=True)
        dropped.start()
        with pytest.raises(EdgeSpeechError, match="server: cannot connect"):
            CloudStream(f"ws://127.0.0.1:{listener.getsockname()[1]}/x", "t", Request(utterance_id="u"))
        dropped.join(timeout=10)
        assert not dropped.is_alive()  # it was tried as often as that


def test_a_server_that_dies() -> None:
    with importable():
        server = ServerProcess(backend=BACKEND, options={"delay_s": 5}, detector=DETECTOR)
    with server:
        stream = CloudStream(server.url, server.token, Request(utterance_id="u"))
        send_all(stream, tone(0.2))
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(EdgeSpeechError, match="server: the connection broke"):
            stream.remote()
        stream.close()
        with pytest.raises(EdgeSpeechError, match="cannot connect"):
            CloudStream(server.url, server.token, Request(utterance_id="u"))


def test_a_server_that_hangs() -> None:
    with importable():
        server = ServerProcess(backend=BACKEND, options={"delay_s": 4}, detector=DETECTOR)
    with server:
        stream = CloudStream(server.url, server.token, Request(utterance_id="u"), timeout_s=0.5)
        send_all(stream, tone(0.2))
        with pytest.raises(EdgeSpeechError, match=r"server: no answer in 0\.5 s"):
            stream.remote()
        stream.close()
