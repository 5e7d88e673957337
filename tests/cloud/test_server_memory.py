"""What a server keeps of streams that are over: nothing, and at once, without Python's search for cycles."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from cloud.fakes import EchoBackend, EnergyDetector, RawClient, tone
from edgespeech.audio.codec import OpusEncoder
from edgespeech.audio.vad import SegmentRule
from edgespeech.cloud import server as server_module
from edgespeech.cloud.access import Tokens, listen
from edgespeech.cloud.limits import Limits
from edgespeech.cloud.protocol import End, Hello, encode, pack_audio
from edgespeech.cloud.session import Done, Job, Recognition
from edgespeech.cloud.worker import Made

HELLO, END = encode(Hello()).encode(), encode(End()).encode()
AUDIO = pack_audio(OpusEncoder().encode(tone(0.5)))
BINARY, CLOSE, PING = 2, 8, 9
LIMITS = Limits(idle_s=0.2, max_streams=2, max_audio_s=5.0)
N_STREAMS = 4


class Detectors:
    """Makes a detector for each stream, and knows how many of them are there: as many as sessions and their audio."""

    def __init__(self) -> None:
        self.made: list[weakref.ref[EnergyDetector]] = []

    def __call__(self) -> EnergyDetector:
        detector = EnergyDetector()
        self.made.append(weakref.ref(detector))
        return detector

    def there(self) -> int:
        return sum(one() is not None for one in self.made)


class ModelHere:
    """A recogniser in this process."""

    def __init__(self, *_: object) -> None:
        self.backend = EchoBackend()

    async def start(self) -> None:
        """It is there."""

    async def run(self, holder: str, job: Job) -> Done:
        assert isinstance(job, Recognition)
        return Done(self.backend.transcribe(job.samples, job.context, job.language), 0.0)

    def close(self) -> None:
        """There is nothing to end."""


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()  # what the server froze


def serve_here(detectors: Detectors, client: Callable[[int], None]) -> None:
    """A server in this process, and a client in a thread, with whose end it ends."""

    def run(port: int) -> None:
        try:
            client(port)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def ready(port: int) -> None:
        threading.Thread(target=run, args=(port,)).start()

    with listen("127.0.0.1", 0, secure=False) as sock:
        backend, tokens = Made("in:this process"), Tokens(["a"])
        serving = server_module._serve(
            *(sock, tokens, backend, None, detectors, LIMITS, SegmentRule(), None, ready)
        )
        asyncio.run(asyncio.wait_for(serving, 60))


def abort(raw: RawClient) -> None:
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.socket.close()


def ends(raw: RawClient) -> None:
    raw.send(END)
    raw.rest()


def closes(raw: RawClient) -> None:
    raw.send(struct.pack(">H", 1000), CLOSE)
    raw.rest()


def sends_no_opus(raw: RawClient) -> None:
    raw.send(pack_audio([b"\xff" * 40]), BINARY)
    raw.rest()


def sends_too_much(raw: RawClient) -> None:
    for _ in range(11):
        raw.send(AUDIO, BINARY)
    raw.rest()


def says_hello_twice(raw: RawClient) -> None:
    raw.send(HELLO)
    raw.rest()


def pings_and_aborts(raw: RawClient) -> None:
    raw.send(b"x", PING)
    abort(raw)


def waits(raw: RawClient) -> None:
    raw.rest()


HOWS = [ends, closes, abort, sends_no_opus, sends_too_much, says_hello_twice, pings_and_aborts, waits]


def test_a_stream_that_is_over_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "ModelProcess", ModelHere)
    monkeypatch.setattr(server_module, "_CLOSE_S", 0.05)  # these clients do not answer a close frame
    detectors = Detectors()
    held: dict[str, int] = {}

    def client(port: int) -> None:
        server: Any = SimpleNamespace(port=port, token="a")
        for how in HOWS:
            for _ in range(N_STREAMS):
                with RawClient(server) as raw:
                    raw.send(HELLO)
                    raw.send(AUDIO, BINARY)
                    how(raw)
            until = time.monotonic() + 5
            while (there := detectors.there()) and time.monotonic() < until:
                time.sleep(0.02)
            held[how.__name__] = there - sum(held.values())

    with no_search_for_cycles():
        serve_here(detectors, client)
    assert len(detectors.made) == 1 + len(HOWS) * N_STREAMS  # the first one before any client comes
    assert held == dict.fromkeys((how.__name__ for how in HOWS), 0)
