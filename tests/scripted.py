"""Recognisers with known behaviour, for testing what measures recognisers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from edgespeech.contracts import (
    SAMPLE_RATE,
    Event,
    EventKind,
    Kind,
    Recogniser,
    RemoteTrace,
    Request,
    Samples,
    Stream,
    SystemInfo,
)
from edgespeech.harness.workers import Done, Job, Loaded
from edgespeech.harness.workers import Run as JobsRun
from edgespeech.records.trace import Chunk, Trace


class FakeClock:
    """A clock that moves only when somebody lets time pass."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def spend(self, seconds: float) -> None:
        self.now_s += seconds


class ScriptedStream(Stream):
    """Says what the script says, when it says so, and takes as long as it says."""

    def __init__(self, owner: Scripted) -> None:
        self.owner = owner
        self.calls = 0
        self.samples = 0
        self.pieces: list[int] = []

    def _step(self) -> Sequence[Event]:
        index = self.calls
        self.calls += 1
        if self.owner.spend is not None and index < len(self.owner.compute_s):
            self.owner.spend(self.owner.compute_s[index])
        return self.owner.script.get(index, ())

    def accept(self, samples: Samples) -> Sequence[Event]:
        self.samples += len(samples)
        self.pieces.append(len(samples))
        return self._step()

    def finish(self) -> Sequence[Event]:
        said = list(self._step())
        if self.owner.final is not None:
            said.append(Event(kind=EventKind.FINAL, text=self.owner.final))
        return said

    def remote(self) -> RemoteTrace | None:
        return self.owner.remote_trace


class Scripted(Recogniser):
    """A recogniser that follows a script: events by call index, compute seconds by call index, a last final."""

    name: ClassVar[str] = "scripted"
    kind: ClassVar[Kind] = Kind.DEVICE
    summary: ClassVar[str] = "follows a script"

    def __init__(
        self,
        *,
        script: dict[int, Sequence[Event]] | None = None,
        compute_s: Sequence[float] = (),
        spend: Callable[[float], None] | None = None,
        final: str | None = "",
        remote_trace: RemoteTrace | None = None,
        chunk_s: float = 0.1,
    ) -> None:
        self.script = script or {}
        self.compute_s = compute_s
        self.spend = spend
        self.final = final
        self.remote_trace = remote_trace
        self.chunk_s = chunk_s
        self.opened: list[ScriptedStream] = []

    def load(self) -> SystemInfo:
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=0,
            parameters=0,
            chunk_s=self.chunk_s,
            citation="a test",
        )

    def open(self, request: Request) -> Stream:
        self.opened.append(ScriptedStream(self))
        return self.opened[-1]


class _Troubled(ScriptedStream):
    def accept(self, samples: Samples) -> Sequence[Event]:
        assert isinstance(self.owner, Troubled)
        if self.samples + len(samples) > self.owner.after_s * SAMPLE_RATE:
            if self.owner.trouble == "raises":
                raise ValueError("the model is broken")
            if self.owner.trouble == "hangs":
                time.sleep(3600)
            if self.owner.trouble == "dies":
                os._exit(7)
        return super().accept(samples)


class Troubled(Scripted):
    """Goes wrong on any utterance longer than `after_s` seconds: raises, hangs, dies, or never finalises."""

    name: ClassVar[str] = "troubled"

    def __init__(self, *, trouble: str = "raises", after_s: float = 1.0, final: str | None = "fine") -> None:
        super().__init__(final=None if trouble == "never finalises" else final)
        self.trouble = trouble
        self.after_s = after_s

    def load(self) -> SystemInfo:
        if self.trouble == "cannot load":
            raise RuntimeError("the weights are broken")
        return super().load()

    def open(self, request: Request) -> Stream:
        return _Troubled(self)


def answering(answer: Callable[[Job], tuple[str, str | None]], info: SystemInfo) -> Callable[..., JobsRun]:
    """Stands for the processes of `workers.run_jobs`.

    Args:
        answer: the text of an utterance, and its failure.
        info: what the recogniser's `load` says.
    """

    def run_jobs(
        factory: object,
        options: object,
        jobs: Sequence[Job],
        *,
        threads: int,
        on_loaded: Callable[[Loaded], None],
        on_done: Callable[[Done], None],
    ) -> JobsRun:
        loaded = Loaded(info=info, load_s=0.0, warmup_s=0.0)
        on_loaded(loaded)
        done = []
        for job in jobs:
            text, failure = answer(job)
            item = job.spoken.item
            trace = Trace(
                utterance_id=item.id,
                duration_s=item.duration,
                chunks=(Chunk(ready_s=item.duration, compute_s=0.001),),
                events=() if failure else ((0, Event(kind=EventKind.FINAL, text=text)),),
                failure=failure,
            )
            done.append(Done(trace=trace))
            on_done(done[-1])
        return JobsRun(loaded=loaded, done=done, memory=None)

    return run_jobs
