"""Live runs in real time, for validating the simulated cloud against a deployed one.

A live run feeds the audio on an absolute schedule over a real socket and time-stamps the replies as they arrive. It
validates the simulation; the published latencies come from replayed traces.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edgespeech.cloud.client import CloudStream, Received
from edgespeech.cloud.link import load_profiles
from edgespeech.cloud.protocol import TraceMessage, to_events
from edgespeech.cloud.second_pass import Answered
from edgespeech.contracts import SAMPLE_RATE, Event, EventKind, Recogniser, Request, Samples
from edgespeech.corpora.manifest import Manifest
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.replay import replay
from edgespeech.harness.runner import chunks_of, run_utterance
from edgespeech.metrics.arbitration import Answer, arbitrate
from edgespeech.records.trace import Stamped


@runtime_checkable
class SecondPassed(Protocol):
    """A stream of a device with a second pass: `edgespeech.secondpass.device.HybridStream`."""

    answer_deadline_s: float
    timeout_s: float

    def accept(self, samples: Samples) -> Sequence[Event]:
        """As `Stream.accept`; like the next two."""

    def finish(self) -> Sequence[Event]: ...  # noqa: D102  # see above

    def close(self) -> None: ...  # noqa: D102  # see above

    @property
    def waits(self) -> bool:
        """Whether an answer may still come."""

    def poll(self, timeout_s: float) -> Answered | None:
        """The next answer, or None after a timeout."""

    def answer(self, message: int, text: str) -> Event:
        """The event of an answer to a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveRun:
    """One utterance over a real socket in real time.

    Attributes:
        replies: (seconds after the first sample, event), as they arrived; for a device with a second pass, the events
            after arbitration.
        sent_bytes: payload bytes of every message to the server.
        reply_bytes: payload bytes of every reply.
        slip_s: maximum delay of the feeder relative to its schedule.
        note: for a device with a second pass, why its own result was final, or None.
    """

    replies: tuple[tuple[float, Event], ...]
    sent_bytes: tuple[int, ...]
    reply_bytes: tuple[int, ...]
    slip_s: float
    note: str | None = None

    @property
    def final_s(self) -> float:
        """Time of the last final, in seconds after the first sample."""
        return [at for at, event in self.replies if event.kind is EventKind.FINAL][-1]


def run_live(recogniser: Recogniser, samples: Samples, request: Request, *, chunk_s: float = 0.1) -> LiveRun:
    """Feed one utterance in real time: the chunk that ends at t is handed over at t, never before.

    Args:
        recogniser: loaded; its streams are `CloudStream` or `SecondPassed`.
        samples: with shape `(N,)`, 16 kHz, in [-1, 1].
        request: of the utterance.
        chunk_s: seconds of audio per `accept`.

    Raises:
        EdgeSpeechError: the server failed, or never sent a final; or the recogniser is not a client of a server.
    """
    stream = recogniser.open(request)
    if isinstance(stream, SecondPassed):
        return _run_second_pass(stream, samples, request, chunk_s)
    if not isinstance(stream, CloudStream):
        raise bad("live run", "recogniser", recogniser.name, "one that streams to a server")
    received: list[Received] = []
    problems: list[EdgeSpeechError] = []

    def listen() -> None:
        try:
            received.extend(stream.receive())
        except EdgeSpeechError as error:
            problems.append(error)

    listener = threading.Thread(target=listen, name="replies")
    events: list[Event] = []
    slip_s = 0.0
    fed = 0
    try:
        listener.start()
        start = time.monotonic()
        for piece in chunks_of(samples, chunk_s):
            fed += len(piece)
            ready = start + fed / SAMPLE_RATE
            time.sleep(max(0.0, ready - time.monotonic()))
            slip_s = max(slip_s, time.monotonic() - ready)
            events += stream.accept(piece)
        events += stream.finish()
    except EdgeSpeechError as error:
        listener.join()
        raise (problems or [error])[0] from error
    else:
        listener.join()
    finally:
        stream.close()
    if problems:
        raise problems[0]
    said = [reply for reply in received if not isinstance(reply.message, TraceMessage)]
    replies = to_events([reply.message for reply in said])
    if not any(event.kind is EventKind.FINAL for event in replies):
        raise EdgeSpeechError(f"live run of {request.utterance_id}: the server never sent a final")
    return LiveRun(
        replies=tuple((reply.at - start, event) for reply, event in zip(said, replies, strict=True)),
        sent_bytes=tuple(event.n_bytes for event in events),
        reply_bytes=tuple(reply.n_bytes for reply in said),
        slip_s=slip_s,
    )


def _run_second_pass(stream: SecondPassed, samples: Samples, request: Request, chunk_s: float) -> LiveRun:
    """The same for a device with a second pass: answers are processed between chunks."""
    device: list[Stamped] = []
    answers: list[Answer] = []
    reply_bytes: list[int] = []
    slip_s = 0.0
    fed = 0

    def take(until: float) -> None:
        while (left_s := until - time.monotonic()) > 0:
            answered = stream.poll(left_s)
            if answered is not None:
                event = stream.answer(answered.revision, answered.text)
                came = Stamped(event=event, t_s=answered.at - start, chunk=0, remote=True)
                answers.append(Answer(answered.revision, came))
                reply_bytes.append(answered.n_bytes)
                if not stream.waits and over:
                    return

    def say(events: Sequence[Event]) -> None:
        t_s = time.monotonic() - start
        device.extend(Stamped(event=event, t_s=t_s, chunk=0) for event in events)

    over = False
    try:
        start = time.monotonic()
        for piece in chunks_of(samples, chunk_s):
            fed += len(piece)
            ready = start + fed / SAMPLE_RATE
            take(ready)
            slip_s = max(slip_s, time.monotonic() - ready)
            say(stream.accept(piece))
        say(stream.finish())
        over = True
        if stream.waits:
            take(time.monotonic() + stream.timeout_s)
    finally:
        stream.close()
    events, note = arbitrate(device, answers, stream.answer_deadline_s)
    if not any(one.event.kind is EventKind.FINAL for one in events):
        raise EdgeSpeechError(f"live run of {request.utterance_id}: there is no final")
    return LiveRun(
        replies=tuple((one.t_s, one.event) for one in events if one.event.kind is not EventKind.SENT),
        sent_bytes=tuple(one.event.n_bytes for one in device if one.event.kind is EventKind.SENT),
        reply_bytes=tuple(reply_bytes),
        slip_s=slip_s,
        note=note,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One utterance live and simulated.

    Attributes:
        utterance_id: the manifest's id.
        live_upl_s: user-perceived latency over the real socket: the last final's time minus `eos_s`.
        simulated_upl_s: the same, replayed.
        bytes_equal: whether every message had the same payload bytes in both, in both directions.
        text_equal: whether the final texts were the same.
        slip_s: maximum delay of the live feeder.
    """

    utterance_id: str
    live_upl_s: float
    simulated_upl_s: float
    bytes_equal: bool
    text_equal: bool
    slip_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveAgreement:
    """Live against simulated over several utterances."""

    utterances: tuple[Comparison, ...]

    @property
    def bytes_equal(self) -> bool:
        """Whether all bytes were equal."""
        return all(one.bytes_equal for one in self.utterances)

    @property
    def live_upl_p50_s(self) -> float:
        """Median live user-perceived latency."""
        return statistics.median(one.live_upl_s for one in self.utterances)

    @property
    def simulated_upl_p50_s(self) -> float:
        """Median simulated user-perceived latency."""
        return statistics.median(one.simulated_upl_s for one in self.utterances)

    @property
    def upl_p50_difference(self) -> float:
        """Simulated median minus the live one, relative to the live one."""
        return self.simulated_upl_p50_s / self.live_upl_p50_s - 1

    @property
    def worst_slip_s(self) -> float:
        """Maximum delay of the live feeder."""
        return max(one.slip_s for one in self.utterances)


def compare_live(recogniser: Recogniser, manifest: Manifest, *, chunk_s: float = 0.1) -> LiveAgreement:
    """Run every utterance live and simulated, interleaved; takes longer than their audio.

    The simulation is the runner's trace replayed over the `loopback` profile, with the server's measured speed.

    Args:
        recogniser: loaded; its streams are `CloudStream`.
        manifest: a few utterances, each with `eos_s`.
        chunk_s: seconds of audio per `accept`.

    Raises:
        EdgeSpeechError: an utterance has no `eos_s`, or a run failed.
    """
    loopback = load_profiles()["loopback"]
    comparisons: list[Comparison] = []
    for utterance in manifest.utterances:
        if utterance.eos_s is None:
            raise bad(manifest.name, f"eos_s of {utterance.id}", None, "the end of speech in seconds")
        samples = manifest.read(utterance)
        request = Request(utterance_id=utterance.id, language=utterance.lang, context=utterance.context)
        live = run_live(recogniser, samples, request, chunk_s=chunk_s)
        trace = run_utterance(recogniser, samples, request, chunk_s=chunk_s)
        timeline = replay(trace, loopback, seed=0, cloud_speedup=1.0)
        final = timeline.last(EventKind.FINAL)
        if timeline.failure is not None or final is None or trace.remote is None:
            raise EdgeSpeechError(f"simulated run of {utterance.id}: {timeline.failure}")
        sent = tuple(event.n_bytes for _, event in trace.events if event.kind is EventKind.SENT)
        replies = tuple(reply.n_bytes for reply in trace.remote.replies)
        comparisons.append(
            Comparison(
                utterance_id=utterance.id,
                live_upl_s=live.final_s - utterance.eos_s,
                simulated_upl_s=final.t_s - utterance.eos_s,
                bytes_equal=(sent, replies) == (live.sent_bytes, live.reply_bytes),
                text_equal=timeline.text == live.replies[-1][1].text,
                slip_s=live.slip_s,
            )
        )
    return LiveAgreement(utterances=tuple(comparisons))
