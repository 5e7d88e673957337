"""Streams of a server that cost no more than the holders of their tokens may use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, Frame

from edgespeech.cloud.limits import Bucket, RefusedError

if TYPE_CHECKING:
    from edgespeech.cloud.door import Door

_SLICE = 1024
"""Bytes that are parsed at a time: up to 512 messages."""
_BYTES_A_MESSAGE = 100
"""So many bytes count as one more message: a real-time stream of Opus counts as 40 messages a second."""
_MAX_UNSENT = 64 * 1024
"""A client that has to read so much yet, such as answers to pings, is not read from."""


class GuardedConnection(ServerConnection):
    """A connection that is read from as fast as the holder of its token may send.

    websockets itself stops reading only where many whole messages wait; pings, fragments and one-byte messages would
    be parsed as fast as they come.

    Args:
        door: of the server.
        args: as websockets has them, like `kwargs`.
        holder: of the token that it has shown.
        bucket: of the holder.
        request: its opening request, which has come and was found good.
        more: came behind it.

    Attributes:
        holder: of the token that it has shown.
        n_bytes: memory that its messages and its audio take.
        turned_away: is done, with an error, when its place is needed for another one.
    """

    def __init__(
        self, door: Door, *args: Any, holder: str, bucket: Bucket, request: bytes, more: bytes, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._door = door
        self._bucket = bucket
        self._said = request, more
        self._events = 0
        self._waiting = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._deaf = False
        self.holder = holder
        self.n_bytes = 0
        self.turned_away: asyncio.Future[None] = self.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio, or by the opening."""
        super().connection_made(transport)
        request, more = self._said
        super().data_received(request)
        if more:
            self.data_received(more)

    def turn_away(self, error: RefusedError) -> None:
        """Somebody else needs the place."""
        if not self.turned_away.done():
            self.turned_away.set_exception(error)
            self.turned_away.exception()  # where nobody waits for it, it needs no notice

    def hear_no_more(self) -> None:
        """Forget further messages; only what closes the connection counts."""
        self._deaf = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._door.left(self)
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._waiting += data
        if self._timer is None:
            self._feed()

    def process_event(self, event: Any) -> None:
        """Called by websockets for each frame."""
        self._events += 1
        if not (self._deaf and isinstance(event, Frame) and event.opcode in DATA_OPCODES):
            super().process_event(event)

    def _feed(self) -> None:
        """Parse a slice of what came, and go on when the holder may use more."""
        self._timer = None
        wait_s = self._bucket.take(0)
        if not wait_s and self._waiting:
            piece = bytes(self._waiting[:_SLICE])
            del self._waiting[:_SLICE]
            before = self._events
            super().data_received(piece)
            wait_s = self._bucket.take(self._events - before + len(piece) / _BYTES_A_MESSAGE)
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() > _MAX_UNSENT:
            wait_s = max(wait_s, 0.1)
        if wait_s or self._waiting:
            self.transport.pause_reading()
            self._timer = self.loop.call_later(wait_s, self._feed)
        else:
            self.transport.resume_reading()
