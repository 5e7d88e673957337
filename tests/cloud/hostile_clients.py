"""Clients that mean harm, one kind a function: with a valid token (`HOLDERS`) and without one (`STRANGERS`).

Each does its harm once and returns; `attack` repeats them, many at a time, for a bounded time, on loopback only.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from edgespeech.audio.codec import OpusEncoder
from edgespeech.cloud.protocol import PATH, RESCORE_PATH, End, Hello, encode, pack_audio, pack_request
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.lattice.codec import Vocabulary
from edgespeech.lattice.codec import encode as lattice_message
from edgespeech.lattice.lattice import Arc, Final, Lattice

_TEXT, _BINARY, _PING = 1, 2, 9
_PAUSE_S = 0.2
"""Of a client between two attempts."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is attacked, and with what.

    Attributes:
        port: on 127.0.0.1.
        tokens: of the attackers; none for strangers.
        vocabulary: of the server's lattices.
        long_audio: messages of the longest utterance.
    """

    port: int
    tokens: tuple[str, ...]
    vocabulary: Vocabulary
    long_audio: tuple[bytes, ...] = ()


class Raw:
    """A connection that has sent its opening request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, payload: bytes, opcode: int = _BINARY) -> None:
        """One masked frame, the key being zero."""
        n = len(payload)
        length = bytes([0x80 | n]) if n < 126 else bytes([0x80 | 126]) + n.to_bytes(2, "big")
        await self.write(bytes([0x80 | opcode]) + length + bytes(4) + payload)

    async def write(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def rest(self, most_s: float = 10.0) -> None:
        """Read until the server closes, but not for ever."""
        async with asyncio.timeout(most_s):
            while await self._reader.read(65536):
                pass

    def leave(self) -> None:
        """Be gone without a word."""
        self._writer.transport.abort()


def _request(path: str, token: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


async def _open(target: Target, path: str, token: str, rng: random.Random) -> Raw:
    del rng
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    raw = Raw(reader, writer)
    try:
        await raw.write(_request(path, token))
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head.splitlines()[0]:
            raise ConnectionError("refused")
    except BaseException:
        raw.leave()
        raise
    return raw


Kind = Callable[[Target, str, random.Random], Awaitable[None]]


def _heavy(target: Target, rng: random.Random) -> bytes:
    """As much work as a lattice may be: 400 arcs of the longest known words."""
    words = sorted(target.vocabulary.words, key=len)[-2000:] or [
        "abcdefghij" + letter for letter in "klmnopqrst"
    ]
    arcs = [
        Arc(node, node + 1, word, -rng.random(), start=node, end=node + 1)
        for node in range(40)
        for word in sorted(rng.sample(words, 10))
    ]
    return lattice_message(Lattice(tuple(arcs), (Final(40),)), target.vocabulary)


def _long_words(target: Target, rng: random.Random) -> bytes:
    words = ("".join(rng.choices("abcdefghijklmnopqrstuvwxyz'", k=250)) for _ in range(8))
    arcs = [Arc(node, node + 1, word, -1.0, start=node, end=node + 1) for node, word in enumerate(words)]
    return lattice_message(Lattice(tuple(arcs), (Final(8),)), target.vocabulary)


def _damaged(target: Target, rng: random.Random) -> bytes:
    """A right checksum over a body that is no lattice."""
    told = bytes([1]) + target.vocabulary.sha256[:2] + rng.randbytes(rng.randint(1, 300))
    return told + crc32(told, crc32(target.vocabulary.sha256)).to_bytes(4, "little")


def _lattices(make: Callable[[Target, random.Random], bytes], *, reads: bool, count: int = 1) -> Kind:
    async def client(target: Target, token: str, rng: random.Random) -> None:
        raw = await _open(target, RESCORE_PATH, token, rng)
        try:
            for revision in range(count):
                await raw.send(pack_request(revision, make(target, rng)))
            if reads:
                await raw.rest()
            else:
                await asyncio.sleep(rng.random())
        finally:
            raw.leave()

    return client


def _audio(
    messages: Callable[[Target, random.Random], list[bytes]], *, reads: bool, pause_s: float = 0.0
) -> Kind:
    async def client(target: Target, token: str, rng: random.Random) -> None:
        raw = await _open(target, PATH, token, rng)
        try:
            await raw.send(encode(Hello()).encode(), _TEXT)
            for message in messages(target, rng):
                await raw.send(message)
                await asyncio.sleep(pause_s)
            await raw.send(encode(End()).encode(), _TEXT)
            if reads:
                await raw.rest()
        finally:
            raw.leave()

    return client


def _flood(payload: bytes, opcode: int) -> Kind:
    async def client(target: Target, token: str, rng: random.Random) -> None:
        raw = await _open(target, PATH, token, rng)
        try:
            frame = bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload
            async with asyncio.timeout(10):
                while True:
                    await raw.write(frame * 500)
        finally:
            raw.leave()

    return client


def _noise_messages(target: Target, rng: random.Random) -> list[bytes]:
    return list(target.long_audio)


def _garbage_opus(target: Target, rng: random.Random) -> list[bytes]:
    return [pack_audio([rng.randbytes(rng.randint(1, 60)) for _ in range(5)]) for _ in range(20)]


HOLDERS: dict[str, Kind] = {
    "lattices of as much work as is allowed": _lattices(_heavy, reads=True, count=3),
    "the same, and gone at once": _lattices(_heavy, reads=False),
    "lattices of words of 250 letters": _lattices(_long_words, reads=True),
    "random bytes as lattices": _lattices(lambda _, rng: rng.randbytes(rng.randint(1, 400)), reads=True),
    "damaged lattices with a right checksum": _lattices(_damaged, reads=True),
    "random bytes as Opus": _audio(_garbage_opus, reads=True),
    "the longest audio at once": _audio(_noise_messages, reads=True),
    "the longest audio, and gone at its end": _audio(_noise_messages, reads=False),
    "one message in 5 s": _audio(lambda target, _: list(target.long_audio[:10]), reads=True, pause_s=5.0),
    "messages of one byte": _flood(b"x", _BINARY),
    "pings, and never reading": _flood(b"x" * 125, _PING),
}


async def _wrong_token(target: Target, token: str, rng: random.Random) -> None:
    await _open(target, RESCORE_PATH, "wrong", rng)


async def _wrong_token_and_gone(target: Target, token: str, rng: random.Random) -> None:
    """The server cannot slow it down by an answer that comes late: it waits for none."""
    _, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(_request(RESCORE_PATH, "wrong"))
    await asyncio.sleep(_PAUSE_S * rng.random())
    writer.transport.abort()


async def _wrong_path(target: Target, token: str, rng: random.Random) -> None:
    await _open(target, "/" + "a" * 4000, "wrong", rng)


def _sends(content: Callable[[random.Random], bytes], hold_s: float, drip_s: float = 0.0) -> Kind:
    async def client(target: Target, token: str, rng: random.Random) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        raw = Raw(reader, writer)
        try:
            said = content(rng)
            for part in [said[i : i + 1] for i in range(len(said))] if drip_s else [said]:
                await raw.write(part)
                await asyncio.sleep(drip_s)
            await raw.rest(hold_s)
        finally:
            raw.leave()

    return client


_LONG_HEADERS = b"GET / HTTP/1.1\r\n" + b"".join(b"A: " + b"a" * 8000 + b"\r\n" for _ in range(100))
STRANGERS: dict[str, Kind] = {
    "a wrong token": _wrong_token,
    "connections that say nothing": _sends(lambda _: b"", 20.0),
    "a request byte by byte": _sends(lambda _: b"GET /v1/rescore HTTP/1.1\r\nHost: a\r\n", 5.0, 0.5),
    "random bytes as a request": _sends(lambda rng: rng.randbytes(2000), 5.0),
    "headers without end": _sends(lambda _: _LONG_HEADERS, 5.0),
    "a wrong path": _wrong_path,
    "a wrong token, and gone at once": _wrong_token_and_gone,
}


def long_audio(seconds: float) -> tuple[bytes, ...]:
    """Messages of noise that sounds like speech to a detector of energy."""
    rng = np.random.default_rng(0)
    samples = np.float32(0.3) * rng.standard_normal(round(seconds * SAMPLE_RATE)).astype(np.float32)
    packets = OpusEncoder().encode(np.clip(samples, -1, 1))
    return tuple(pack_audio(packets[i : i + 50]) for i in range(0, len(packets), 50))


def attack(target: Target, kinds: list[tuple[str, int]], seconds: float, nice: int) -> None:
    """Attack for so long: of each kind, by its name, so many clients at a time. The main function of a process."""
    os.nice(nice)
    asyncio.run(_attack(target, kinds, seconds))


async def _attack(target: Target, kinds: list[tuple[str, int]], seconds: float) -> None:
    async def client(kind: Kind, number: int) -> None:
        rng = random.Random(number)
        token = target.tokens[number % len(target.tokens)]
        while True:
            with suppress(OSError, EOFError, asyncio.LimitOverrunError):  # a TimeoutError is an OSError
                await kind(target, token, rng)
            await asyncio.sleep(_PAUSE_S * (0.5 + rng.random()))

    known = HOLDERS | STRANGERS
    numbers = iter(range(10**6))
    tasks = [
        asyncio.create_task(client(known[name], next(numbers))) for name, count in kinds for _ in range(count)
    ]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
