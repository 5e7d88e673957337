"""The server: WebSocket in front of `ServerSession` and `RescoringSession`, hard to knock over.

Every stream is bounded (message size, audio, backlog, idle time, time to take a reply) and so is their
number. A client that breaks a rule gets one `error` message and a close code, and the others notice nothing.
Recognition runs in one worker thread, first come first served.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import importlib
import ipaddress
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from edgespeech.audio.vad import DetectorFactory, SegmentRule, SileroDetector
from edgespeech.cloud.protocol import PATH, RESCORE_PATH, Error, encode
from edgespeech.cloud.session import Backend, Rescorer, RescoringSession, ServerSession, Session
from edgespeech.cloud.whisper_backend import build_whisper
from edgespeech.corpora.weights import resolve_weights
from edgespeech.errors import EdgeSpeechError, bad

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

TOKEN_ENV = "EDGESPEECH_TOKEN"
"""Holds the token that clients must show; never on a command line, where other users could read it."""

_POLICY, _INTERNAL, _TRY_LATER = 1008, 1011, 1013
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one client may ask of the server.

    Attributes:
        max_message_bytes: longest message; a longer one closes the connection with 1009.
        max_audio_s: longest utterance; so long may a client wait before it has something to rescore.
        max_streams: streams at a time; one more is turned away with 1013.
        max_backlog_bytes: received and not yet worked on, per stream.
        idle_s: longest wait for a message, or for the rest of one.
        send_s: longest that a client may take to receive a reply.
    """

    max_message_bytes: int = 64 * 1024
    max_audio_s: float = 120.0
    max_streams: int = 16
    max_backlog_bytes: int = 4 * 1024 * 1024
    idle_s: float = 30.0
    send_s: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise bad("server limits", field.name, value, "above 0")


class RefusedError(EdgeSpeechError):
    """The client broke a limit of the server."""

    def __init__(self, message: str, code: int = _POLICY) -> None:
        super().__init__(message)
        self.code = code


class _Server:
    """The handlers of one running server."""

    def __init__(
        self,
        token: str,
        backend: Backend,
        detector: DetectorFactory,
        limits: Limits,
        rule: SegmentRule,
        rescorer: Rescorer | None,
    ) -> None:
        self._token = token
        self._backend = backend
        self._detector = detector
        self.limits = limits
        self._rule = rule
        self._rescorer = rescorer
        self._paths = (PATH,) if rescorer is None else (PATH, RESCORE_PATH)
        self._streams = 0
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recogniser")

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer the opening request with an error, or with None to go on."""
        if urlsplit(request.path).path not in self._paths:
            return connection.respond(HTTPStatus.NOT_FOUND, f"expected {' or '.join(self._paths)}\n")
        shown = request.headers.get_all("Authorization")
        wanted = f"Bearer {self._token}".encode()
        if len(shown) != 1 or not hmac.compare_digest(shown[0].encode(errors="surrogateescape"), wanted):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "expected Authorization: Bearer TOKEN\n")
        return None

    async def handle(self, connection: ServerConnection) -> None:
        """Serve one connection to its end, whatever the client does."""
        from websockets.exceptions import ConnectionClosed

        self._streams += 1
        try:
            if self._streams > self.limits.max_streams:
                raise RefusedError(f"server: {self.limits.max_streams} streams are open already", _TRY_LATER)
            await self._stream(connection)
        except ConnectionClosed:
            _log.info("a client left")
        except RefusedError as error:
            await self._refuse(connection, error.code, str(error))
        except EdgeSpeechError as error:
            await self._refuse(connection, _POLICY, str(error))
        except Exception:
            _log.exception("a stream failed")
            await self._refuse(connection, _INTERNAL, "server: the recogniser failed")
        finally:
            self._streams -= 1

    async def _stream(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        opened = urlsplit(connection.request.path)
        trace = parse_qs(opened.query).get("trace") == ["1"]
        rescores = opened.path == RESCORE_PATH
        session = self._rescoring() if rescores else self._recognition()
        inbox = _Inbox(connection, self.limits, self.limits.max_audio_s if rescores else self.limits.idle_s)
        loop = asyncio.get_running_loop()
        try:
            while not session.finished:
                message = await inbox.next()
                replies = session.handle(message)
                while (reply := await loop.run_in_executor(self.worker, next, replies, None)) is not None:
                    await self._send(connection, reply)
                if trace and (rescores or session.finished):
                    await self._send(connection, session.trace())
        finally:
            inbox.close()

    def _recognition(self) -> Session:
        most = self.limits.max_audio_s
        return ServerSession(self._backend, self._detector(), rule=self._rule, max_audio_s=most)

    def _rescoring(self) -> Session:
        assert self._rescorer is not None
        return RescoringSession(self._rescorer)

    async def _send(self, connection: ServerConnection, text: str) -> None:
        try:
            async with asyncio.timeout(self.limits.send_s):
                await connection.send(text)
        except TimeoutError:
            connection.transport.abort()
            _log.info("a client took longer than %g s to receive a reply", self.limits.send_s)

    async def _refuse(self, connection: ServerConnection, code: int, message: str) -> None:
        from websockets.exceptions import ConnectionClosed

        _log.info("refused: %s", message)
        try:
            await self._send(connection, encode(Error(message=message)))
            await connection.close(code)
        except ConnectionClosed:
            pass


class _Inbox:
    """Receives a stream's messages while earlier ones are worked on; notices when the client leaves."""

    def __init__(self, connection: ServerConnection, limits: Limits, idle_s: float) -> None:
        self._connection = connection
        self._limits = limits
        self._idle_s = idle_s
        self._waiting: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._backlog = 0
        self._reader = asyncio.create_task(self._read())

    async def next(self) -> str | bytes:
        """The next message.

        Raises:
            RefusedError: nothing came for too long, or too much came at once.
            websockets.exceptions.ConnectionClosed: the client is gone.
        """
        getter = asyncio.create_task(self._waiting.get())
        try:
            await asyncio.wait(
                {getter, self._reader}, timeout=self._idle_s, return_when=asyncio.FIRST_COMPLETED
            )
            if self._reader.done():
                self._reader.result()
            if not getter.done():
                raise RefusedError(f"stream: no whole message in {self._idle_s:g} s")
            message = getter.result()
        finally:
            getter.cancel()
        self._backlog -= len(message)
        return message

    def close(self) -> None:
        """Stop receiving."""
        self._reader.cancel()
        self._reader.add_done_callback(lambda reader: reader.cancelled() or reader.exception())

    async def _read(self) -> None:
        while True:
            message = await self._connection.recv()
            self._backlog += len(message)
            if self._backlog > self._limits.max_backlog_bytes:
                most = self._limits.max_backlog_bytes
                raise RefusedError(f"stream: over {most} bytes wait for the recogniser")
            self._waiting.put_nowait(message)


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None,
    backend: Backend | None = None,
    detector: DetectorFactory = SileroDetector,
    limits: Limits | None = None,
    rule: SegmentRule | None = None,
    rescorer: Rescorer | None = None,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; call it in the main thread.

    Args:
        host: address to bind to; the default is reachable from this machine alone.
        port: TCP port; 0 picks a free one.
        token: what clients must show as `Authorization: Bearer TOKEN`; never empty.
        backend: the recogniser; None: Whisper base on one thread, its weights resolved and verified.
        detector: makes one voice activity detector per stream.
        limits: per client; None: the defaults.
        rule: when a segment of speech ends; None: the defaults.
        rescorer: the second pass; None: there is none.
        ready: called with the port once clients can connect.

    Raises:
        EdgeSpeechError: no token, no weights, or the address cannot be bound.
    """
    if token is None or not token.strip():
        where = "even on loopback" if _is_loopback(host) else f"on {host} above all, which others can reach"
        raise bad("server", "token", token, f"a token, {where} (environment variable {TOKEN_ENV})")
    if backend is None:
        backend = build_whisper(resolve_weights("whisper-base").folder)
    server = _Server(token, backend, detector, limits or Limits(), rule or SegmentRule(), rescorer)
    try:
        asyncio.run(_listen(server, host, port, ready))
    except OSError as error:
        raise EdgeSpeechError(f"server: cannot bind {host}:{port}: {error}") from error
    except KeyboardInterrupt:
        _log.info("interrupted")
    finally:
        server.worker.shutdown(wait=False, cancel_futures=True)


async def _listen(server: _Server, host: str, port: int, ready: Callable[[int], None] | None) -> None:
    import websockets.asyncio.server

    quiet = logging.getLogger("edgespeech.websockets")
    quiet.setLevel(logging.CRITICAL)
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    async with websockets.asyncio.server.serve(
        server.handle,
        host,
        port,
        process_request=server.admit,
        compression=None,
        max_size=server.limits.max_message_bytes,
        ping_interval=None,
        open_timeout=5,
        close_timeout=1,
        server_header=None,
        logger=quiet,
    ) as listening:
        if ready is not None:
            ready(listening.sockets[0].getsockname()[1])
        await done.wait()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _named(reference: str) -> Any:
    """What `package.module:attribute` names."""
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise bad("server", "reference", reference, f"package.module:attribute ({error})") from error


def _made(reference: str | None) -> Rescorer | None:
    """What the function that `package.module:function` names returns; None for None."""
    rescorer: Rescorer | None = None if reference is None else _named(reference)()
    return rescorer


def main(arguments: Sequence[str] | None = None) -> int:
    """The server as a process of its own; `edgespeech.cloud.process` starts it.

    Prints one JSON line with the port when it is ready. Ends when its standard input does, so that it never
    outlives the process that started it.
    """
    parser = argparse.ArgumentParser(prog="python -m edgespeech.cloud.server")
    parser.add_argument("config", help="JSON: host, port, backend, options, detector, limits, rule, rescorer")
    config = json.loads(parser.parse_args(arguments).config)
    token = os.environ.pop(TOKEN_ENV, "")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)

    def ready(port: int) -> None:
        print(json.dumps({"port": port}), flush=True)
        threading.Thread(target=_end_with_input, daemon=True).start()

    try:
        serve(
            host=config["host"],
            port=config["port"],
            token=token,
            backend=_named(config["backend"])(**config["options"]),
            detector=_named(config["detector"]),
            limits=Limits(**config["limits"]),
            rule=SegmentRule(**config["rule"]),
            rescorer=_made(config["rescorer"]),
            ready=ready,
        )
    except EdgeSpeechError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _end_with_input() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
