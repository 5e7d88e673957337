"""Connections that have not shown a token yet: each costs a socket and a few bytes, and nothing of websockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from edgespeech.cloud.connection import GuardedConnection
from edgespeech.cloud.limits import Bucket

if TYPE_CHECKING:
    from edgespeech.cloud.door import Door

OPEN_S = 5.0
"""So long may a connection take to show its token and come in, and as long the TLS handshake before it."""
_SHUTDOWN_S = 1.0
"""So long may the end of TLS take."""
_MAX_REQUEST = 16 * 1024
"""Most bytes of an opening request."""
_GET = b"GET /"
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """What an opening request asks for; websockets checks the rest of it, once its token is known.

    Attributes:
        path: with the query.
        shown: its `Authorization` headers.
    """

    path: str
    shown: tuple[str, ...]


def asked(request: bytes) -> Asked:
    """Read an opening request, whatever its bytes are."""
    first, *lines = request.decode("latin-1").split("\r\n")
    path = first.split(" ")[1] if " " in first else ""
    headers = (line.partition(":") for line in lines)
    return Asked(
        path, tuple(value.strip(" \t") for name, _, value in headers if name.lower() == "authorization")
    )


class Opening(asyncio.Protocol):
    """A connection up to the end of its opening request, and while it waits in the door's line.

    Args:
        door: of the server.
        make: makes the connection that goes on, of a holder and with his bucket.
    """

    def __init__(self, door: Door, make: Callable[..., GuardedConnection]) -> None:
        self._door = door
        self._make = make
        self._said = self._refusal = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asked = False
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio, or when the handshake is over: what came in its last packet is worked on then."""
        if self._over:
            return
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(OPEN_S, self.turn_off)
        self._door.knocks(self)
        if self._said:
            self._hear(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._door.leaves(self)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._said += data
        if self._transport is not None:
            self._hear(self._transport)

    def _hear(self, transport: asyncio.Transport) -> None:
        if self._asked and len(self._said) <= _MAX_REQUEST:
            transport.pause_reading()  # who sends more while he waits for an answer is read from later
        elif len(self._said) > _MAX_REQUEST:
            told = f"expected a request of at most {_MAX_REQUEST} bytes\n"
            self._door.refuses(self, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, told)
        elif not _GET.startswith(self._said[: len(_GET)]):
            self._door.refuses(self, HTTPStatus.BAD_REQUEST, "expected a WebSocket request\n")
        elif _END in self._said:
            self._asked = True
            self._door.asks(self, asked(self._said.partition(_END)[0]))

    def refuse(self, status: HTTPStatus, told: str, wait_s: float) -> None:
        """Answer with an HTTP error, and close, after so long: who knocks again and again has to wait."""
        assert self._transport is not None
        assert self._timer is not None
        self._timer.cancel()
        self._asked, self._said = True, b""
        self._transport.pause_reading()
        body = told.encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nDate: {formatdate(usegmt=True)}\r\nConnection: close\r\n"
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._refusal = head.encode() + body
        self._timer = asyncio.get_running_loop().call_later(wait_s, self.answer)

    def answer(self) -> None:
        """Send the refusal now."""
        assert self._transport is not None
        assert self._timer is not None
        self._timer.cancel()
        self._transport.write(self._refusal)
        self._transport.close()

    def come_in(self, holder: str, bucket: Bucket) -> GuardedConnection:
        """Go on as a stream of a holder: from here on websockets speaks."""
        assert self._transport is not None
        assert self._timer is not None
        self._timer.cancel()
        connection = self._make(holder=holder, bucket=bucket)
        request, _, more = self._said.partition(_END)
        connection.begin(self._transport, request + _END)
        if more:
            connection.data_received(more)
        return connection

    def turn_off(self) -> None:
        """Its place is needed, or it takes too long."""
        if self._transport is not None:
            self._transport.abort()


class Handshake(asyncio.Protocol):
    """A connection whose TLS handshake is in progress: it counts among those that have not shown a token.

    asyncio tells a server of a connection when its handshake is over: till then nobody would count it.

    Args:
        door: of the server.
        tls: what to offer.
        opening: what goes on once the handshake is over.
    """

    def __init__(self, door: Door, tls: ssl.SSLContext, opening: Opening) -> None:
        self._door, self._tls, self._opening = door, tls, opening
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
                transport,
                self._opening,
                self._tls,
                server_side=True,
                ssl_handshake_timeout=OPEN_S,
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
        except OSError:  # ssl.SSLError is one, and so are a reset and a handshake that takes too long
            transport.abort()
            return
        finally:
            self._door.leaves(self)
        if encrypted is None:  # the client has gone
            transport.abort()
            return
        self._opening.connection_made(encrypted)


def arrival(door: Door, tls: ssl.SSLContext | None, *args: Any, **kwargs: Any) -> Opening | Handshake:
    """What answers a new connection: its opening, or its handshake before it. Further arguments are websockets'."""
    opening = Opening(door, partial(GuardedConnection, door, *args, **kwargs))
    return opening if tls is None else Handshake(door, tls, opening)
