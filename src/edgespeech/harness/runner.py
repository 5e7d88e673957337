"""The runner: delivers one utterance in chunks of virtual real time and measures the compute time of each chunk.

The runner does not wait in real time: chunk k is available from `(k + 1) * chunk_s` on, and only the time inside the
recogniser's own calls counts (measurement definitions, section 1). Time stamps are computed afterwards by `replay`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

import numpy as np

from edgespeech.contracts import (
    SAMPLE_RATE,
    Event,
    EventKind,
    Recogniser,
    RemoteTrace,
    Request,
    Samples,
    Stream,
)
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.boundary import (
    MAX_HELD,
    checked_events,
    checked_remote,
    checked_state_bytes,
    weight_of,
)
from edgespeech.records.trace import Chunk, Trace

MAX_FAILURE = 500
"""Maximum characters of a failure's message."""


def chunks_of(samples: Samples, chunk_s: float) -> Iterator[Samples]:
    """Consecutive pieces of `samples`, with shape `(N,)`, of `chunk_s` seconds each; the last may be shorter."""
    step = round(chunk_s * SAMPLE_RATE)
    if step < 1:
        raise bad("runner", "chunk_s", chunk_s, f"at least {1 / SAMPLE_RATE:.7f} s")
    for start in range(0, len(samples), step):
        yield samples[start : start + step]


def run_utterance(recogniser: Recogniser, samples: Samples, request: Request, *, chunk_s: float) -> Trace:
    """Feed one utterance to a loaded recogniser.

    Every error of the recogniser becomes the trace's `failure`; no utterance is dropped. (If a recogniser hangs or its
    process dies, `workers` records that.)

    Args:
        recogniser: loaded.
        samples: with shape `(N,)`, float32, 16 kHz.
        request: of the utterance.
        chunk_s: seconds of audio per `accept`.
    """
    chunks: list[Chunk] = []
    events: list[tuple[int, Event]] = []
    remote: RemoteTrace | None = None
    state_bytes: int | None = None
    failure: str | None = None
    stream: Stream | None = None
    held = 0

    def timed(call: Callable[[], Sequence[Event]], ready_s: float) -> None:
        nonlocal held
        start = perf_counter()
        said = call()
        compute_s = perf_counter() - start
        chunks.append(Chunk(ready_s=ready_s, compute_s=compute_s))
        checked = checked_events(said, len(events))
        held += weight_of(checked, events[-1][1] if events else None)
        if held > MAX_HELD:
            expected = f"at most {MAX_HELD} characters: split the audio, or settle what will not change"
            raise bad("recogniser", f"all hypotheses up to {ready_s:.1f} s", held, expected)
        events.extend((len(chunks) - 1, event) for event in checked)

    try:
        stream = recogniser.open(request)
        fed = 0
        for piece in chunks_of(samples, chunk_s):
            fed += len(piece)
            timed(lambda piece=piece: stream.accept(piece), fed / SAMPLE_RATE)  # type: ignore[misc]  # bound by default
        timed(stream.finish, fed / SAMPLE_RATE)
        state_bytes = checked_state_bytes(stream.state_bytes())
        sent = sum(event.kind is EventKind.SENT for _, event in events)
        remote = checked_remote(stream.remote(), sent)
        failure = _fault(events, remote)
    except Exception as error:
        failure = _reason(error)
    finally:
        try:
            if stream is not None:
                stream.close()
        except Exception as error:
            failure = failure or _reason(error)
    return Trace(
        utterance_id=request.utterance_id,
        duration_s=len(samples) / SAMPLE_RATE,
        chunks=tuple(chunks),
        events=tuple(events),
        remote=remote,
        state_bytes=state_bytes,
        failure=failure,
    )


def _reason(error: Exception) -> str:
    """The failure message of an exception: one line of valid Unicode, of limited length."""
    if isinstance(error, EdgeSpeechError):
        return printable(f"raised: {error}")
    where = traceback.extract_tb(error.__traceback__)[-1]
    try:
        told = str(error)
    except Exception:  # `str` of a third-party exception may fail too
        told = "(its message cannot be made)"
    return printable(f"raised: {type(error).__name__}: {told} ({where.name}, line {where.lineno})")


def printable(text: str) -> str:
    """A message as one line of valid Unicode, with at most `MAX_FAILURE` characters."""
    line = " ".join(text.encode(errors="replace").decode().split())
    return line if len(line) <= MAX_FAILURE else line[: MAX_FAILURE - 3] + "..."


def _fault(events: Sequence[tuple[int, Event]], remote: RemoteTrace | None) -> str | None:
    """The error of a stream that ended without an exception, or None."""
    finals = sum(event.kind is EventKind.FINAL for _, event in events)
    if remote is not None:
        finals += sum(reply.event.kind is EventKind.FINAL for reply in remote.replies)
    if finals == 0:
        return "never finalised"
    return None


def warm_up(recogniser: Recogniser, *, chunk_s: float, seconds: float = 1.0) -> float:
    """Run one throw-away utterance of faint seeded noise; return the seconds it took.

    Errors are ignored here, since they occur on the utterances too, where they are recorded.
    """
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal(round(seconds * SAMPLE_RATE)) * 1e-3).astype(np.float32)
    start = perf_counter()
    run_utterance(recogniser, noise, Request(utterance_id="warm-up"), chunk_s=chunk_s)
    return perf_counter() - start
