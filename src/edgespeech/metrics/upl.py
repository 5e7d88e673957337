"""User-perceived latency (UPL): from the end of speech to the result that downstream uses.

UPL is the time of the kept result minus the end of speech. The kept result is the first one, speculative or final,
after which the words of the last final were neither withdrawn nor changed; if it is the last final itself, it counts as
available from the last reset if that is later (the restart). A failed utterance has infinite UPL. Results before the
end of speech give negative UPL, which is included.

The parts of a UPL add up to it. They follow the path from the end of speech over the end-point to the result. The
anchor is the last end-point before the kept result; without one (the utterance ended with the file, or the result was
speculative), it is the kept result itself.

- end-pointing: audio consumed when the anchor was decided (`audio_s`; else all audio delivered) minus end of
  speech
- frame: rest of the chunk in which that audio arrived
- compute: backlog and compute on the device, queue and compute on the far side, up to the anchor
- network: up and down the link, of the kept result
- finalisation: from the anchor to the kept result, without network
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from edgespeech.contracts import EventKind
from edgespeech.records.trace import Stamped, Timeline
from edgespeech.text.normalise import basic_text

plain = lru_cache(maxsize=1 << 16)(basic_text)
"""Text without case and punctuation, for comparing results and words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UplParts:
    """The parts of a UPL in seconds; each may be negative, and they add up to the UPL."""

    endpointing_s: float
    frame_s: float
    compute_s: float
    network_s: float
    finalisation_s: float


def first_endpoint(timeline: Timeline) -> Stamped | None:
    """The first end-point, which shows whether the user was cut off; None if only the file ended."""
    return next((stamped for stamped in timeline.events if stamped.event.kind is EventKind.ENDPOINT), None)


def closing_endpoint(timeline: Timeline, result: Stamped) -> Stamped | None:
    """The last end-point before a result, which closed its last segment."""
    before = [
        stamped
        for stamped in timeline.events
        if stamped.event.kind is EventKind.ENDPOINT and stamped.t_s <= result.t_s
    ]
    return before[-1] if before else None


def final_result(timeline: Timeline) -> Stamped | None:
    """The last final, or the first of the preceding ones with the same words; None after a failure."""
    return _earliest(timeline, EventKind.FINAL)


def kept_result(timeline: Timeline) -> Stamped | None:
    """The event whose text downstream uses, speculative or final; None after a failure."""
    return _earliest(timeline, EventKind.FINAL, EventKind.SPECULATIVE)


def was_revised(timeline: Timeline) -> bool | None:
    """Whether a speculative result was reset or differs from the final; None if there was none."""
    kinds = [stamped.event.kind for stamped in timeline.events]
    if EventKind.RESET in kinds:
        return True
    if EventKind.SPECULATIVE not in kinds:
        return None
    kept = kept_result(timeline)
    early = [stamped for stamped in timeline.events if stamped.event.kind is EventKind.SPECULATIVE]
    return kept is None or not all(_agree(stamped, kept) for stamped in early)


def upl_s(timeline: Timeline, eos_s: float) -> float:
    """User-perceived latency in seconds after `eos_s`; infinite after a failure."""
    kept = kept_result(timeline)
    return math.inf if kept is None else _available_s(timeline, kept) - eos_s


def upl_parts(timeline: Timeline, eos_s: float) -> UplParts | None:
    """The parts of `upl_s`; None after a failure, or if the timeline's stamps have no parts."""
    kept = kept_result(timeline)
    if kept is None:
        return None
    anchor = closing_endpoint(timeline, kept) or kept
    if not anchor.parts or not kept.parts:
        return None
    heard_s = anchor.parts["listening"]
    if anchor.event.audio_s is not None and anchor.event.kind is not EventKind.FINAL:
        heard_s = anchor.event.audio_s
    network_s = _network_s(kept)
    return UplParts(
        endpointing_s=heard_s - eos_s,
        frame_s=anchor.parts["listening"] - heard_s,
        compute_s=sum(anchor.parts.get(name, 0.0) for name in ("backlog", "compute", "queue", "server")),
        network_s=network_s,
        finalisation_s=_available_s(timeline, kept) - anchor.t_s - (network_s - _network_s(anchor)),
    )


def _earliest(timeline: Timeline, *kinds: EventKind) -> Stamped | None:
    """The first event of these kinds from which on all have the words of the last final; None after a failure.

    Nothing is reset or settled in between.
    """
    final = timeline.last(EventKind.FINAL)
    if final is None or timeline.failure is not None:
        return None
    early: Stamped | None = None
    for stamped in timeline.events:
        if stamped is final:
            break
        if stamped.event.kind in (EventKind.RESET, EventKind.SETTLED):
            early = None
        elif stamped.event.kind in kinds and not (early and _agree(early, stamped)):
            early = stamped
    return early if early and _agree(early, final) else final


def _available_s(timeline: Timeline, kept: Stamped) -> float:
    reset = timeline.last(EventKind.RESET)
    return kept.t_s if reset is None else max(kept.t_s, reset.t_s)


def _network_s(stamped: Stamped) -> float:
    return stamped.parts.get("uplink", 0.0) + stamped.parts.get("downlink", 0.0)


def _agree(one: Stamped, other: Stamped) -> bool:
    return plain(one.event.text) == plain(other.event.text)
