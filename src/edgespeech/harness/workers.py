"""Running a recogniser in a separate process.

One process per run has three advantages: its memory is that of this run alone, threads are limited before any library
starts, and a recogniser that hangs or dies costs one utterance, not the run.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any, TypeVar

from edgespeech.audio.codec import flac_bytes, pcm_bytes
from edgespeech.contracts import EventKind, Recogniser, Request, Samples, SystemInfo
from edgespeech.core.threads import THREAD_VARIABLES
from edgespeech.corpora.utterances import Spoken
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.boundary import checked_info
from edgespeech.harness.memory import MemoryFigures, MemoryMeter
from edgespeech.harness.runner import printable, run_utterance, warm_up
from edgespeech.records.trace import Trace

_log = logging.getLogger(__name__)

LOAD_TIMEOUT_S = 300.0
GIVE_UP_AFTER = 3
"""Number of consecutive process failures after which the remaining utterances are recorded as failed without a try. An
unreadable file is not a process failure."""


T = TypeVar("T")


GIVEN_UP = "not tried: "
"""Beginning of the failure message of utterances that were not tried, after too many process failures."""


class CannotLoadError(EdgeSpeechError):
    """The recogniser cannot be loaded; the message says why."""


class ProcessFailureError(EdgeSpeechError):
    """The recogniser's process hung, died or returned an error; the message says which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One utterance to run, with its request and audio condition; with `lead_in`, its request gets what comes first."""

    spoken: Spoken
    request: Request
    lead_in: bool = False

    @property
    def timeout_s(self) -> float:
        """Maximum time for its result: far slower than real time counts as a hang."""
        return max(60.0, 30.0 * self.spoken.item.duration)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """The message of the process when the recogniser is ready."""

    info: SystemInfo
    load_s: float
    warmup_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """One utterance's trace, and the size of its audio as PCM, FLAC and Opus if anything was sent."""

    trace: Trace
    audio_bytes: Mapping[str, int] = field(default_factory=dict)


def _audio_bytes(samples: Samples, trace: Trace) -> dict[str, int]:
    sent = [event.n_bytes for _, event in trace.events if event.kind is EventKind.SENT]
    if not sent:
        return {}
    return {"pcm": pcm_bytes(samples), "flac": flac_bytes(samples), "sent": sum(sent)}


def _serve_jobs(pipe: Connection, recogniser: Recogniser) -> None:
    meter = MemoryMeter()
    meter.before()
    start, process = perf_counter(), os.getpid()
    info = checked_info(recogniser.load(), type(recogniser).name)
    load_s = perf_counter() - start
    warmup_s = warm_up(recogniser, chunk_s=info.chunk_s)
    _end_fork(process)
    meter.after_load()
    pipe.send(Loaded(info=info, load_s=load_s, warmup_s=warmup_s))
    while (job := pipe.recv()) is not None:
        if job == "memory":
            pipe.send(meter.peak(recogniser.helper_pids()))
            continue
        try:
            lead_in, samples = job.spoken.stream()
        except Exception as error:  # any error while decoding is a failure of this file
            kind = "" if isinstance(error, EdgeSpeechError) else f"{type(error).__name__}: "
            pipe.send(_failed(job, printable(f"audio: {kind}{error}")))
            continue
        request = replace(job.request, lead_in=lead_in) if job.lead_in else job.request
        trace = run_utterance(recogniser, samples, request, chunk_s=info.chunk_s)
        _end_fork(process)
        pipe.send(Done(trace=trace, audio_bytes=_audio_bytes(samples, trace)))


def _end_fork(process: int) -> None:
    """Exit if the recogniser forked and this is the child, which must not answer besides its parent."""
    if os.getpid() != process:
        os._exit(1)


def _worker(pipe: Connection, factory: type[Recogniser], options: Mapping[str, Any]) -> None:
    """Main function of the process: load, then one answer per job. Errors are sent as text: they may not unpickle."""
    os.setsid()  # so that helpers end too when the parent ends the group
    recogniser: Recogniser | None = None
    try:
        recogniser = factory(**options)
        _serve_jobs(pipe, recogniser)
    except (EOFError, BrokenPipeError):
        pass  # the parent has ended
    except EdgeSpeechError as error:
        pipe.send(str(error))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
    finally:
        if recogniser is not None:
            recogniser.close()
        pipe.close()


class Worker:
    """One recogniser in one process. A context manager; leaving it ends the process and its helpers."""

    def __init__(self, factory: type[Recogniser], options: Mapping[str, Any], *, threads: int) -> None:
        """Start the process and wait until the recogniser is ready.

        Args:
            factory: the recogniser's class; it must be importable.
            options: its constructor's keyword arguments.
            threads: limit for every library.

        Raises:
            EdgeSpeechError: it cannot be loaded; the message says why.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_worker, args=(theirs, factory, dict(options)), daemon=False)
        before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
        try:
            self._process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()
        try:
            self.loaded: Loaded = self._answer(Loaded, LOAD_TIMEOUT_S)
        except EdgeSpeechError as error:
            self.kill()
            raise CannotLoadError(f"{factory.name} cannot be loaded: {error}") from error

    def _answer(self, kind: type[T], timeout_s: float) -> T:
        """The next answer of the process, which must be of this type.

        Raises:
            ProcessFailureError: it hung, died, or sent an error; the process is unusable after that.
        """
        try:
            if not self._pipe.poll(timeout_s):
                raise ProcessFailureError(f"hung: no answer in {timeout_s:.0f} s")
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            raise ProcessFailureError(f"died: exit code {self._process.exitcode}") from None
        if not isinstance(answer, kind):
            raise ProcessFailureError(printable(f"raised: {answer}"))
        return answer

    def run(self, job: Job) -> Done:
        """Run one utterance.

        Raises:
            ProcessFailureError: the process hung, died or could not prepare the audio.
        """
        self._send(job)
        done = self._answer(Done, job.timeout_s)
        if done.trace.utterance_id != job.request.utterance_id:
            raise ProcessFailureError(f"answered for another utterance, {done.trace.utterance_id}")
        return done

    def memory(self) -> MemoryFigures:
        """Memory of the process and its helpers up to now."""
        self._send("memory")
        return self._answer(MemoryFigures, 30.0)

    def _send(self, message: object) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            self._process.join(5)
            raise ProcessFailureError(f"died: exit code {self._process.exitcode}") from None

    def kill(self) -> None:
        """Kill the process and everything it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the recogniser close, then end remaining processes."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)
            self._process.join(10)
        self.kill()


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The results of one recogniser on a list of jobs, in their order."""

    loaded: Loaded
    done: Sequence[Done]
    memory: MemoryFigures | None


def run_jobs(
    factory: type[Recogniser],
    options: Mapping[str, Any],
    jobs: Sequence[Job],
    *,
    threads: int = 1,
    on_loaded: Callable[[Loaded], None] = lambda _: None,
    on_done: Callable[[Done], None] = lambda _: None,
) -> Run:
    """Run all jobs in a separate process; a process that fails is replaced and its utterance recorded as failed.

    Args:
        factory: the recogniser's class.
        options: its constructor's keyword arguments.
        jobs: the utterances.
        threads: limit for every library.
        on_loaded: called before the first utterance.
        on_done: called after each.

    Raises:
        EdgeSpeechError: the recogniser cannot be loaded.
    """
    done: list[Done] = []
    failures_in_a_row = 0
    memory: MemoryFigures | None = None
    first = Worker(factory, options, threads=threads)
    _log.info("%s is loaded in %.2f s: %s", factory.name, first.loaded.load_s, first.loaded.info.citation)
    worker: Worker | None = first
    try:
        on_loaded(first.loaded)
        for job in jobs:
            _log.debug("%s: %s", factory.name, job.request.utterance_id)
            if failures_in_a_row >= GIVE_UP_AFTER:
                result = _failed(job, f"{GIVEN_UP}the process failed {failures_in_a_row} times in a row")
            else:
                try:
                    worker = worker or Worker(factory, options, threads=threads)
                    result = worker.run(job)
                    failures_in_a_row = 0
                except EdgeSpeechError as error:
                    result = _failed(job, str(error))
                    _log.info("%s: %s", job.request.utterance_id, error)
                    failures_in_a_row += 1
                    if worker is not None:
                        worker.kill()
                    worker = None
            done.append(result)
            on_done(result)
        if worker is not None:
            with contextlib.suppress(ProcessFailureError):
                memory = worker.memory()
    finally:
        if worker is not None:
            worker.__exit__()
    return Run(loaded=first.loaded, done=done, memory=memory)


def _failed(job: Job, reason: str) -> Done:
    return Done(
        trace=Trace(
            utterance_id=job.request.utterance_id,
            duration_s=job.spoken.item.duration,
            chunks=(),
            events=(),
            failure=reason,
        )
    )
