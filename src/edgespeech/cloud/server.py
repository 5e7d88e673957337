"""The server: WebSocket in front of `ServerSession` and `RescoringSession`, hard to knock over.

Every stream is bounded (message size, audio, backlog, rate, idle time, time in all, time to take a reply), and so is
what all streams take together; holders of different tokens have equal shares of places, memory and time. A client that
breaks a rule gets one `error` message and a close code, and the others notice nothing. Audio is decoded in a thread, a
packet at a time, and for no longer than `SLICE_S` before others go on or the rest of it is dropped; models run in
processes of their own (`edgespeech.cloud.worker`), which are ended where they do not end by themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from edgespeech.audio.vad import DetectorFactory, SegmentRule, SileroDetector
from edgespeech.cloud.access import BACKLOG, Tokens, listen, read_tokens, tls_context
from edgespeech.cloud.limits import INTERNAL, POLICY, FairTurns, FewLines, Limits, RefusedError
from edgespeech.cloud.pool import ModelProcess
from edgespeech.cloud.protocol import PATH, RESCORE_PATH, Error, encode
from edgespeech.cloud.session import Done, Job, Pausing, Recognition, RescoringSession, ServerSession, Session
from edgespeech.cloud.worker import Made, named
from edgespeech.corpora.weights import resolve_weights
from edgespeech.errors import EdgeSpeechError

if TYPE_CHECKING:
    from websockets.asyncio.server import Server

    from edgespeech.cloud.connection import GuardedConnection
    from edgespeech.cloud.door import Door

SLICE_S = 0.02
"""So long is decoded for one stream before others go on; a busy event loop takes nearly as long between two turns."""
_TOGETHER = 64
"""Most messages of a stream that are decoded without a look at its limits between them."""
_DECODER_NICE = 10
_WEBSOCKETS = "edgespeech.websockets"
"""Its logger."""
_SWITCH_S = 0.0002
"""So long may the decoding thread keep Python's lock before the event loop goes on."""
_CLOSE_S = 1.0
_END_S = 3.0
"""So long may connections take to close when the server ends."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Models:
    """What runs behind a server; None: there is no such service."""

    recogniser: ModelProcess | None
    rescorer: ModelProcess | None

    @property
    def processes(self) -> list[ModelProcess]:
        return [model for model in (self.recogniser, self.rescorer) if model is not None]


class _Stream:
    """One connection's messages: read as they come, and worked on in their order."""

    def __init__(self, server: _Server, connection: GuardedConnection) -> None:
        assert connection.request is not None
        opened = urlsplit(connection.request.path)
        self._server = server
        self._connection = connection
        self._holder = connection.holder
        self._trace = parse_qs(opened.query).get("trace") == ["1"]
        self._rescores = opened.path == RESCORE_PATH
        self._session: Session = RescoringSession() if self._rescores else server.recognition()
        self._inbox: asyncio.Queue[str | bytes] = asyncio.Queue()
        # Two numbers, since the loop counts what comes and the decoding thread what goes.
        self._received, self._taken = 0, 0

    async def run(self) -> None:
        """Serve it to its end.

        Raises:
            EdgeSpeechError: the client broke the protocol or a limit.
            websockets.exceptions.ConnectionClosed: the client is gone.
        """
        tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._read())]
        longest = self._server.limits.max_stream_s
        try:
            done, _ = await asyncio.wait(
                [*tasks, self._connection.turned_away], timeout=longest, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise RefusedError(f"stream: open for {longest:g} s, the longest that this server allows")
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if ended is not None:
                    _let_go(ended)

    async def _read(self) -> None:
        most = self._server.limits.max_backlog_bytes
        while True:
            message = await self._connection.recv()
            self._received += len(message)
            if self._received - self._taken > most:
                raise RefusedError(f"stream: over {most} bytes wait for the recogniser")
            self._weigh()
            self._inbox.put_nowait(message)

    async def _work(self) -> None:
        limits = self._server.limits
        idle_s = limits.max_audio_s if self._rescores else limits.idle_s
        while not self._session.finished:
            try:
                async with asyncio.timeout(idle_s):
                    message = await self._inbox.get()
            except TimeoutError as error:
                raise RefusedError(f"stream: no whole message in {idle_s:g} s") from error
            await self._answer(message)
            self._weigh()
            if self._trace and (self._rescores or self._session.finished):
                await self._server.send(self._connection, self._session.trace())

    def _handle(self, message: str | bytes) -> Generator[str | Job | Pausing, Done | None, None]:
        """The work of a message, and of those that wait behind it: a turn for each would make honest streams wait."""
        for place in range(_TOGETHER):
            self._taken += len(message)
            yield from self._session.handle(message)
            last = place == _TOGETHER - 1 or self._inbox.empty()
            if last or self._rescores or self._session.finished:
                return
            message = self._inbox.get_nowait()

    async def _answer(self, message: str | bytes) -> None:
        work = self._handle(message)
        done: Done | None = None
        decoding_s = 0.0
        while True:
            step, took_s = await self._server.step(self._holder, work, done)
            if step is None:
                return
            done = None
            decoding_s += took_s
            if decoding_s > (most := self._server.limits.max_work_s):
                raise RefusedError(f"message: decoding it takes over {most:g} s, the most of this server")
            if isinstance(step, Pausing):
                self._weigh()
            elif isinstance(step, Job):
                done = await self._server.run(self._holder, step)
            else:
                await self._server.send(self._connection, step)

    def _weigh(self) -> None:
        self._server.door.weigh(self._connection, self._received - self._taken + self._session.n_bytes)


class _Server:
    """The handlers of one running server."""

    def __init__(
        self,
        models: _Models,
        door: Door,
        limits: Limits,
        detector: DetectorFactory,
        rule: SegmentRule,
    ) -> None:
        self._models = models
        self.door = door
        self.limits = limits
        self._detector = detector
        self._rule = rule
        self._turns = FairTurns()
        self.decoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decoder", initializer=_give_way)

    async def handle(self, connection: GuardedConnection) -> None:
        """Serve one connection to its end, whatever the client does."""
        from websockets.exceptions import ConnectionClosed

        try:
            await self._serve(connection)
        except ConnectionClosed:
            _log.info("a client left")
        except RefusedError as error:
            await self._refuse(connection, error.code, str(error))
        except EdgeSpeechError as error:
            await self._refuse(connection, POLICY, str(error))
        except Exception:
            _log.exception("a stream failed")
            await self._refuse(connection, INTERNAL, "server: the recogniser failed")

    async def _serve(self, connection: GuardedConnection) -> None:
        try:
            await _Stream(self, connection).run()
        except BaseException as error:
            _let_go(error)
            raise

    def recognition(self) -> Session:
        """The session of a new utterance."""
        return ServerSession(self._detector(), rule=self._rule, max_audio_s=self.limits.max_audio_s)

    async def step(
        self, holder: str, work: Generator[str | Job | Pausing, Done | None, None], done: Done | None
    ) -> tuple[str | Job | Pausing | None, float]:
        """Decode, in the holder's turn, up to the next reply or job, or the pause after `SLICE_S`.

        Returns:
            What came, None after the last one, and the seconds that it took.
        """

        def step() -> tuple[str | Job | Pausing | None, float]:
            started = time.perf_counter()
            found: str | Job | Pausing | None
            try:
                found = work.send(done)
                while isinstance(found, Pausing) and time.perf_counter() - started < SLICE_S:
                    found = next(work)
            except StopIteration:
                found = None
            return found, time.perf_counter() - started

        used_s: float | None = None
        await self._turns.enter(holder)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self.decoder, step)
            used_s = found[1]
            return found
        finally:
            self._turns.leave(
                holder, used_s
            )  # without the loop's own delays, which no holder is to blame for

    async def run(self, holder: str, job: Job) -> Done:
        """Have a model do a job, in the holder's turns."""
        model = self._models.recogniser if isinstance(job, Recognition) else self._models.rescorer
        if model is None:
            raise EdgeSpeechError("server: it rescores lattices, and recognises no audio")
        return await model.run(holder, job)

    async def send(self, connection: GuardedConnection, text: str) -> None:
        """Send a reply; a client that does not take it in time is left."""
        try:
            async with asyncio.timeout(self.limits.send_s):
                await connection.send(text)
        except TimeoutError:
            connection.transport.abort()
            _log.info("a client took longer than %g s to receive a reply", self.limits.send_s)

    async def _refuse(self, connection: GuardedConnection, code: int, message: str) -> None:
        from websockets.exceptions import ConnectionClosed

        _log.info("refused: %s", message)
        connection.hear_no_more()
        try:
            await self.send(connection, encode(Error(message=message)))
            await connection.close(code)
        except ConnectionClosed:
            pass


def _let_go(error: BaseException) -> None:
    """Empty the calls through which an error came: they hold the stream, and its tasks hold the error.

    Python finds such cycles by and by: a stream is few objects, which seldom make it look, and megabytes of audio.
    """
    traceback.clear_frames(error.__traceback__)


def _give_way() -> None:
    """Let the event loop and the models go before this thread where a processor is short."""
    if sys.platform == "linux":  # where threads have priorities of their own
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _DECODER_NICE)


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    tokens: Tokens,
    backend: Made | None,
    detector: DetectorFactory = SileroDetector,
    limits: Limits | None = None,
    rule: SegmentRule | None = None,
    rescorer: Made | None = None,
    tls: ssl.SSLContext | None = None,
    allow_plaintext: bool = False,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; call it in the main thread.

    Args:
        host: address to bind to; the default is reachable from this machine alone.
        port: TCP port; 0 picks a free one.
        tokens: clients must show one as `Authorization: Bearer TOKEN`.
        backend: the recogniser, see `whisper`; None: there is none.
        detector: makes one voice activity detector per stream.
        limits: per client; None: the defaults.
        rule: when a segment of speech ends; None: the defaults.
        rescorer: the second pass; None: there is none.
        tls: encrypts all connections; None: nothing does.
        allow_plaintext: whether others than this machine may be served without TLS.
        ready: called with the port once clients can connect.

    Raises:
        EdgeSpeechError: a model cannot be made, the address cannot be bound, or it would not be safe.
    """
    for log in (_log, *(logging.getLogger(f"edgespeech.cloud.{name}") for name in ("pool", "opening"))):
        if not log.filters:
            log.addFilter(FewLines())
    known = limits or Limits()
    sock = listen(host, port, secure=tls is not None, allow_plaintext=allow_plaintext)
    if tls is None and allow_plaintext:
        _log.warning("NOTHING IS ENCRYPTED on %s: tokens, speech and text can be read on the way", host)
    sys.setswitchinterval(_SWITCH_S)
    with sock:
        asyncio.run(
            _serve(sock, tokens, backend, rescorer, detector, known, rule or SegmentRule(), tls, ready)
        )


def whisper() -> Made:
    """The recogniser of the cloud baseline: Whisper base on one thread.

    Raises:
        EdgeSpeechError: its weights are missing or damaged.
    """
    weights = resolve_weights("whisper-base")
    return Made("edgespeech.cloud.whisper_backend:build_whisper", {"folder": str(weights.folder)})


async def _serve(
    sock: socket.socket,
    tokens: Tokens,
    backend: Made | None,
    rescorer: Made | None,
    detector: DetectorFactory,
    limits: Limits,
    rule: SegmentRule,
    tls: ssl.SSLContext | None,
    ready: Callable[[int], None] | None,
) -> None:
    from websockets.asyncio.server import serve as serve_websockets

    from edgespeech.cloud.door import Door
    from edgespeech.cloud.opening import OPEN_S, Entrance

    quiet = logging.getLogger(_WEBSOCKETS)
    quiet.setLevel(logging.CRITICAL)
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    door = Door(limits, tokens, (PATH,) if rescorer is None else (PATH, RESCORE_PATH))
    made = [None if one is None else ModelProcess(one, limits) for one in (backend, rescorer)]
    models = _Models(recogniser=made[0], rescorer=made[1])
    server = _Server(models, door, limits, detector, rule)
    try:
        await _first(done, asyncio.gather(*(model.start() for model in models.processes)))
        if done.is_set():
            return
        if models.recogniser is not None:
            server.recognition()  # so that all is loaded before a client waits for it
        listening = await serve_websockets(
            server.handle,  # type: ignore[arg-type]  # of the connections that create_connection makes
            sock=sock,
            backlog=BACKLOG,
            create_connection=_too_early,  # type: ignore[arg-type]  # as a connection's class
            open_timeout=OPEN_S,
            server_header=None,
            logger=quiet,
        )
        Entrance(sock, door, partial(_stream, door, limits, listening), tls).open()
        gc.freeze()  # what is there now stays: looking at it again would hold up the event loop
        if ready is not None:
            ready(sock.getsockname()[1])
        await done.wait()
        listening.close()
        door.close()
        for model in models.processes:
            model.close()
        await asyncio.wait([asyncio.create_task(listening.wait_closed())], timeout=_END_S)
    finally:
        for model in models.processes:
            model.close()
        server.decoder.shutdown(wait=False, cancel_futures=True)


def _too_early(*_: object, **__: object) -> asyncio.Protocol:
    """Whom asyncio accepts before `Entrance` does is not let in: nobody has asked for a token there."""
    return _TooEarly()


class _TooEarly(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _stream(door: Door, limits: Limits, server: Server, **kwargs: Any) -> GuardedConnection:
    """The stream of a connection that comes in; further arguments are those of `GuardedConnection`."""
    from websockets.server import ServerProtocol

    from edgespeech.cloud.connection import GuardedConnection

    protocol = ServerProtocol(max_size=limits.max_message_bytes, logger=logging.getLogger(_WEBSOCKETS))
    return GuardedConnection(
        *(door, protocol, server),
        ping_interval=None,
        close_timeout=_CLOSE_S,
        max_queue=None,  # it bounds it itself
        **kwargs,
    )


async def _first(done: asyncio.Event, work: asyncio.Future[list[None]]) -> None:
    """Wait for work, or until it is needless."""
    stopped = asyncio.create_task(done.wait())
    either: list[asyncio.Future[Any]] = [work, stopped]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not done.is_set():
        work.result()
        return
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)  # what it raised now is nobody's concern


def _made(reference: str | None, options: dict[str, object]) -> Made | None:
    return None if reference is None else Made(reference, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """The server as a process of its own; `edgespeech.cloud.process` starts it.

    Prints one JSON line with the port when it is ready. Ends when its standard input does, so that it never
    outlives the process that started it.
    """
    parser = argparse.ArgumentParser(prog="python -m edgespeech.cloud.server")
    parser.add_argument("config", help="JSON, as ServerProcess writes it")
    config = json.loads(parser.parse_args(arguments).config)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)

    def ready(port: int) -> None:
        print(json.dumps({"port": port}), flush=True)
        threading.Thread(target=_end_with_input, daemon=True).start()

    def path(name: str) -> Path | None:
        return None if config[name] is None else Path(config[name])

    try:
        serve(
            host=config["host"],
            port=config["port"],
            tokens=read_tokens(path("token_file")),
            backend=_made(config["backend"], config["options"]),
            detector=named(config["detector"]),
            limits=Limits(**config["limits"]),
            rule=SegmentRule(**config["rule"]),
            rescorer=_made(config["rescorer"], {}),
            tls=tls_context(path("certificate"), path("key")),
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
