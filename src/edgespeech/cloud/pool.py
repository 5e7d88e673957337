"""The server's side of a model's process: runs jobs in fair turns, and ends the process where one takes too long."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from edgespeech.cloud.access import TOKEN_ENV
from edgespeech.cloud.limits import INTERNAL, FairTurns, Limits, RefusedError
from edgespeech.cloud.session import Done, Job, Recognition
from edgespeech.cloud.worker import LENGTHS, Made, pack_frame
from edgespeech.errors import EdgeSpeechError

_log = logging.getLogger(__name__)


class ModelFailedError(RefusedError):
    """The model failed, which is no fault of the client."""

    def __init__(self) -> None:
        super().__init__("server: the recogniser failed", INTERNAL)


@dataclass(slots=True)
class _Running:
    """A job that somebody waits for.

    Attributes:
        number: that its process knows it by.
        user: whose turns it takes.
        job: what to do.
        started: in which process it is; 0: in none.
        wanted: whether its client is still there.
        answer: how far it is.
    """

    number: int
    user: str
    job: Job
    started: int = 0
    wanted: bool = True
    answer: dict[str, Any] = field(default_factory=lambda: {"state": "more", "compute_s": 0.0})


class ModelProcess:
    """A process with one model. A job takes a turn for every step between two pauses.

    Args:
        made: the model.
        limits: for `max_work_s`, `max_step_s` and `leave_s`.
    """

    def __init__(self, made: Made, limits: Limits) -> None:
        self._made = made
        self._limits = limits
        self._turns = FairTurns()
        self._one_each: dict[str, asyncio.Lock] = {}
        self._numbers = itertools.count()
        self._process: asyncio.subprocess.Process | None = None
        self._starts = 0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process, or None while there is none."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process and wait until its model is ready.

        Raises:
            EdgeSpeechError: it does not get ready.
        """
        # Every job has a thread, and every thread would have a heap.
        environment = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", **os.environ}
        environment.pop(TOKEN_ENV, None)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edgespeech.cloud.worker", json.dumps(asdict(self._made))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        self._starts += 1
        try:
            told = await self._read()
        except EOFError as error:
            raise EdgeSpeechError(f"server: {self._made.reference} does not start") from error
        if told["state"] != "ready":
            raise EdgeSpeechError(told["message"])

    def close(self) -> None:
        """End the process, whatever it does."""
        self._closed = True
        self._kill()

    async def run(self, user: str, job: Job) -> Done:
        """Have a job done, after those that the user asked for before. Where the caller is cancelled it is dropped.

        Args:
            user: whose turns it takes.
            job: what to do.

        Raises:
            EdgeSpeechError: the model refuses it.
            RefusedError: it takes too long.
            ModelFailedError: the model failed.
        """
        # A job in the middle takes memory: each user has one.
        async with self._one_each.setdefault(user, asyncio.Lock()):
            return await self._run(user, job)

    async def _run(self, user: str, job: Job) -> Done:
        one = _Running(next(self._numbers), user, job)
        has_turn = False
        while one.answer["state"] == "more":
            if one.answer["compute_s"] > self._limits.max_work_s:
                if has_turn:
                    self._turns.leave(user)
                self._drop(one)
                raise RefusedError(
                    f"message: its work takes over {self._limits.max_work_s:g} s, the most of this server"
                )
            if not has_turn:
                try:
                    await self._turns.enter(user)
                except asyncio.CancelledError:
                    self._drop(one)
                    raise
            step = asyncio.create_task(self._step(one))
            try:
                has_turn = await asyncio.shield(step)  # whoever leaves, the process must be heard out
            except asyncio.CancelledError:
                one.wanted = False
                asyncio.get_running_loop().call_later(self._limits.leave_s, self._end_step, step)
                step.add_done_callback(lambda done: self._left(one, done))
                raise
        if one.answer["state"] == "refused":
            raise EdgeSpeechError(one.answer["message"])
        if one.answer["state"] != "done":
            raise ModelFailedError
        return Done(one.answer["text"], one.answer["compute_s"])

    async def _step(self, one: _Running) -> bool:
        """Work on a job until its next pause; whether its turn goes on then."""
        goes_on = False
        try:
            async with asyncio.timeout(self._limits.max_step_s):
                one.answer = await self._ask(one)
            ended = not one.wanted or one.answer["state"] != "more"
            goes_on = not ended and self._turns.goes_on(one.user)
            if ended:
                self._turns.leave(one.user)
        except (EOFError, OSError) as error:  # a TimeoutError is one
            if not self._closed:
                _log.warning("the model's process is ended: %s", str(error) or type(error).__name__)
                await self._again()
            self._turns.leave(one.user)
            raise ModelFailedError from error
        return goes_on

    async def _ask(self, one: _Running) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise EOFError("there is none")
        if one.started == self._starts:
            frame = pack_frame({"op": "go", "job": one.number})
        else:  # in a new process it starts again
            frame, one.started = _first_frame(one.number, one.job), self._starts
        self._process.stdin.write(frame)
        await self._process.stdin.drain()
        return await self._read()

    async def _again(self) -> None:
        """Start the process once more, in the turn of whoever broke it."""
        self._kill()
        if self._process is not None:
            await self._process.wait()
        try:
            await self.start()
        except EdgeSpeechError as error:
            self._process = None
            _log.error("the model's process does not start again: %s", error)

    def _end_step(self, step: asyncio.Task[Any]) -> None:
        """End a step whose client left a while ago."""
        if not step.done():
            self._kill()

    def _left(self, one: _Running, step: asyncio.Task[bool]) -> None:
        """The last step of a job whose client left is over."""
        if not step.cancelled() and step.exception() is None:
            if step.result():
                self._turns.leave(one.user)
            self._drop(one)

    def _drop(self, one: _Running) -> None:
        process = self._process
        if process is not None and process.returncode is None and process.stdin is not None:
            process.stdin.write(pack_frame({"op": "drop", "job": one.number}))

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _read(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        head, content = LENGTHS.unpack(await self._process.stdout.readexactly(LENGTHS.size))
        told: dict[str, Any] = json.loads(await self._process.stdout.readexactly(head))
        await self._process.stdout.readexactly(content)
        return told


def _first_frame(number: int, job: Job) -> bytes:
    if isinstance(job, Recognition):
        head = {"kind": "transcribe", "context": list(job.context), "language": job.language}
        return pack_frame({"op": "start", "job": number, **head}, job.samples.tobytes())
    return pack_frame({"op": "start", "job": number, "kind": "rescore"}, job.lattice)
