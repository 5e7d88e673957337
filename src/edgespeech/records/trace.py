"""What one utterance left behind: the trace of compute, and the timelines replayed from it.

A trace holds only what was measured (compute) and what was said (events, bytes). Times of day never enter it, so
one trace replays over any network, and the same trace always gives the same timeline.
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
    """One utterance as it was measured.

    Attributes:
        utterance_id: the manifest's id.
        duration_s: length of the audio.
        chunks: every `accept`, then `finish`.
        events: (index into `chunks`, event), in the order they were said.
        remote: the far side's part, if there is one.
        state_bytes: bytes of state of the stream, if it says.
        failure: why the utterance has no result (raised, hung, died, never finalised), or None. What was said before
            the failure is kept in `events`, but the utterance scores as full deletions and unbounded latency.
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
    """An event with the time at which the device (and so the user) has it.

    Attributes:
        event: what was said.
        t_s: when, in audio time.
        chunk: index of the chunk that caused it.
        remote: True when it came over the link; of a final, also when its words did.
        parts: how `t_s` comes about; the values add up to it: `listening` (audio time until the causing chunk was
            complete), `backlog` (earlier chunks still being computed), `compute` (this chunk on the device),
            `uplink`, `queue` (far side busy with earlier messages), `server`, `downlink`.
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
        trace: what was replayed.
        network: the profile's name.
        events: every event, by time. An event whose message never arrives (no network) is absent.
        up_bytes: bytes on the wire upwards, framing included; `down_bytes` likewise.
        failure: the trace's failure, or `no result over <network>`, or None.
        note: why the device's own result stands where the far side might have replaced it; else None.
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
