"""The trace of one utterance as one line of `hyps.jsonl`, and back: events and costs, never times of day.

Times are rounded to the microsecond. Every figure of a record is derived from traces that were converted to rows and
back, so that replaying the stored rows gives the record's figures again, over these networks or others.
"""

from __future__ import annotations

from typing import Any

from edgespeech.contracts import Event, EventKind, RemoteTrace, Reply, Word
from edgespeech.records.trace import Chunk, Trace

_DIGITS = 6


def trace_to_row(trace: Trace) -> dict[str, Any]:
    """The JSON form of a trace: `events`, `sent`, `timing` and, if there is a server, `remote`."""
    row: dict[str, Any] = {
        "duration_s": round(trace.duration_s, _DIGITS),
        "timing": {
            "ready_s": [round(chunk.ready_s, _DIGITS) for chunk in trace.chunks],
            "compute_s": [round(chunk.compute_s, _DIGITS) for chunk in trace.chunks],
        },
        "sent": [[index, event.n_bytes] for index, event in trace.events if event.kind is EventKind.SENT],
        "events": [
            {"chunk": index, **_event_to_row(event)}
            for index, event in trace.events
            if event.kind is not EventKind.SENT
        ],
        "state_bytes": trace.state_bytes,
        "failure": trace.failure,
    }
    if trace.remote is not None:
        row["remote"] = {
            "compute_s": [round(seconds, _DIGITS) for seconds in trace.remote.compute_s],
            "replies": [
                {
                    "after": reply.after_message,
                    "n_bytes": reply.n_bytes,
                    **({} if reply.compute_s is None else {"compute_s": round(reply.compute_s, _DIGITS)}),
                    **_event_to_row(reply.event),
                }
                for reply in trace.remote.replies
            ],
        }
        if trace.remote.answer_deadline_s is not None:
            row["remote"]["answer_deadline_s"] = round(trace.remote.answer_deadline_s, _DIGITS)
        if trace.remote.notes:
            row["remote"]["notes"] = list(trace.remote.notes)
    return row


def trace_from_row(utterance_id: str, row: dict[str, Any]) -> Trace:
    """The trace of a row from `trace_to_row`."""
    timing = row["timing"]
    said = [(item["chunk"], _event_from_row(item)) for item in row["events"]]
    sent = [(index, Event(kind=EventKind.SENT, n_bytes=n_bytes)) for index, n_bytes in row["sent"]]
    remote = row.get("remote")
    return Trace(
        utterance_id=utterance_id,
        duration_s=row["duration_s"],
        chunks=tuple(
            Chunk(ready_s=ready_s, compute_s=compute_s)
            for ready_s, compute_s in zip(timing["ready_s"], timing["compute_s"], strict=True)
        ),
        events=tuple(sorted(sent + said, key=lambda pair: pair[0])),
        remote=None
        if remote is None
        else RemoteTrace(
            compute_s=tuple(remote["compute_s"]),
            replies=tuple(
                Reply(
                    after_message=item["after"],
                    n_bytes=item["n_bytes"],
                    event=_event_from_row(item),
                    compute_s=item.get("compute_s"),
                )
                for item in remote["replies"]
            ),
            answer_deadline_s=remote.get(
                "answer_deadline_s", remote.get("patience_s")
            ),  # its name until 2026-11
            notes=tuple(remote.get("notes", ())),
        ),
        state_bytes=row["state_bytes"],
        failure=row["failure"],
    )


def _event_to_row(event: Event) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": event.kind.value}
    if event.text:
        row["text"] = event.text
    if event.audio_s is not None:
        row["audio_s"] = round(event.audio_s, _DIGITS)
    if event.words:
        row["words"] = [[word.text, round(word.start_s, 3), round(word.end_s, 3)] for word in event.words]
    return row


def _event_from_row(row: dict[str, Any]) -> Event:
    return Event(
        kind=EventKind(row["kind"]),
        text=row.get("text", ""),
        audio_s=row.get("audio_s"),
        words=tuple(
            Word(text=text, start_s=start_s, end_s=end_s) for text, start_s, end_s in row.get("words", ())
        ),
    )
