"""The server's side of a model's process: runs jobs in fair turns, and ends the process where one takes too long."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
from dataclasses import asdict
from functools import partial
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
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
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
        """Have a job done. Where the caller is cancelled it is dropped.

        Args:
            user: whose turns it takes.
            job: what to do.

        Raises:
            EdgeSpeechError: the model refuses it.
            RefusedError: it takes too long.
            ModelFailedError: the model failed.
        """
        number = next(self._numbers)
        used_s = 0.0
        answer: dict[str, Any] = {"state": "more"}
        started = -1  # in which process the job is
        while answer["state"] == "more":
            if used_s > self._limits.max_work_s:
                self._drop(number, None)
                raise RefusedError(
                    f"message: its work takes over {self._limits.max_work_s:g} s, the most of this server"
                )
            await self._turns.enter(user)
            step = asyncio.create_task(self._step(user, number, job, started))
            try:
                answer, started = await asyncio.shield(step)  # whoever leaves, the process must be heard out
            except asyncio.CancelledError:
                asyncio.get_running_loop().call_later(self._limits.leave_s, self._end_step, step)
                step.add_done_callback(partial(self._drop, number))
                raise
            used_s = answer.get("compute_s", 0.0)
        if answer["state"] == "refused":
            raise EdgeSpeechError(answer["message"])
        if answer["state"] != "done":
            raise ModelFailedError
        return Done(answer["text"], answer["compute_s"])

    async def _step(self, user: str, number: int, job: Job, started: int) -> tuple[dict[str, Any], int]:
        """Work on a job until its next pause, then end the turn; in a new process the job starts again."""
        try:
            async with asyncio.timeout(self._limits.max_step_s):
                answer = await self._ask(number, job, new=started != self._starts)
            return answer, self._starts
        except (EOFError, OSError) as error:  # a TimeoutError is one
            if not self._closed:
                _log.warning("the model's process is ended: %s", str(error) or type(error).__name__)
                await self._again()
            raise ModelFailedError from error
        finally:
            self._turns.leave(user)

    async def _ask(self, number: int, job: Job, *, new: bool) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise EOFError("there is none")
        self._process.stdin.write(
            _first_frame(number, job) if new else pack_frame({"op": "go", "job": number})
        )
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

    def _drop(self, number: int, step: asyncio.Task[Any] | None) -> None:
        """Nobody wants a job any more, after its last step."""
        if step is not None and (step.cancelled() or step.exception() is not None):
            return
        process = self._process
        if process is not None and process.returncode is None and process.stdin is not None:
            process.stdin.write(pack_frame({"op": "drop", "job": number}))

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
