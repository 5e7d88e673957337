"""Who comes in to a server and when: counted in turns of the event loop, not in seconds."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloud.fakes import BACKEND, DETECTOR, Clock, EnergyDetector, RawClient, ask, importable, texts, tone
from edgespeech.audio.vad import SegmentRule
from edgespeech.cloud import door as door_module
from edgespeech.cloud import server as server_module
from edgespeech.cloud.access import Tokens, listen
from edgespeech.cloud.door import OPENING_COST, Door
from edgespeech.cloud.limits import Limits
from edgespeech.cloud.opening import ACCEPTS, MAX_REQUEST, Asked, Opening, asked
from edgespeech.cloud.process import ServerProcess
from edgespeech.cloud.protocol import PATH

TOKENS = Tokens(["a", "b", "c"])
REQUEST = f"GET {PATH}?trace=1 HTTP/1.1\r\nAuthorization: Bearer a\r\n\r\n".encode()


class Stream:
    """What comes of a visitor who is let in."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.error: Exception | None = None

    def turn_away(self, error: Exception) -> None:
        self.error = error


class Visitor(Opening):
    """Shows a token, and notes what becomes of it."""

    def __init__(self, scene: Scene, token: str) -> None:
        super().__init__(scene.door, lambda **_: None)  # type: ignore[arg-type]  # never called
        self.scene = scene
        self.token = token
        self.stream: Stream | None = None
        self.status: HTTPStatus | None = None
        self.answered = self.paused = False

    def asks(self) -> None:
        self.scene.door.knocks(self)
        self.scene.door.asks(self, Asked(PATH, (f"Bearer {self.token}",)))

    def come_in(self, holder: str, bucket: Any) -> Any:
        self.scene.order.append(self.token)
        self.scene.turns.append(self.scene.turn)
        self.stream = Stream(holder)
        return self.stream

    def refuse(self, status: HTTPStatus, told: str, wait_s: float) -> None:
        assert wait_s == self.scene.limits.refusal_s
        self.status = status

    def answer(self) -> None:
        self.answered = True

    def turn_off(self) -> None:
        raise AssertionError

    def _pause(self) -> None:
        self.paused = True

    _send_last = _go_on = turn_off  # type: ignore[assignment]  # never called


class Scene:
    """A door, and the turns of the event loop in which somebody comes in."""

    def __init__(self, **limits: float) -> None:
        self.limits = Limits(**limits)  # type: ignore[arg-type]  # some are whole numbers
        self.door = Door(self.limits, TOKENS, (PATH,))
        self.order: list[str] = []
        self.turns: list[int] = []
        self.turn = 0

    def visitors(self, tokens: str) -> list[Visitor]:
        made = [Visitor(self, token) for token in tokens]
        for visitor in made:
            visitor.asks()
        return made

    async def until(self, done: Callable[[], bool]) -> None:
        """Let turns pass."""
        async with asyncio.timeout(20):
            while True:
                self.turn += 1
                await asyncio.sleep(0)
                if done():
                    return


def test_one_comes_in_each_turn_and_holders_alternate() -> None:
    async def run() -> None:
        scene = Scene()
        scene.visitors("aaaaabbc")
        await scene.until(lambda: len(scene.order) == 8)
        assert scene.order == list("abcabaaa")
        assert len(set(scene.turns)) == 8

    asyncio.run(run())


def test_who_opens_more_than_he_may_waits_and_nobody_else(clock: Clock) -> None:
    async def run() -> None:
        scene = Scene(burst=2 * OPENING_COST, messages_per_s=0.01)  # no timer fires while this runs
        scene.visitors("aaaaa")
        await scene.until(lambda: len(scene.order) == 3)  # the last one on credit
        clock.now += 100 * (OPENING_COST - 1)  # not enough for one more
        for n, token in enumerate("bcb", 4):
            await scene.until(lambda: scene.turn % 10 == 0)  # the door waits for the first one alone
            scene.visitors(token)
            await scene.until(lambda n=n: len(scene.order) == n)  # type: ignore[misc]  # its default has no type
        assert scene.order == list("aaabcb")
        clock.now += 100
        scene.visitors("c")
        await scene.until(lambda: len(scene.order) == 8)
        assert sorted(scene.order[6:]) == ["a", "c"]

    asyncio.run(run())


def test_who_leaves_is_in_no_line() -> None:
    async def run() -> None:
        scene = Scene()
        gone, *_ = scene.visitors("aba")
        scene.door.leaves(gone)
        (alone,) = scene.visitors("c")
        scene.door.leaves(alone)
        await scene.until(lambda: len(scene.order) == 2)
        assert sorted(scene.order) == ["a", "b"]
        assert gone.stream is alone.stream is None

    asyncio.run(run())


def test_a_holder_with_fewer_streams_gets_a_place() -> None:
    async def run() -> None:
        scene = Scene(max_streams=4)
        taken = scene.visitors("aaaa")
        await scene.until(lambda: len(scene.order) == 4)
        (more,) = scene.visitors("a")
        assert more.status is HTTPStatus.SERVICE_UNAVAILABLE
        scene.visitors("b")
        await scene.until(lambda: len(scene.order) == 5)
        assert [one.stream is not None and one.stream.error is not None for one in taken] == [
            *(True, False, False, False)
        ]

    asyncio.run(run())


def test_lines_are_no_longer_than_there_are_places() -> None:
    async def run() -> None:
        scene = Scene(max_streams=4)
        first = scene.visitors("aaaaaa")
        assert [one.status for one in first] == [*[None] * 4, *[HTTPStatus.SERVICE_UNAVAILABLE] * 2]
        await scene.until(lambda: len(scene.order) == 4)

    asyncio.run(run())


def test_refusals_wait_and_the_oldest_is_answered_where_they_are_many() -> None:
    async def run() -> None:
        scene = Scene(max_refused=2)
        refused = scene.visitors("xxx")
        assert {one.status for one in refused} == {HTTPStatus.UNAUTHORIZED}
        assert [one.answered for one in refused] == [True, False, False]
        for one in refused:
            scene.door.leaves(one)
        assert not any(one.answered for one in scene.visitors("xx"))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("request_", "path", "shown"),
    [
        (b"GET /a?b=1 HTTP/1.1\r\nauthorization:  Bearer t \r\nX: y", "/a?b=1", ("Bearer t",)),
        (b"GET /a HTTP/1.1\r\nAuthorization: a\r\nAuthorization: b", "/a", ("a", "b")),
        (b"GET /a HTTP/1.1\r\nX: Authorization: b", "/a", ()),
        (b"GET", "", ()),
        (b"", "", ()),
        (bytes(range(256)), None, ()),
    ],
)
def test_what_a_request_asks_for(request_: bytes, path: str | None, shown: tuple[str, ...]) -> None:
    found = asked(request_)
    assert path is None or found.path == path
    assert found.shown == shown


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ([b"GET /" + b"a" * MAX_REQUEST], HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        ([REQUEST + bytes(MAX_REQUEST)], HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        ([REQUEST, bytes(MAX_REQUEST)], HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        ([b"no request"], HTTPStatus.BAD_REQUEST),
        ([b"GET /v2 HTTP/1.1\r\n\r\n"], HTTPStatus.NOT_FOUND),
        ([b"G", REQUEST[1:9], REQUEST[9:-1], REQUEST[-1:]], None),
        ([REQUEST, b"more"], None),
    ],
)
def test_what_is_refused_before_it_comes_in(said: list[bytes], status: HTTPStatus | None) -> None:
    async def run() -> None:
        scene = Scene()
        visitor = Visitor(scene, "a")
        scene.door.knocks(visitor)
        for part in said:
            visitor._hear(part)
        assert visitor.status is status
        scene.visitors("b")
        await scene.until(lambda: "b" in scene.order and (status is not None or len(scene.order) == 2))
        assert ("a" in scene.order) == (status is None)
        assert visitor.paused == (said[-1] == b"more")

    asyncio.run(run())


def test_strangers_wait_for_their_refusal_and_others_do_not() -> None:
    limits = Limits(refusal_s=3600.0, max_refused=2)
    with importable(), ServerProcess(backend=BACKEND, detector=DETECTOR, limits=limits) as server:
        strangers: list[socket.socket] = []
        for said in (b"GET /else HTTP/1.1\r\n\r\n", b"GET /v1/recognise HTTP/1.1\r\n\r\n", b"no request\r\n"):
            strangers.append(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            strangers[-1].sendall(said)
        assert strangers[0].recv(1000).startswith(b"HTTP/1.1 404 ")  # the third one made room for itself
        assert texts(ask(server, tone(0.5))) == ["heard 0.5 en"]
        assert select.select(strangers[1:], [], [], 0)[0] == []
        with RawClient(server, server.token) as raw:
            assert raw.head.startswith(b"HTTP/1.1 101")
        for one in strangers:
            one.close()


def test_a_turn_accepts_few_and_the_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = 0
    knocked: Counter[int] = Counter()
    clients: list[socket.socket] = []
    n_clients = 4 * ACCEPTS

    class Counting(Door):
        def knocks(self, visitor: Any) -> None:
            knocked[turn] += 1
            super().knocks(visitor)

    def connect(port: int, count: int) -> None:
        # The event loop stands still: the system alone answers, and for as many as may wait.
        clients.extend(socket.create_connection(("127.0.0.1", port), timeout=0.9) for _ in range(count))

    def count() -> None:
        nonlocal turn
        turn += 1
        if sum(knocked.values()) == n_clients:
            os.kill(os.getpid(), 15)
        else:
            asyncio.get_running_loop().call_soon(count)

    def ready(port: int) -> None:
        connect(port, n_clients - len(clients))
        count()

    monkeypatch.setattr(door_module, "Door", Counting)
    limits, tls = Limits(max_opening=2 * n_clients), None
    with listen("127.0.0.1", 0, secure=False) as sock:
        connect(sock.getsockname()[1], 5)  # who comes before the server is ready waits for it
        serving = server_module._serve(
            sock, TOKENS, None, None, EnergyDetector, limits, SegmentRule(), tls, ready
        )
        asyncio.run(asyncio.wait_for(serving, 60))
    for client in clients:
        client.close()
    assert sum(knocked.values()) == n_clients
    assert max(knocked.values()) <= ACCEPTS


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
def test_decoding_gives_way_to_the_event_loop() -> None:
    with importable(), ServerProcess(backend=BACKEND, detector=DETECTOR) as server:
        assert texts(ask(server, tone(0.5))) == ["heard 0.5 en"]
        own = psutil.Process(server.pid).nice()
        threads = Path(f"/proc/{server.pid}/task").glob("*/stat")
        nices = [int(one.read_text().rpartition(")")[2].split()[16]) for one in threads]
        assert max(nices) == min(19, own + server_module._DECODER_NICE)
        assert nices.count(max(nices)) == 1
