"""Traces of utterances, and timelines replayed from them.

A trace has only measured compute times, events and bytes. It has no times of day, so one trace can be replayed over any
network, and the same trace always gives the same timeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgespeech.contracts import Event, EventKind, RemoteTrace


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """One call of the recogniser.

    Attributes:
        ready_s: audio time at which its last sample exists; for `finish`, the duration of the audio.
        compute_s: monotonic time spent inside the call.
    """

    ready_s: float
    compute_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """The measurement of one utterance.

    Attributes:
        utterance_id: the manifest's id.
        duration_s: length of the audio.
        chunks: every `accept`, then `finish`.
        events: (index into `chunks`, event), in order.
        remote: the server's part, if there is one.
        state_bytes: size of the stream's state, if reported.
        failure: why the utterance has no result (raised, hung, died, never finalised), or None. Events before the
            failure are in `events`, but the utterance scores as full deletions and unbounded latency.
    """

    utterance_id: str
    duration_s: float
    chunks: tuple[Chunk, ...]
    events: tuple[tuple[int, Event], ...]
    remote: RemoteTrace | None = None
    state_bytes: int | None = None
    failure: str | None = None


def result_of(events: Iterable[Event]) -> Event | None:
    """The last final, behind the text and the words that were settled before it; None where there is no final."""
    settled: list[Event] = []
    final = last = None
    for event in events:
        if event.kind is EventKind.SETTLED:
            settled.append(event)
            last = None
        elif event.kind is EventKind.FINAL:
            final = last = event
    if final is None or not settled:
        return final
    parts = settled if last is None else [*settled, last]
    return Event(
        kind=EventKind.FINAL,
        text=" ".join(part.text for part in parts if part.text),
        words=tuple(word for part in parts for word in part.words),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamped:
    """An event with the time at which it is available on the device.

    Attributes:
        event: of the recogniser.
        t_s: its time, in audio time.
        chunk: index of the chunk that caused it.
        remote: True if it came over the link; for a final, also if its words did.
        parts: components of `t_s`, which add up to it: `listening` (audio time until the causing chunk was
            complete), `backlog` (earlier chunks still being computed), `compute` (this chunk on the device),
            `uplink`, `queue` (server busy with earlier messages), `server`, `downlink`.
    """

    event: Event
    t_s: float
    chunk: int
    remote: bool = False
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """A trace replayed over one network.

    Attributes:
        trace: that was replayed.
        network: the profile's name.
        events: every event, by time. An event whose message never arrives (no network) is absent.
        up_bytes: bytes on the wire upwards, framing included; `down_bytes` likewise.
        failure: the trace's failure, or `no result over <network>`, or None.
        note: why the device's own result was final although the server might have replaced it; else None.
    """

    trace: Trace
    network: str
    events: tuple[Stamped, ...]
    up_bytes: int
    down_bytes: int
    failure: str | None = None
    note: str | None = None

    def last(self, *kinds: EventKind) -> Stamped | None:
        """The last event of these kinds, or None."""
        found = [stamped for stamped in self.events if stamped.event.kind in kinds]
        return found[-1] if found else None

    @property
    def text(self) -> str:
        """The raw hypothesis that counts, see `result_of`; empty after a failure."""
        result = None if self.failure is not None else result_of(one.event for one in self.events)
        return "" if result is None else result.text
