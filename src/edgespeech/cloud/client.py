"""The device's side of a stream to the cloud: encodes, sends, and later collects what the server said."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgespeech.audio.codec import OpusEncoder
from edgespeech.cloud.protocol import (
    End,
    Error,
    Hello,
    ServerMessage,
    TraceMessage,
    encode,
    pack_audio,
    parse_server,
    remote_trace,
)
from edgespeech.contracts import Event, EventKind, RemoteTrace, Request, Samples, Stream
from edgespeech.errors import EdgeSpeechError

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

FRAMES_PER_MESSAGE = 5
"""Opus packets in one audio message: 100 ms."""
_ATTEMPTS = 5
"""At opening a connection: a server under attack closes connections before it has read their tokens."""
_PAUSE_S = 0.05
"""Before the second attempt; twice as long before each further one."""


@contextmanager
def connected(url: str, token: str, *, trace: bool) -> Iterator[ClientConnection]:
    """A connection to the server.

    Args:
        url: the server's, `ws://...` or `wss://...`.
        token: the server's.
        trace: ask for compute and causes.

    Raises:
        EdgeSpeechError: there is no server, or it refuses the connection.
    """
    with _connect(url + ("?trace=1" if trace else ""), token) as connection:
        yield connection


def _connect(url: str, token: str) -> ClientConnection:
    """Open a connection, again where the server drops it before it has answered the opening request."""
    from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus, WebSocketException
    from websockets.sync.client import connect

    attempt = 1
    while True:
        try:
            return connect(
                url,
                additional_headers={"Authorization": f"Bearer {token}"},
                compression=None,
                user_agent_header=None,
                proxy=None,
                ping_interval=None,
                open_timeout=10,
                close_timeout=2,
                max_queue=None,
            )
        except InvalidStatus as error:
            said = (error.response.body or b"").decode(errors="replace").strip()
            raise EdgeSpeechError(f"server: refused ({error.response.status_code}): {said}") from error
        except (OSError, WebSocketException) as error:
            dropped = isinstance(error, (ConnectionClosed, InvalidMessage, ConnectionError, ssl.SSLEOFError))
            refused = isinstance(error, ConnectionRefusedError)
            if refused or not dropped or attempt == _ATTEMPTS:
                raise EdgeSpeechError(f"server: cannot connect: {error}") from error
        time.sleep(_PAUSE_S * 2 ** (attempt - 1))
        attempt += 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A reply as it came: the message, its payload bytes, and when (`time.monotonic`, for live runs)."""

    message: ServerMessage
    n_bytes: int
    at: float


class CloudStream(Stream):
    """One utterance, streamed as Opus over a WebSocket.

    The connection is open before the first sample and `hello` goes with the first one. `accept` and `finish`
    encode and hand over to the socket; they never wait for an answer. What the server says is read
    afterwards, by `remote`, or meanwhile, by `receive` in another thread.
    """

    def __init__(
        self, url: str, token: str, request: Request, *, trace: bool = True, timeout_s: float = 120.0
    ) -> None:
        """Connect.

        Args:
            url: the server's, `ws://...` or `wss://...`.
            token: the server's.
            request: language and context go to the server.
            trace: ask for compute and causes, which `remote` needs.
            timeout_s: longest silence of the server while its answers are awaited.

        Raises:
            EdgeSpeechError: there is no server, or it refuses the connection.
        """
        self._timeout_s = timeout_s
        self._hello = encode(Hello(language=request.language, context=list(request.context)))
        self._encoder = OpusEncoder()
        self._packets: list[bytes] = []
        self._sent = 0
        self._receiving = False
        self._opened = ExitStack()
        self._connection = self._opened.enter_context(connected(url, token, trace=trace))

    def accept(self, samples: Samples) -> list[Event]:
        """Encode and send what is complete; return one `SENT` event per message.

        Args:
            samples: with shape `(N,)`, 16 kHz, in [-1, 1].

        Raises:
            EdgeSpeechError: the server is gone, with its reason if it gave one.
        """
        events = self._greet()
        self._packets += self._encoder.encode(samples)
        while len(self._packets) >= FRAMES_PER_MESSAGE:
            events.append(self._send_audio())
        return events

    def finish(self) -> list[Event]:
        """Send what is left and `end`; otherwise as `accept`."""
        events = self._greet()
        self._packets += self._encoder.finish()
        while self._packets:
            events.append(self._send_audio())
        events.append(self._send(encode(End())))
        return events

    def receive(self) -> Iterator[Received]:
        """What the server says, until it closes after its last message; stamped on arrival.

        Raises:
            EdgeSpeechError: it reported an error, died, fell silent for too long, or broke the protocol.
        """
        from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

        self._receiving = True
        while True:
            try:
                text = self._connection.recv(self._timeout_s)
            except ConnectionClosedOK:
                return
            except ConnectionClosed as error:
                raise EdgeSpeechError(f"server: the connection broke: {error}") from error
            except TimeoutError as error:
                raise EdgeSpeechError(f"server: no answer in {self._timeout_s:g} s") from error
            at = time.monotonic()
            if isinstance(text, bytes):
                raise EdgeSpeechError(f"server: {len(text)} binary bytes came, expected JSON")
            message = parse_server(text)
            if isinstance(message, Error):
                raise EdgeSpeechError(f"server: reported: {message.message}")
            yield Received(message=message, n_bytes=len(text.encode()), at=at)

    def remote(self) -> RemoteTrace:
        """Wait for the server to finish, and return what it did.

        Raises:
            EdgeSpeechError: as `receive`, or there is no trace.
        """
        received = list(self.receive())
        if not received or not isinstance(received[-1].message, TraceMessage):
            raise EdgeSpeechError("server: closed without the trace that was asked for")
        replies = [(reply.message, reply.n_bytes) for reply in received[:-1]]
        return remote_trace(replies, received[-1].message, self._sent)

    def close(self) -> None:
        """Leave, finished or not."""
        self._opened.close()

    def _greet(self) -> list[Event]:
        return [] if self._sent else [self._send(self._hello)]

    def _send_audio(self) -> Event:
        message, self._packets = self._packets[:FRAMES_PER_MESSAGE], self._packets[FRAMES_PER_MESSAGE:]
        return self._send(pack_audio(message))

    def _send(self, payload: str | bytes) -> Event:
        from websockets.exceptions import ConnectionClosed

        try:
            self._connection.send(payload)
        except ConnectionClosed as error:
            if not self._receiving:
                for _ in self.receive():
                    pass
            raise EdgeSpeechError(f"server: closed in the middle of the stream: {error}") from error
        self._sent += 1
        n_bytes = len(payload.encode()) if isinstance(payload, str) else len(payload)
        return Event(kind=EventKind.SENT, n_bytes=n_bytes)
