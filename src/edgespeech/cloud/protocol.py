"""What client and server say to each other: one WebSocket connection per utterance.

The client sends `hello` (JSON: version, codec, language, context), audio messages (binary: Opus packets, each
after its length as two bytes, big-endian) and `end` (JSON). The server answers in JSON: `endpoint` when the
user has fallen silent, `final` with the text of one segment, `error` before it closes for a reason. It closes
with 1000 after its last message. The token travels in the `Authorization` header of the opening request, and
`?trace=1` there asks for one last `trace` message: compute and causes, which no user of the service would
see. Replies hold no times of day and no durations of computing, so their bytes are the same in every run.

The second pass is another path, `/v1/rescore`, again one connection per utterance. The client sends a request for
each revision of what it heard (binary: the revision as one byte, then the lattice as
`edgespeech.lattice.codec` writes it, which has a version and a checksum of its own). Revisions count up, from any
number. The server answers each with `rescored` (JSON: the revision and the words that it holds most likely), in
order; with `?trace=1` each answer is followed by a `trace` of all requests so far. The client closes when it has
heard enough. It takes an answer only where it was asked for, once, and where the words are a path of the lattice that
it sent; whatever else comes, its own result stands (`edgespeech.cloud.second_pass`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgespeech.contracts import Event, EventKind, RemoteTrace, Reply
from edgespeech.errors import EdgeSpeechError, bad

PATH = "/v1/recognise"
RESCORE_PATH = "/v1/rescore"
MAX_REVISION = 255
MAX_PACKETS = 50
"""Most packets in one audio message: 1 s of 20 ms frames."""
MAX_PHRASES, MAX_PHRASE = 2000, 200
"""Most context phrases of an utterance, and most characters of one."""
_LENGTH_BYTES = 2


class ProtocolError(EdgeSpeechError):
    """A message that breaks the protocol."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Hello(_Message):
    """The first message of a client."""

    type: Literal["hello"] = "hello"
    version: Literal[1] = 1
    codec: Literal["opus"] = "opus"
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")] = "en"
    context: Annotated[list[Annotated[str, Field(max_length=MAX_PHRASE)]], Field(max_length=MAX_PHRASES)] = []


class End(_Message):
    """The client's last message: no more audio."""

    type: Literal["end"] = "end"


class Endpoint(_Message):
    """The user has fallen silent. `audio_s`: how much audio had come when that was decided."""

    type: Literal["endpoint"] = "endpoint"
    segment: Annotated[int, Field(ge=0)]
    audio_s: float


class Final(_Message):
    """The text of one segment, the stretch of speech between two silences."""

    type: Literal["final"] = "final"
    segment: Annotated[int, Field(ge=0)]
    text: str
    audio_s: float


class Rescored(_Message):
    """The answer of the second pass: the likeliest words of a lattice."""

    type: Literal["rescored"] = "rescored"
    revision: Annotated[int, Field(ge=0, le=MAX_REVISION)]
    text: str


class Error(_Message):
    """Why the server closes."""

    type: Literal["error"] = "error"
    message: str


class TraceMessage(_Message):
    """Compute per uplink message (seconds); for each reply the uplink message that caused it, and how much of that
    message's compute was done when it left.
    """

    type: Literal["trace"] = "trace"
    compute_s: list[float]
    causes: list[int]
    after_s: list[float]


ServerMessage = Endpoint | Final | Rescored | Error | TraceMessage
_CLIENT: TypeAdapter[Hello | End] = TypeAdapter(Annotated[Hello | End, Field(discriminator="type")])
_SERVER: TypeAdapter[ServerMessage] = TypeAdapter(Annotated[ServerMessage, Field(discriminator="type")])


def encode(message: BaseModel) -> str:
    """A message as compact JSON, keys in the order of its fields, text unescaped."""
    return json.dumps(message.model_dump(), ensure_ascii=False, separators=(",", ":"))


def parse_client(text: str) -> Hello | End:
    """What a client's text message says.

    Raises:
        ProtocolError: it is neither `hello` nor `end`, or has wrong fields.
    """
    message: Hello | End = _parse(_CLIENT, "client message", text)
    return message


def parse_server(text: str) -> ServerMessage:
    """What a server's text message says.

    Raises:
        ProtocolError: it is no message of the protocol.
    """
    message: ServerMessage = _parse(_SERVER, "server message", text)
    return message


def pack_audio(packets: Sequence[bytes]) -> bytes:
    """One audio message out of Opus packets.

    Raises:
        EdgeSpeechError: there are none or too many, or one is empty or longer than two bytes can say.
    """
    if not 0 < len(packets) <= MAX_PACKETS:
        raise bad("audio message", "packets", len(packets), f"1 to {MAX_PACKETS}")
    for packet in packets:
        if not 0 < len(packet) < 2 ** (8 * _LENGTH_BYTES):
            raise bad("audio message", "packet length", len(packet), "1 to 65535 bytes")
    return b"".join(len(packet).to_bytes(_LENGTH_BYTES, "big") + packet for packet in packets)


def unpack_audio(message: bytes) -> list[bytes]:
    """The Opus packets of an audio message.

    Raises:
        ProtocolError: it is empty, ends in the middle of a packet, or holds an empty packet or too many.
    """
    packets: list[bytes] = []
    at = 0
    while at < len(message):
        length = int.from_bytes(message[at : at + _LENGTH_BYTES], "big")
        at += _LENGTH_BYTES
        if length == 0 or at + length > len(message):
            raise ProtocolError(
                f"audio message: packet {len(packets)} of {length} bytes at byte {at} of {len(message)}, "
                "expected 1 byte at least and the whole packet"
            )
        packets.append(message[at : at + length])
        at += length
    if not 0 < len(packets) <= MAX_PACKETS:
        raise ProtocolError(f"audio message: packets is {len(packets)}, expected 1 to {MAX_PACKETS}")
    return packets


def pack_request(revision: int, lattice: bytes) -> bytes:
    """One request of the second pass.

    Args:
        revision: 0 to 255, above those of the utterance's requests before.
        lattice: at least one byte.

    Raises:
        EdgeSpeechError: the revision is out of range, or there is no lattice.
    """
    if not 0 <= revision <= MAX_REVISION:
        raise bad("request", "revision", revision, f"0 to {MAX_REVISION}")
    if not lattice:
        raise bad("request", "lattice", lattice, "at least 1 byte")
    return bytes([revision]) + lattice


def unpack_request(message: bytes) -> tuple[int, bytes]:
    """The revision and the lattice of a request.

    Raises:
        ProtocolError: there is no lattice.
    """
    if len(message) < 2:
        raise ProtocolError(f"request: {len(message)} bytes, expected a revision and a lattice")
    return message[0], message[1:]


def remote_trace(replies: Sequence[tuple[ServerMessage, int]], trace: TraceMessage, sent: int) -> RemoteTrace:
    """The contract's form of what a server said.

    The text of each final event is that of all segments so far, since an event speaks for the whole
    utterance.

    Args:
        replies: endpoint and final messages in order, each with its payload bytes.
        trace: the server's trace.
        sent: how many messages the client sent.

    Raises:
        ProtocolError: the trace does not fit the messages.
    """
    n_replies = {len(trace.causes), len(trace.after_s)}
    if len(trace.compute_s) != sent or n_replies != {len(replies)}:
        raise ProtocolError(
            f"server trace: {len(trace.compute_s)} messages and {len(trace.causes)} replies, "
            f"expected {sent} and {len(replies)}"
        )
    if not all(0 <= cause < sent for cause in trace.causes):
        raise bad("server trace", "causes", trace.causes, f"message numbers below {sent}")
    events = to_events([message for message, _ in replies])
    return RemoteTrace(
        compute_s=tuple(trace.compute_s),
        replies=tuple(
            Reply(after_message=cause, n_bytes=n_bytes, event=event, compute_s=after_s)
            for cause, after_s, (_, n_bytes), event in zip(
                trace.causes, trace.after_s, replies, events, strict=True
            )
        ),
    )


def to_events(messages: Sequence[ServerMessage]) -> list[Event]:
    """The events of endpoint and final messages, each final with the text of all segments so far."""
    events: list[Event] = []
    texts: list[str] = []
    for message in messages:
        if isinstance(message, Final):
            texts += [message.text.strip()] if message.text.strip() else []
            events.append(Event(kind=EventKind.FINAL, text=" ".join(texts), audio_s=message.audio_s))
        elif isinstance(message, Endpoint):
            events.append(Event(kind=EventKind.ENDPOINT, audio_s=message.audio_s))
    return events


def _parse(adapter: TypeAdapter[Any], where: str, text: str) -> Any:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "JSON"
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise ProtocolError(f"{where}: {field}: {first['msg']}, in {shown!r}") from error
