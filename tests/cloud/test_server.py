"""A real server process against clients good and bad; after each bad one, a good one is served."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from websockets.asyncio.client import connect

from cloud.fakes import (
    BACKEND,
    DETECTOR,
    RawClient,
    ask,
    close_code,
    importable,
    send_all,
    silence,
    texts,
    tone,
)
from edgespeech.audio.codec import OpusEncoder
from edgespeech.cloud import server as server_module
from edgespeech.cloud.access import TOKEN_ENV, Tokens
from edgespeech.cloud.client import CloudStream
from edgespeech.cloud.limits import Limits
from edgespeech.cloud.process import ServerProcess
from edgespeech.cloud.protocol import End, Hello, encode, pack_audio
from edgespeech.cloud.server import serve
from edgespeech.contracts import Request
from edgespeech.errors import EdgeSpeechError

HELLO, END = encode(Hello()), encode(End())
AUDIO = pack_audio(OpusEncoder().encode(tone(0.1)))


def start(limits: Limits | None = None, **options: float) -> ServerProcess:
    with importable():
        return ServerProcess(backend=BACKEND, options=options, detector=DETECTOR, limits=limits)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    limits = Limits(idle_s=1.0, send_s=1.0, max_audio_s=5.0, max_streams=60, max_message_bytes=10_000)
    with start(limits) as process:
        yield process
        assert process.alive()


def drip(raw: RawClient, frame: bytes) -> None:
    """One byte every 0.1 s, never the last one."""
    for i in range(len(frame) - 1):
        raw.socket.sendall(frame[i : i + 1])
        time.sleep(0.1)


def assert_serves(server: ServerProcess) -> None:
    assert texts(ask(server, tone(0.5), "latte")) == ["heard 0.5 en latte"]
    assert server.alive()


def test_a_good_client(server: ServerProcess) -> None:
    trace = ask(server, np.concatenate([tone(0.5), silence(1.0), tone(0.5)]), "latte")
    assert texts(trace) == ["", "heard 1.2 en latte", "heard 1.2 en latte heard 0.8 en latte"]
    assert [reply.after_message for reply in trace.replies] == [13, 13, len(trace.compute_s) - 1]
    assert server.pid != os.getpid()
    assert psutil.Process(server.pid).is_running()


@pytest.mark.parametrize("token", ["wrong", "", "ünïcode"])
def test_bad_token(server: ServerProcess, token: str) -> None:
    with RawClient(server, token=token or " ") as raw:
        assert raw.head.startswith(b"HTTP/1.1 401")
    if token.isascii():
        with pytest.raises(EdgeSpeechError, match=r"server: refused \(401\): expected Authorization"):
            CloudStream(server.url, token, Request(utterance_id="u"))
    assert_serves(server)


def test_the_token_is_on_no_command_line(server: ServerProcess) -> None:
    assert server.token not in " ".join(psutil.Process(server.pid).cmdline())


def test_wrong_path(server: ServerProcess) -> None:
    with pytest.raises(EdgeSpeechError, match=r"refused \(404\)"):
        CloudStream(server.url + "/else", server.token, Request(utterance_id="u"))
    assert_serves(server)


def test_oversized_frame(server: ServerProcess) -> None:
    with RawClient(server) as raw:
        raw.send(HELLO.encode())
        raw.send(bytes(20_000), opcode=2)
        assert b"\x03\xf1" in raw.rest()  # 1009
    assert_serves(server)


def test_random_bytes_instead_of_frames(server: ServerProcess) -> None:
    rng = random.Random(0)
    for _ in range(20):
        with RawClient(server) as raw:
            raw.socket.sendall(rng.randbytes(500))
            raw.rest()
    assert_serves(server)


def test_random_bytes_instead_of_http(server: ServerProcess) -> None:
    import socket

    for payload in (random.Random(1).randbytes(500), b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
            raw.sendall(payload)
            raw.recv(1000)
    assert_serves(server)


@pytest.mark.parametrize(
    ("message", "opcode", "problem"),
    [
        (b"\x00\x3c" + bytes(10), 2, "packet 0 of 60 bytes at byte 2 of 12"),
        (random.Random(2).randbytes(300), 2, "audio message"),
        (b"{", 1, "client message: JSON"),
        (HELLO.encode(), 1, "a second hello"),
    ],
)
def test_malformed_messages_get_an_error_and_a_code(
    server: ServerProcess, message: bytes, opcode: int, problem: str
) -> None:
    with RawClient(server) as raw:
        raw.send(HELLO.encode())
        raw.send(message, opcode=opcode)
        received = raw.rest()
    assert b'{"type":"error","message":"' in received
    assert problem.encode() in received
    assert close_code(received) == 1008
    assert_serves(server)


def test_text_that_is_not_utf8(server: ServerProcess) -> None:
    with RawClient(server) as raw:
        raw.send(b"\xff\xfe")
        assert raw.rest()[2:4] == (1007).to_bytes(2, "big")
    assert_serves(server)


def test_half_a_message(server: ServerProcess) -> None:
    with RawClient(server) as raw:
        raw.send(HELLO.encode())
        raw.socket.sendall(raw.frame(AUDIO, opcode=2)[:100])
        received = raw.rest()
    assert b"no whole message in 1 s" in received
    assert close_code(received) == 1008
    with RawClient(server) as raw:  # half a message, then gone
        raw.send(HELLO.encode())
        raw.socket.sendall(raw.frame(AUDIO, opcode=2)[:100])
    assert_serves(server)


def test_a_client_that_falls_asleep_does_not_hold_up_the_others(server: ServerProcess) -> None:
    with RawClient(server) as raw:
        raw.send(HELLO.encode())
        raw.send(AUDIO, opcode=2)
        began = time.monotonic()
        assert_serves(server)
        assert time.monotonic() - began < 0.9
        assert b"no whole message in 1 s" in raw.rest()


def test_a_client_that_drips_bytes_is_dropped(server: ServerProcess) -> None:
    with RawClient(server) as raw:
        frame = raw.frame(HELLO.encode())
        began = time.monotonic()
        with pytest.raises(OSError, match=r"reset|pipe"):
            drip(raw, frame)
        assert time.monotonic() - began < 8
    assert_serves(server)


def test_too_long_audio(server: ServerProcess) -> None:
    stream = CloudStream(server.url, server.token, Request(utterance_id="u"))
    with pytest.raises(EdgeSpeechError, match="server: reported: utterance: over 5 s"):
        send_all(stream, tone(20), pause_s=0.002)
    stream.close()
    assert_serves(server)


def test_too_many_streams() -> None:
    with start(Limits(max_streams=2)) as server:
        open_streams = [CloudStream(server.url, server.token, Request(utterance_id="u")) for _ in range(2)]
        for stream in open_streams:
            stream.accept(tone(0.1))
        with pytest.raises(EdgeSpeechError, match=r"server: refused \(503\): 2 streams are open already"):
            ask(server, tone(0.5))
        open_streams[0].close()
        time.sleep(0.2)
        assert_serves(server)
        open_streams[1].close()


def test_fifty_clients_of_whom_forty_vanish(server: ServerProcess) -> None:
    url, headers = server.url, {"Authorization": f"Bearer {server.token}"}

    async def client(number: int) -> str | None:
        async with connect(url, additional_headers=headers, compression=None, proxy=None) as connection:
            await connection.send(HELLO)
            for _ in range(number % 7 + 3):
                await connection.send(AUDIO)
            if number % 5:
                connection.transport.abort()
                return None
            await connection.send(END)
            return str(json.loads(await connection.recv())["text"])

    async def crowd() -> list[str | None]:
        return await asyncio.gather(*(client(number) for number in range(50)))

    said = asyncio.run(crowd())
    assert sum(text is None for text in said) == 40
    assert [said[n] for n in range(0, 50, 5)] == [
        f"heard {0.1 * (n % 7 + 3):.1f} en" for n in range(0, 50, 5)
    ]
    assert_serves(server)


def test_work_of_a_vanished_client_is_dropped() -> None:
    with start(delay_s=0.3) as server:
        for _ in range(10):
            with RawClient(server) as raw:
                raw.send(HELLO.encode())
                for _ in range(5):
                    raw.send(AUDIO, opcode=2)
        began = time.monotonic()
        assert_serves(server)
        assert time.monotonic() - began < 2


def test_a_client_that_does_not_read() -> None:
    with start(Limits(send_s=1.0), length=50_000_000) as server:
        with RawClient(server) as raw:
            for message, opcode in ((HELLO.encode(), 1), (AUDIO, 2), (END.encode(), 1)):
                raw.send(message, opcode)
            time.sleep(2.5)
            assert len(raw.rest()) < 50_000_000
        stream = CloudStream(server.url, server.token, Request(utterance_id="u"))
        stream.accept(tone(0.1))
        stream.close()
        assert server.alive()


def test_backlog_is_bounded() -> None:
    with start(Limits(max_backlog_bytes=5000), delay_s=0.5) as server:
        stream = CloudStream(server.url, server.token, Request(utterance_id="u"))
        for i in range(15):
            stream.accept(tone(0.1) if i < 3 else silence(0.1))
        time.sleep(0.2)
        with pytest.raises(EdgeSpeechError, match="over 5000 bytes wait for the recogniser"):
            send_all(stream, silence(10.0))
        stream.close()
        assert texts(ask(server, tone(0.5))) == ["heard 0.5 en"]


def test_a_failing_recogniser_says_so_without_details() -> None:
    with start(fail=True) as server:
        for _ in range(2):
            with pytest.raises(EdgeSpeechError, match="server: reported: server: the recogniser failed"):
                ask(server, tone(0.2))
        assert server.alive()


def test_a_port_that_is_taken(server: ServerProcess) -> None:
    with pytest.raises(EdgeSpeechError, match=f"cannot bind 127.0.0.1:{server.port}"):
        serve(host="127.0.0.1", port=server.port, tokens=Tokens(["t"]), backend=None)


def test_limits_out_of_range() -> None:
    with pytest.raises(EdgeSpeechError, match="server limits: max_streams is 0, expected above 0"):
        Limits(max_streams=0)


def test_a_backend_that_does_not_exist() -> None:
    problem = r"ended with status 2: server: reference is 'nowhere:make'"
    with importable(), pytest.raises(EdgeSpeechError, match=problem):
        ServerProcess(backend="nowhere:make", detector=DETECTOR)


def test_it_ends_with_the_process_that_started_it() -> None:
    script = (
        "import os, sys\nfrom edgespeech.cloud.process import ServerProcess\n"
        f"server = ServerProcess(backend={BACKEND!r}, detector={DETECTOR!r})\n"
        "print(server.pid, flush=True)\nos._exit(1)\n"
    )
    with importable():
        made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(made.stdout)) and time.monotonic() < deadline:
        if psutil.Process(int(made.stdout)).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    else:
        assert not psutil.pid_exists(int(made.stdout))


def test_models_that_are_stopped_while_they_start_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def stop() -> None:
        done = asyncio.Event()
        done.set()
        await server_module._first(done, asyncio.gather(*[asyncio.sleep(60)]))

    asyncio.run(stop())
    gc.collect()  # asyncio speaks of exceptions that nobody looked at when their futures go
    assert caplog.text == ""


def test_stop_twice() -> None:
    server = start()
    server.stop()
    server.stop()
    assert not server.alive()
    assert TOKEN_ENV not in os.environ
