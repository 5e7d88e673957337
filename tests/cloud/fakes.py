"""A recogniser, a detector and a clock for servers under test, sounds for them, and sockets that misbehave."""

from __future__ import annotations

import base64
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from edgespeech.cloud.client import CloudStream
from edgespeech.cloud.process import ServerProcess
from edgespeech.cloud.protocol import PATH
from edgespeech.cloud.session import Done, Job, Pause, Pausing, Recognition, Session, without_pause
from edgespeech.contracts import SAMPLE_RATE, Event, RemoteTrace, Request, Samples
from edgespeech.errors import EdgeSpeechError

BACKEND = "cloud.fakes:make_backend"
RESCORER = "cloud.fakes:EchoRescorer"
DETECTOR = "cloud.fakes:EnergyDetector"


class Clock:
    """Stands in for `time` where a test decides what time it is."""

    now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


class EchoBackend:
    """Says how much it heard, with which context; `delay_s` late, or for each 30 s; or a long text; or fails."""

    def __init__(
        self, *, delay_s: float = 0.0, window_s: float = 0.0, length: int = 0, fail: bool = False
    ) -> None:
        self.delay_s = delay_s
        self.window_s = window_s
        self.length = length
        self.fail = fail

    def transcribe(
        self, samples: Samples, context: Sequence[str], language: str, pause: Pause = without_pause
    ) -> str:
        for _ in range(round(self.delay_s / 0.05)):
            time.sleep(0.05)
            pause()
        for _ in range(-(-len(samples) // (30 * SAMPLE_RATE)) if self.window_s else 0):
            time.sleep(self.window_s)
            pause()
        if self.fail:
            raise RuntimeError("secret detail")
        if self.length:
            return "x" * self.length
        return " ".join(["heard", f"{len(samples) / SAMPLE_RATE:.1f}", language, *context])


def make_backend(**options: float) -> EchoBackend:
    return EchoBackend(**options)  # type: ignore[arg-type]  # from JSON


class EchoRescorer:
    """Says what the message holds, or does what it says."""

    def rescore(self, lattice: bytes, pause: Pause = without_pause) -> str:
        said = lattice.decode()
        if said == "damaged":
            raise EdgeSpeechError("lattice message: checksum is wrong")
        if said == "fail":
            raise RuntimeError("secret detail")
        if said == "slow":
            time.sleep(1.0)
        if said == "stuck":
            time.sleep(3600)
        while said == "busy":
            time.sleep(0.02)
            pause()
        if said == "crash":
            os._exit(3)
        return said


class Alone:
    """A session whose jobs are done at once, by a backend in this process."""

    def __init__(self, session: Session, backend: EchoBackend) -> None:
        self.session = session
        self.backend = backend

    def handle(self, message: str | bytes) -> Iterator[str]:
        """The replies to a message."""
        work = self.session.handle(message)
        done: Done | None = None
        while True:
            try:
                step = work.send(done)
            except StopIteration:
                return
            done = None
            if isinstance(step, Job):
                assert isinstance(step, Recognition)
                started = time.perf_counter()
                text = self.backend.transcribe(step.samples, step.context, step.language)
                done = Done(text, time.perf_counter() - started)
            elif not isinstance(step, Pausing):
                yield step


class EnergyDetector:
    """Anything loud is speech."""

    def __call__(self, window: Samples) -> float:
        return float(np.sqrt(np.mean(window**2)) > 0.02)


def tone(seconds: float) -> Samples:
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32)


def send_all(stream: CloudStream, samples: Samples, chunk: int = 1600, pause_s: float = 0.0) -> list[Event]:
    """Feed everything; returns the events."""
    events: list[Event] = []
    for i in range(0, len(samples), chunk):
        events += stream.accept(samples[i : i + chunk])
        time.sleep(pause_s)
    return events + stream.finish()


def ask(server: ServerProcess, samples: Samples, *context: str) -> RemoteTrace:
    """One good client from start to end."""
    request = Request(utterance_id="u", context=context)
    stream = CloudStream(server.url, server.token, request, timeout_s=20)
    try:
        send_all(stream, samples)
        return stream.remote()
    finally:
        stream.close()


def texts(trace: RemoteTrace) -> list[str]:
    return [reply.event.text for reply in trace.replies]


class RawClient:
    """A WebSocket client by hand, so that it can do what a library would not."""

    def __init__(self, server: ServerProcess, token: str | None = None, path: str = PATH) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        key = base64.b64encode(bytes(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {token or server.token}\r\n\r\n".encode()
        )
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            self.head += self.socket.recv(1)

    def frame(self, payload: bytes, opcode: int = 1) -> bytes:
        """A masked frame, the key being zero."""
        n = len(payload)
        if n < 126:
            length = bytes([0x80 | n])
        elif n < 2**16:
            length = bytes([0x80 | 126]) + n.to_bytes(2, "big")
        else:
            length = bytes([0x80 | 127]) + n.to_bytes(8, "big")
        return bytes([0x80 | opcode]) + length + bytes(4) + payload

    def send(self, payload: bytes, opcode: int = 1) -> None:
        self.socket.sendall(self.frame(payload, opcode))

    def rest(self) -> bytes:
        """Everything that comes until the server closes or resets."""
        received = b""
        try:
            while data := self.socket.recv(65536):
                received += data
        except ConnectionResetError:
            pass
        return received

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def close_code(received: bytes) -> int:
    """The code in the close frame at the end of what a server sent."""
    assert received[-4:-2] == b"\x88\x02", received[-20:]
    return int.from_bytes(received[-2:], "big")


class CountingForwarder:
    """A TCP forwarder that counts what passes after the HTTP upgrade, each direction `delay_s` late, in order.

    It closes the first `drops` connections without an answer.
    """

    def __init__(self, port: int, delay_s: float = 0.0, drops: int = 0) -> None:
        self._target = port
        self._drops = drops
        self._delay_s = delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.up = self.down = 0
        self._main = threading.Thread(target=self._run)
        self._main.start()

    def _run(self) -> None:
        for _ in range(self._drops):
            dropped, _ = self._listener.accept()
            dropped.recv(65536)
            dropped.close()
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        back = threading.Thread(target=self._pump, args=(server, client, "down"))
        back.start()
        self._pump(client, server, "up")
        back.join()
        client.close()
        server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        line: queue.Queue[tuple[float, bytes]] = queue.Queue()
        deliverer = threading.Thread(target=self._deliver, args=(line, sink))
        deliverer.start()
        head = b""
        while data := source.recv(65536):
            line.put((time.monotonic() + self._delay_s, data))
            if b"\r\n\r\n" in head:
                payload = len(data)
            else:
                head += data
                payload = len(head.partition(b"\r\n\r\n")[2])
            setattr(self, direction, getattr(self, direction) + payload)
        line.put((time.monotonic() + self._delay_s, b""))
        deliverer.join()

    def _deliver(self, line: queue.Queue[tuple[float, bytes]], sink: socket.socket) -> None:
        while True:
            due, data = line.get()
            time.sleep(max(0.0, due - time.monotonic()))
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)

    def wait(self) -> None:
        """Until both sides have closed."""
        self._main.join(timeout=20)
        assert not self._main.is_alive()
        self._listener.close()


@contextmanager
def importable() -> Iterator[None]:
    """Let a server process import this file."""
    before = os.environ.get("PYTHONPATH")
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.environ["PYTHONPATH"] = root if before is None else f"{root}{os.pathsep}{before}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
