"""Validation of everything that a recogniser returns to the harness.

A third-party recogniser may return anything. A violation of the contract fails that utterance with a one-line message,
and the run continues; valid results are converted to plain Python values, so that no later step of a run (pickling,
JSON, the record's schema) can fail on them.
"""

from __future__ import annotations

import json
import math
import numbers
import operator
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from unicodedata import category

from pydantic import ValidationError

from edgespeech.contracts import Event, EventKind, Kind, RemoteTrace, Reply, SystemInfo, Word
from edgespeech.core.config import explain
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records.records import guard
from edgespeech.records.schema import SystemRow

MAX_TEXT = 100_000
"""Maximum characters of one hypothesis: hours of speech."""
MAX_EVENTS = 100_000
"""Maximum number of events of one utterance."""
MAX_BYTES = 1 << 40
"""Maximum bytes of one message, or of a stream's state."""
MAX_CHUNK_S = 60.0
MAX_HELD = 1 << 28
"""Maximum characters of all hypotheses of an utterance together, each word time counted as `WORD_WEIGHT` of them:
repeated hypotheses grow with the square of the audio's length, unless the recogniser settles their beginnings."""
WORD_WEIGHT = 128
_REFERENCE = 8
_MAX_JSON = 1 << 20


def checked_events(said: object, before: int) -> tuple[Event, ...]:
    """Validate the result of one call of a stream.

    Args:
        said: the returned value.
        before: number of earlier events of the stream.

    Raises:
        EdgeSpeechError: it is not a sequence of events, or one of them is not valid.
    """
    events: list[Event] = []
    # A generator would do its work outside the timed call.
    for number, item in enumerate(_sequence(said, "events"), before):
        if number >= MAX_EVENTS:
            raise bad("recogniser", "number of events", f"over {MAX_EVENTS}", "fewer")
        events.append(_event(item, f"event {number}"))
    return tuple(events)


def weight_of(events: Sequence[Event], before: Event | None = None) -> int:
    """The weight of events, see `MAX_HELD`; words that are the very ones of the event before count as a reference."""
    weight = 0
    for event in events:
        earlier = () if before is None else before.words
        shared = sum(map(operator.is_, event.words, earlier))
        weight += len(event.text) + _REFERENCE * len(event.words) + WORD_WEIGHT * (len(event.words) - shared)
        before = event
    return weight


def checked_remote(remote: object, sent: int) -> RemoteTrace | None:
    """Validate a stream's remote trace.

    Args:
        remote: the result of `Stream.remote`.
        sent: number of messages sent by the stream.

    Raises:
        EdgeSpeechError: it is not a remote trace, or is not valid.
    """
    if remote is None:
        return None
    if not isinstance(remote, RemoteTrace):
        raise bad("recogniser", "remote", remote, "a RemoteTrace or None")
    compute_s = tuple(
        _seconds(item, "remote.compute_s") for item in _sequence(remote.compute_s, "remote.compute_s")
    )
    if len(compute_s) != sent:
        raise EdgeSpeechError(f"the far side accounts for {len(compute_s)} messages, {sent} were sent")
    replies = _sequence(remote.replies, "remote.replies")
    if len(replies) > MAX_EVENTS:
        raise bad("recogniser", "number of replies", len(replies), f"at most {MAX_EVENTS}")
    answer_deadline_s = remote.answer_deadline_s
    return RemoteTrace(
        compute_s=compute_s,
        replies=tuple(_reply(item, sent) for item in replies),
        answer_deadline_s=None
        if answer_deadline_s is None
        else _seconds(answer_deadline_s, "remote.answer_deadline_s"),
        notes=tuple(_text(note, "remote.notes") for note in _sequence(remote.notes, "remote.notes")),
    )


def checked_state_bytes(value: object) -> int | None:
    """Validate the size of a stream's state.

    Raises:
        EdgeSpeechError: it is not a number of bytes.
    """
    return None if value is None else _count(value, "state_bytes")


def checked_info(info: object, name: str) -> SystemInfo:
    """Validate a recogniser's `SystemInfo`, before the first utterance.

    Args:
        info: the result of `Recogniser.load`.
        name: of the requested recogniser.

    Raises:
        EdgeSpeechError: it is not a `SystemInfo`, a field has a wrong type or value, or it has content that must not be
            published (a path, a host's or a person's name).
    """
    where = f"{name}: load"
    if not isinstance(info, SystemInfo):
        raise bad(where, "what it returns", info, "a SystemInfo")
    if info.name != name:
        raise bad(where, "name", info.name, repr(name))
    if not isinstance(info.kind, Kind):
        raise bad(where, "kind", info.kind, "a Kind: device, cloud or hybrid")
    chunk_s = _number(info.chunk_s, "chunk_s", where)
    if not 0.001 <= chunk_s <= MAX_CHUNK_S:
        raise bad(where, "chunk_s", chunk_s, f"0.001 to {MAX_CHUNK_S:g} s")
    plain = SystemInfo(
        name=name,
        kind=info.kind,
        model_bytes=_count(info.model_bytes, "model_bytes", where),
        parameters=None if info.parameters is None else _count(info.parameters, "parameters", where),
        chunk_s=chunk_s,
        citation=_text(info.citation, "citation", where),
        config=_json(info.config, "config", where),
        model_sha256=_json(info.model_sha256, "model_sha256", where),
        notes=tuple(_text(note, "notes", where) for note in _sequence(info.notes, "notes", where)),
    )
    try:
        guard(SystemRow(**asdict(plain)).model_dump(mode="json"))
    except ValidationError as error:
        raise explain(where, error) from error
    except ValueError as error:
        raise EdgeSpeechError(f"{where}: {error}") from error
    return plain


def _event(item: object, where: str) -> Event:
    if not isinstance(item, Event):
        raise bad("recogniser", where, item, "an Event")
    if not isinstance(item.kind, EventKind):
        raise bad("recogniser", f"kind of {where}", item.kind, "an EventKind")
    return Event(
        kind=item.kind,
        text=_text(item.text, f"text of {where}"),
        words=tuple(_word(word, where) for word in _sequence(item.words, f"words of {where}")),
        audio_s=None if item.audio_s is None else _seconds(item.audio_s, f"audio_s of {where}"),
        n_bytes=_count(item.n_bytes, f"n_bytes of {where}"),
    )


def _word(item: object, where: str) -> Word:
    if not isinstance(item, Word):
        raise bad("recogniser", f"words of {where}", item, "Word")
    exact = type(item) is Word and type(item.text) is str
    start_s = _seconds(item.start_s, f"start_s of a word of {where}")
    end_s = _seconds(item.end_s, f"end_s of a word of {where}")
    if end_s < start_s:
        raise bad("recogniser", f"end_s of a word of {where}", end_s, f"at least its start_s, {start_s}")
    text = _text(item.text, f"text of a word of {where}")
    if exact and type(item.start_s) is float and type(item.end_s) is float:
        return item  # it is plain already, and events may share it
    return Word(text=text, start_s=start_s, end_s=end_s)


def _reply(item: object, sent: int) -> Reply:
    if not isinstance(item, Reply):
        raise bad("recogniser", "remote.replies", item, "Reply")
    after = _count(item.after_message, "after_message of a reply")
    if after >= sent:
        raise EdgeSpeechError("a reply belongs to no message that was sent")
    return Reply(
        after_message=after,
        n_bytes=_count(item.n_bytes, "n_bytes of a reply"),
        event=_event(item.event, "a reply"),
        compute_s=None if item.compute_s is None else _seconds(item.compute_s, "compute_s of a reply"),
    )


def _sequence(value: object, field: str, where: str = "recogniser") -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise bad(where, field, value, "a tuple or a list")
    return value


def _text(value: object, field: str, where: str = "recogniser") -> str:
    if not isinstance(value, str):
        raise bad(where, field, value, "a string")
    if len(value) > MAX_TEXT:
        raise bad(where, f"length of {field}", len(value), f"at most {MAX_TEXT}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise bad(where, field, value, "valid Unicode text") from error
    if not value.isprintable() and any(category(c) == "Cc" and not c.isspace() for c in value):
        raise bad(where, field, value, "text without control characters")
    return str(value)


def _number(value: object, field: str, where: str = "recogniser") -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise bad(where, field, value, "a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise bad(where, field, "an integer beyond all floats", "a number") from error
    if not math.isfinite(number):
        raise bad(where, field, value, "a finite number")
    return number


def _seconds(value: object, field: str) -> float:
    number = _number(value, field)
    if number < 0:
        raise bad("recogniser", field, number, "0 s or more")
    return number


def _count(value: object, field: str, where: str = "recogniser") -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise bad(where, field, value, "a whole number")
    count = operator.index(value)
    if not 0 <= count <= MAX_BYTES:
        raise bad(where, field, count if abs(count) < 10**18 else "beyond all", f"0 to {MAX_BYTES}")
    return count


def _json(value: object, field: str, where: str) -> Any:
    """A mapping as plain JSON: string keys, finite numbers, valid Unicode text, of limited size."""
    try:
        text = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)  # type: ignore[call-overload]  # may be anything
        plain = json.loads(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise bad(where, field, value, f"a mapping of JSON values ({error})") from error
    if len(text) > _MAX_JSON:
        raise bad(where, f"size of {field}", len(text), f"at most {_MAX_JSON} characters of JSON")
    return plain
