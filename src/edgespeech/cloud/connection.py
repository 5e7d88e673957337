"""Connections of a server that cost no more than their clients may use, before and after they have shown a token."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from enum import Enum
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, Frame

from edgespeech.cloud.limits import TRY_LATER, Bucket, Limits, RefusedError

_MAX_REQUEST = 16 * 1024
"""Most bytes of an opening request."""
_SLICE = 1024
"""Bytes that are parsed at a time: up to 512 messages."""
_BYTES_A_MESSAGE = 100
"""So many bytes count as one more message: a real-time stream of Opus counts as 40 messages a second."""
_MAX_UNSENT = 64 * 1024
"""A client that has to read so much yet, such as answers to pings, is not read from."""


HANDSHAKE_S = 5.0
"""Longest TLS handshake."""
_PATIENCE_S = 1.0
"""A connection that has not shown a token for so long gives way first."""


class _Stage(Enum):
    BEFORE, MADE, OVER = range(3)


class GuardedConnection(ServerConnection):
    """A connection that is read from as fast as the holder of its token may send.

    websockets itself stops reading only where many whole messages wait; pings, fragments and one-byte messages would
    be parsed as fast as they come.

    Attributes:
        holder: of the token that it has shown, or None.
        turned_away: is done, with an error, when its place is needed for another one.
    """

    def __init__(self, door: Door, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._door = door
        self._received = 0
        self._events = 0
        self._waiting = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._bucket: Bucket | None = None
        self._deaf = False
        self._stage = _Stage.BEFORE
        self._early = bytearray()
        self.holder: str | None = None
        self.n_bytes = 0
        self.turned_away: asyncio.Future[None] = self.loop.create_future()

    def admit(self, holder: str, bucket: Bucket) -> None:
        """It has shown the token of a holder."""
        self.holder = holder
        self._bucket = bucket

    def turn_away(self, error: RefusedError) -> None:
        """Its place is needed."""
        if not self.turned_away.done():
            self.turned_away.set_exception(error)
            self.turned_away.exception()  # where nobody waits for it, it needs no notice

    def turn_off(self) -> None:
        """Its place is needed, and it has not shown a token yet."""
        self.transport.abort()

    def hear_no_more(self) -> None:
        """Forget further messages; only what closes the connection counts."""
        self._deaf = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio, or when the handshake is over: what came in its last packet is worked on then."""
        if self._stage is _Stage.OVER:
            return
        self._stage = _Stage.MADE
        super().connection_made(transport)
        self._door.knocks(self)
        if self._early:
            early, self._early = bytes(self._early), bytearray()
            self.data_received(early)

    def eof_received(self) -> None:
        """Called by asyncio."""
        if self._stage is _Stage.MADE:
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        made, self._stage = self._stage is _Stage.MADE, _Stage.OVER
        if not made:
            return
        self._door.leaves(self)
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._stage is _Stage.BEFORE:
            self._early += data
            return
        if self._bucket is None:
            self._received += len(data)
            if self._received > _MAX_REQUEST:
                self.transport.abort()
            else:
                super().data_received(data)
            return
        self._waiting += data
        if self._timer is None:
            self._feed(self._bucket)

    def process_event(self, event: Any) -> None:
        """Called by websockets for each frame."""
        self._events += 1
        if not (self._deaf and isinstance(event, Frame) and event.opcode in DATA_OPCODES):
            super().process_event(event)

    def _feed(self, bucket: Bucket) -> None:
        """Parse a slice of what came, and go on when the holder may use more."""
        self._timer = None
        wait_s = bucket.take(0)
        if not wait_s and self._waiting:
            piece = bytes(self._waiting[:_SLICE])
            del self._waiting[:_SLICE]
            before = self._events
            super().data_received(piece)
            wait_s = bucket.take(self._events - before + len(piece) / _BYTES_A_MESSAGE)
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() > _MAX_UNSENT:
            wait_s = max(wait_s, 0.1)
        if wait_s or self._waiting:
            self.transport.pause_reading()
            self._timer = self.loop.call_later(wait_s, self._feed, bucket)
        else:
            self.transport.resume_reading()


class Handshake(asyncio.Protocol):
    """A connection whose TLS handshake is in progress: it counts among those that have not shown a token.

    asyncio tells a server of a connection when its handshake is over: till then nobody would count it.

    Args:
        door: of the server.
        tls: what to offer.
        connection: what speaks once the handshake is over.
    """

    def __init__(self, door: Door, tls: ssl.SSLContext, connection: GuardedConnection) -> None:
        self._door, self._tls, self._connection = door, tls, connection
        self._task: asyncio.Task[None] | None = None
        self._plain: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._plain = transport
        transport.pause_reading()  # until `start_tls` reads
        self._door.knocks(self)
        self._task = asyncio.get_running_loop().create_task(self._shake_hands(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._door.leaves(self)

    def turn_off(self) -> None:
        """Its place is needed."""
        if self._task is not None:
            self._task.cancel()
        if self._plain is not None:
            self._plain.abort()

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                transport, self._connection, self._tls, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError:  # ssl.SSLError is one, and so are a reset and a handshake that takes too long
            transport.abort()
            return
        finally:
            self._door.leaves(self)
        if encrypted is None:  # the client has gone
            transport.abort()
            return
        self._connection.connection_made(encrypted)


def arrival(
    door: Door, tls: ssl.SSLContext | None, *args: Any, **kwargs: Any
) -> GuardedConnection | Handshake:
    """What answers a new connection: itself, or its handshake before it. Further arguments are those of websockets."""
    connection = GuardedConnection(door, *args, **kwargs)
    return connection if tls is None else Handshake(door, tls, connection)


class Door:
    """Who is in and who comes next: places and memory, shared fairly among the holders of tokens.

    Args:
        limits: of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._opening: dict[GuardedConnection | Handshake, float] = {}  # since when, oldest first
        self._streams: dict[GuardedConnection, None] = {}  # an ordered set, oldest first
        self._buckets: dict[str, Bucket] = {}

    def knocks(self, connection: GuardedConnection | Handshake) -> None:
        """A connection is made, and nothing known of it."""
        now = time.monotonic()
        if len(self._opening) >= self._limits.max_opening:
            oldest, since = next(iter(self._opening.items()))
            if now - since < _PATIENCE_S:  # so many at once: any of them, lest it be who has just come
                oldest = random.choice(list(self._opening))
            del self._opening[oldest]
            oldest.turn_off()
        self._opening[connection] = now

    def leaves(self, connection: GuardedConnection | Handshake) -> None:
        """A connection is gone, whatever it was, or its handshake is over."""
        self._opening.pop(connection, None)
        if isinstance(connection, GuardedConnection):
            self._streams.pop(connection, None)

    def enters(self, connection: GuardedConnection, holder: str) -> bool:
        """A connection has shown the token of a holder; returns whether there is a place for it."""
        self._opening.pop(connection, None)
        if len(self._streams) >= self._limits.max_streams:
            most = self._most(lambda _: 1)
            if self._of(most, lambda _: 1) <= self._of(holder, lambda _: 1) + 1:
                return False
            oldest = next(stream for stream in self._streams if stream.holder == most)
            del self._streams[oldest]
            oldest.turn_away(
                RefusedError("server: another one's turn, since all places are taken", TRY_LATER)
            )
        self._streams[connection] = None
        limits = self._limits
        bucket = self._buckets.setdefault(holder, Bucket(limits.messages_per_s, limits.burst))
        connection.admit(holder, bucket)
        return True

    def close(self) -> None:
        """Nobody comes in any more: end the handshakes in progress."""
        for connection in list(self._opening):
            if isinstance(connection, Handshake):
                connection.turn_off()

    def weigh(self, connection: GuardedConnection, n_bytes: int) -> None:
        """A connection's messages and audio take so much memory."""
        connection.n_bytes = n_bytes
        if sum(stream.n_bytes for stream in self._streams) > self._limits.max_buffered_bytes:
            most = self._most(lambda stream: stream.n_bytes)
            largest = max(
                (stream for stream in self._streams if stream.holder == most), key=lambda one: one.n_bytes
            )
            del self._streams[largest]
            largest.turn_away(
                RefusedError("server: too much audio waits, of all streams together", TRY_LATER)
            )

    def _most(self, weight: Callable[[GuardedConnection], int]) -> str:
        """The holder whose streams weigh most."""
        holders = {stream.holder for stream in self._streams if stream.holder is not None}
        return max(holders, key=lambda holder: self._of(holder, weight))

    def _of(self, holder: str, weight: Callable[[GuardedConnection], int]) -> int:
        return sum(weight(stream) for stream in self._streams if stream.holder == holder)
