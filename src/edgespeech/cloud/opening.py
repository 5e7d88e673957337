"""Connections that have not shown a token yet: each costs a socket and a few bytes, and nothing of websockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from edgespeech.cloud.connection import GuardedConnection
    from edgespeech.cloud.door import Door
    from edgespeech.cloud.limits import Bucket

OPEN_S = 5.0
"""So long may a connection take to show its token and come in, and as long the TLS handshake before it."""
_SHUTDOWN_S = 1.0
"""So long may the end of TLS take."""
MAX_REQUEST = 16 * 1024
"""Most bytes of an opening request."""
ACCEPTS = 32
"""Most connections that a turn of the event loop accepts; others wait in the system."""
_ACCEPT_AGAIN_S = 0.1
_GET = b"GET /"
_END = b"\r\n\r\n"
_log = logging.getLogger(__name__)


class Make(Protocol):
    """Makes the stream of a connection that comes in."""

    def __call__(self, *, holder: str, bucket: Bucket, request: bytes, more: bytes) -> GuardedConnection:
        """As `GuardedConnection` takes them."""
        ...


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


class Opening(ABC):
    """A connection up to the end of its opening request, and while it waits: in the door's line, or to be refused.

    Args:
        door: of the server.
        make: makes the stream that goes on.
    """

    def __init__(self, door: Door, make: Make) -> None:
        self._door = door
        self._make = make
        self._said = b""
        self._refusal: tuple[HTTPStatus, str] | None = None
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None

    def _begin(self) -> None:
        """It can be heard and answered now."""
        self._timer = asyncio.get_running_loop().call_later(OPEN_S, self.turn_off)
        self._door.knocks(self)

    def _over(self) -> None:
        """It is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._door.leaves(self)

    def _hear(self, data: bytes) -> None:
        self._said += data
        if self._asked and len(self._said) <= MAX_REQUEST:
            self._pause()  # who sends more while he waits for an answer is read from later
        elif len(self._said) > MAX_REQUEST:
            told = f"expected a request of at most {MAX_REQUEST} bytes\n"
            self._door.refuses(self, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, told)
        elif not _GET.startswith(self._said[: len(_GET)]):
            self._door.refuses(self, HTTPStatus.BAD_REQUEST, "expected a WebSocket request\n")
        elif _END in self._said:
            self._asked = True
            self._door.asks(self, asked(self._said.partition(_END)[0]))

    def refuse(self, status: HTTPStatus, told: str, wait_s: float) -> None:
        """Answer with an HTTP error, and close, after so long: who knocks again and again has to wait."""
        assert self._timer is not None
        self._timer.cancel()
        self._asked, self._said = True, b""
        self._pause()
        self._refusal = status, told
        self._timer = asyncio.get_running_loop().call_later(wait_s, self.answer)

    def answer(self) -> None:
        """Send the refusal now."""
        assert self._timer is not None
        assert self._refusal is not None
        self._timer.cancel()
        status, told = self._refusal
        body = told.encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nDate: {formatdate(usegmt=True)}\r\nConnection: close\r\n"
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._send_last(head.encode() + body)

    def come_in(self, holder: str, bucket: Bucket) -> GuardedConnection:
        """Go on as a stream of a holder: from here on websockets speaks."""
        assert self._timer is not None
        self._timer.cancel()
        request, _, more = self._said.partition(_END)
        connection = self._make(holder=holder, bucket=bucket, request=request + _END, more=more)
        self._go_on(connection)
        return connection

    @abstractmethod
    def turn_off(self) -> None:
        """Somebody else needs the place, or it takes too long."""

    @abstractmethod
    def _pause(self) -> None:
        """Hear nothing for now."""

    @abstractmethod
    def _send_last(self, content: bytes) -> None:
        """Send so much, and close."""

    @abstractmethod
    def _go_on(self, connection: GuardedConnection) -> None:
        """Leave the socket to a stream."""


class PlainOpening(Opening):
    """On a bare socket: a transport of asyncio costs three times as much, and strangers may be many.

    Args:
        door: of the server.
        make: makes the stream that goes on.
        sock: has just been accepted.
    """

    def __init__(self, door: Door, make: Make, sock: socket.socket) -> None:
        super().__init__(door, make)
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._begin()
        self._file = sock.fileno()
        self._loop.add_reader(self._file, self._read)
        self._reads = True

    def _read(self) -> None:
        try:
            data = self._socket.recv(MAX_REQUEST + 1)
        except BlockingIOError:
            return
        except OSError:  # it was reset
            data = b""
        if data:
            self._hear(data)
        else:
            self.turn_off()

    def turn_off(self) -> None:
        """Somebody else needs the place, or it takes too long, or it is gone."""
        self._pause()
        self._socket.close()
        self._over()

    def _pause(self) -> None:
        if self._reads:
            self._reads = False
            self._loop.remove_reader(self._file)

    def _send_last(self, content: bytes) -> None:
        with suppress(OSError):  # nothing was sent before: there is room, or the client is gone
            self._socket.send(content)
        self.turn_off()

    def _go_on(self, connection: GuardedConnection) -> None:
        self._pause()
        self._task = self._loop.create_task(self._hand_over(connection))

    async def _hand_over(self, connection: GuardedConnection) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, self._socket)
        except OSError:  # where a system finds only now that the client is gone
            self._socket.close()
            self._door.left(connection)


class SecureOpening(Opening, asyncio.Protocol):
    """On a transport that decrypts."""

    _transport: asyncio.Transport | None = None
    _lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when the handshake is over; what came in its last packet is worked on then."""
        if self._lost:
            return
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._begin()
        if self._said:
            self._hear(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._lost = True
        self._over()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._transport is None:
            self._said += data
        else:
            self._hear(data)

    def turn_off(self) -> None:
        """Somebody else needs the place, or it takes too long."""
        if self._transport is not None:
            self._transport.abort()

    def _pause(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()

    def _send_last(self, content: bytes) -> None:
        assert self._transport is not None
        self._transport.write(content)
        self._transport.close()

    def _go_on(self, connection: GuardedConnection) -> None:
        assert self._transport is not None
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)


class Handshake(asyncio.Protocol):
    """A connection whose TLS handshake is in progress: it counts among those that have not shown a token.

    asyncio tells a server of a connection when its handshake is over: till then nobody would count it.

    Args:
        door: of the server.
        tls: what to offer.
        opening: what goes on once the handshake is over.
    """

    def __init__(self, door: Door, tls: ssl.SSLContext, opening: SecureOpening) -> None:
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
        """Somebody else needs the place."""
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


class Entrance:
    """Accepts connections, a few in a turn of the event loop, so that streams go on between.

    Args:
        sock: listens.
        door: of the server.
        make: makes the stream of a connection that comes in.
        tls: encrypts all connections; None: nothing does.
    """

    def __init__(self, sock: socket.socket, door: Door, make: Make, tls: ssl.SSLContext | None) -> None:
        self._socket, self._door, self._make, self._tls = sock, door, make, tls
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """Accept from now on, in place of whoever does so far, until the socket is closed."""
        if self._socket.fileno() >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # too many files are open, for instance
                _log.warning("connections wait: %s", error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._socket)
                loop.call_later(_ACCEPT_AGAIN_S, self.open)
                return
            accepted.setblocking(False)
            self._arrives(accepted)

    def _arrives(self, sock: socket.socket) -> None:
        if self._tls is None:
            PlainOpening(self._door, self._make, sock)
            return
        handshake = Handshake(self._door, self._tls, SecureOpening(self._door, self._make))
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(lambda: handshake, sock))
        self._tasks.add(task)
        task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the client is gone already
