"""Shares of time, places and memory, without sockets."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cloud.fakes import Clock
from edgespeech.cloud.limits import Bucket, FairTurns, FewLines, Limits
from edgespeech.errors import EdgeSpeechError


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_limits_out_of_range(value: float) -> None:
    with pytest.raises(EdgeSpeechError, match=r"server limits: idle_s is .*, expected above 0, and finite"):
        Limits(idle_s=value)


@asynccontextmanager
async def turn(turns: FairTurns, user: str, used_s: float | None = None) -> AsyncIterator[None]:
    await turns.enter(user)
    try:
        yield
    finally:
        turns.leave(user, used_s)


def test_a_turn_counts_as_what_was_used_and_not_as_what_passed() -> None:
    order: list[str] = []

    async def user(turns: FairTurns, name: str) -> None:
        async with turn(turns, name):
            order.append(name)

    async def all_of_them() -> None:
        turns = FairTurns()
        async with turn(turns, "delayed", used_s=0.001):
            await asyncio.sleep(0.1)
        async with turn(turns, "busy", used_s=0.05):
            pass
        await turns.enter("first")
        waiting = [asyncio.create_task(user(turns, name)) for name in ("busy", "delayed")]
        await asyncio.sleep(0.01)
        turns.leave("first")
        await asyncio.gather(*waiting)

    asyncio.run(all_of_them())
    assert order == ["delayed", "busy"]


def test_who_has_used_least_is_next() -> None:
    order: list[str] = []

    async def user(turns: FairTurns, name: str, length_s: float, count: int) -> None:
        for _ in range(count):
            async with turn(turns, name):
                order.append(name)
                await asyncio.sleep(length_s)

    async def all_of_them() -> None:
        turns = FairTurns()
        greedy = [asyncio.create_task(user(turns, "greedy", 0.03, 4)) for _ in range(5)]
        await asyncio.sleep(0.01)
        await user(turns, "modest", 0.001, 4)
        for task in greedy:
            task.cancel()

    asyncio.run(all_of_them())
    # However many wait, whoever asks for little is next after the turn that goes on.
    assert order == ["greedy", *["modest"] * 4] or order == ["greedy", "modest"] * 4


def test_use_is_forgotten(clock: Clock) -> None:
    async def scene() -> list[str]:
        turns, order = FairTurns(), []

        async def use(name: str, length_s: float) -> None:
            async with turn(turns, name):
                order.append(name)
                clock.now += length_s

        await use("long ago", 10.0)
        clock.now += 4 * FairTurns.HALF_LIFE_S
        await use("of late", 1.0)
        async with turn(turns, "x"):
            waiting = [
                asyncio.create_task(use(name, 0.3)) for name in ("of late", "long ago", "of late", "long ago")
            ]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        return order[2:]

    assert asyncio.run(scene()) == ["long ago", "long ago", "of late", "of late"]


def test_turns_go_on_when_those_who_wait_leave() -> None:
    async def scene() -> bool:
        turns = FairTurns()
        await turns.enter("a")
        leaving = [asyncio.create_task(turns.enter("b")) for _ in range(3)]
        staying = asyncio.create_task(turns.enter("c"))
        await asyncio.sleep(0)
        leaving[0].cancel()  # before its turn
        turns.leave("a")
        leaving[1].cancel()  # its turn is given, and it does not know yet
        await asyncio.sleep(0.01)
        leaving[2].cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        if leaving[2].done() and not leaving[2].cancelled():
            turns.leave("b")
        async with asyncio.timeout(1):
            await staying
        turns.leave("c")
        async with asyncio.timeout(1), turn(turns, "d"):
            return True

    assert asyncio.run(scene())


def test_a_bucket(clock: Clock) -> None:
    bucket = Bucket(rate=10, burst=5)
    assert bucket.take(5) == 0
    assert bucket.take(1) == pytest.approx(0.1)
    clock.now = 0.1
    assert bucket.take(0) == 0
    clock.now = 1000.0
    assert bucket.take(5) == 0  # no more than the burst
    assert bucket.take(20) == pytest.approx(2.0)


def test_log_lines_are_counted_where_they_are_too_many(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("edgespeech.test")
    few = FewLines(per_s=1, burst=3)
    log.addFilter(few)
    try:
        for number in range(100):
            log.warning("line %d", number)
        shown = len(caplog.messages)
        assert 3 <= shown <= 5
        clock.now = 10.0
        log.warning("later")
        assert caplog.messages[shown] == f"({100 - shown} lines left out) later"
    finally:
        log.removeFilter(few)
    assert time.monotonic() > 0
