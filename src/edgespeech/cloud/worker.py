"""The model's process behind a server: takes jobs on standard input, and works on one of them a step at a time.

The server can so end what takes too long, and let others go on in the middle of a long job. A frame is two lengths
(4 bytes each, little-endian), JSON of the first length and bytes of the second one. The server sends `start` (a job's
number, what to do, and the audio or the lattice), `go` (on with that job, until the next pause) and `drop`; each
`start` and `go` is answered: `more`, `done` with the text, `refused` with why, or `failed`.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import queue
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from edgespeech.cloud.limits import FewLines
from edgespeech.cloud.session import Pause
from edgespeech.errors import EdgeSpeechError, bad

SLICE_S = 0.02
"""So long a job works at least before a pause lets others go on."""
LENGTHS = struct.Struct("<II")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """What a process makes for itself.

    Attributes:
        reference: `package.module:function` that makes it.
        options: that function's keyword arguments, JSON-serialisable.
    """

    reference: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        """Call the function.

        Raises:
            EdgeSpeechError: there is no such function, or as it.
        """
        return named(self.reference)(**self.options)


def named(reference: str) -> Any:
    """What `package.module:attribute` names.

    Raises:
        EdgeSpeechError: there is no such attribute.
    """
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise bad("server", "reference", reference, f"package.module:attribute ({error})") from error


def pack_frame(head: Mapping[str, Any], content: bytes = b"") -> bytes:
    """The bytes of a frame."""
    told = json.dumps(head).encode()
    return LENGTHS.pack(len(told), len(content)) + told + content


class _DroppedError(BaseException):
    """Nobody wants the job done any more; no model may take it for a failure of its own."""


class _Job:
    """A job in a thread of its own, which works only while `step` waits for it.

    Attributes:
        answer: how far it is.
    """

    def __init__(self, work: Callable[[Pause], str]) -> None:
        self._work = work
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._dropped = False
        self._since = 0.0
        self._compute_s = 0.0
        self.answer: dict[str, Any] = {"state": "more"}
        threading.Thread(target=self._run, daemon=True, name="job").start()

    def step(self) -> dict[str, Any]:
        """Work until the next pause, or the end."""
        self._go.release()
        self._stopped.acquire()
        return {**self.answer, "compute_s": self._compute_s}

    def drop(self) -> None:
        """Work no more."""
        self._dropped = True
        self._go.release()

    def _pause(self) -> None:
        if time.perf_counter() - self._since < SLICE_S:
            return
        self._compute_s += time.perf_counter() - self._since
        self._stopped.release()
        self._wait()

    def _wait(self) -> None:
        self._go.acquire()
        if self._dropped:
            raise _DroppedError
        self._since = time.perf_counter()

    def _run(self) -> None:
        try:
            self._wait()
            text = self._work(self._pause)
            if not isinstance(text, str):
                raise TypeError(f"a model returned {type(text).__name__}, expected text")
            self.answer = {"state": "done", "text": text}
        except _DroppedError:
            return
        except EdgeSpeechError as error:
            self.answer = {"state": "refused", "message": str(error)}
        except Exception:
            _log.exception("a job failed")
            self.answer = {"state": "failed"}
        self._compute_s += time.perf_counter() - self._since
        self._stopped.release()


def _work_of(model: Any, head: Mapping[str, Any], content: bytes) -> Callable[[Pause], str]:
    if head["kind"] == "rescore":
        return lambda pause: str(model.rescore(content, pause))
    samples = np.frombuffer(content, np.float32)
    return lambda pause: str(model.transcribe(samples, head["context"], head["language"], pause))


def _serve(model: Any, frames: queue.SimpleQueue[tuple[dict[str, Any], bytes]], out: BinaryIO) -> None:
    jobs: dict[int, _Job] = {}
    while True:
        head, content = frames.get()
        number = head["job"]
        if head["op"] == "drop":
            if number in jobs:
                jobs.pop(number).drop()
            continue
        if head["op"] == "start":
            jobs[number] = _Job(_work_of(model, head, content))
        answer = jobs[number].step()
        if answer["state"] != "more":
            del jobs[number]
        out.write(pack_frame({"job": number, **answer}))
        out.flush()


def _read(source: BinaryIO, frames: queue.SimpleQueue[tuple[dict[str, Any], bytes]]) -> None:
    """Queue what comes; end the process, whatever it works on, when the server ends."""
    while len(lengths := source.read(LENGTHS.size)) == LENGTHS.size:
        head, content = LENGTHS.unpack(lengths)
        frames.put((json.loads(source.read(head)), source.read(content)))
    os._exit(0)


def main() -> int:
    """Make the model that the one argument names, tell that it is ready, and work until standard input ends."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    _log.addFilter(FewLines())
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no frame
    try:
        model = Made(**json.loads(sys.argv[1])).make()
    except EdgeSpeechError as error:
        out.write(pack_frame({"state": "refused", "message": str(error)}))
        out.flush()
        return 2
    out.write(pack_frame({"state": "ready"}))
    out.flush()
    frames: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, frames), daemon=True).start()
    _serve(model, frames, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
