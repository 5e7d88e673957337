from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.cloud.protocol import (
    End,
    Endpoint,
    Final,
    Hello,
    ProtocolError,
    ServerMessage,
    TraceMessage,
    encode,
    pack_audio,
    parse_client,
    parse_server,
    remote_trace,
    unpack_audio,
)
from edgespeech.contracts import EventKind
from edgespeech.errors import EdgeSpeechError


def test_messages_as_they_travel() -> None:
    hello = '{"type":"hello","version":1,"codec":"opus","language":"en","context":["café"]}'
    assert encode(Hello(context=["café"])) == hello
    assert parse_client(hello) == Hello(context=["café"])
    assert parse_client('{"type":"end"}') == End()
    final = '{"type":"final","segment":0,"text":"two lattes","audio_s":2.5}'
    assert encode(Final(segment=0, text="two lattes", audio_s=2.5)) == final
    assert parse_server(final) == Final(segment=0, text="two lattes", audio_s=2.5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "null",
        "{",
        '{"type":"start"}',
        '{"type":"end","now":true}',
        '{"type":"hello","version":2}',
        '{"type":"hello","codec":"pcm"}',
        '{"type":"hello","language":"english"}',
        '{"type":"hello","context":"latte"}',
        '{"type":"hello","context":[1]}',
        '{"type":"final","segment":0,"text":"x","audio_s":1}',
    ],
)
def test_bad_client_messages(text: str) -> None:
    with pytest.raises(ProtocolError, match="client message: "):
        parse_client(text)


def test_the_error_names_field_and_value() -> None:
    with pytest.raises(
        ProtocolError, match=r"version: Input should be 1, in '\{\"type\":\"hello\",\"version\":7\}'"
    ):
        parse_client('{"type":"hello","version":7}')


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=50))
def test_audio_round_trip(packets: list[bytes]) -> None:
    message = pack_audio(packets)
    assert len(message) == sum(map(len, packets)) + 2 * len(packets)
    assert unpack_audio(message) == packets


@given(st.binary(max_size=400))
def test_random_bytes_are_packets_or_an_error(message: bytes) -> None:
    try:
        packets = unpack_audio(message)
    except ProtocolError:
        return
    assert pack_audio(packets) == message


@pytest.mark.parametrize(
    "message", [b"", b"\x00", b"\x00\x00", b"\x00\x05abcd", b"\x00\x01a\x00", b"\x00\x01a" * 51]
)
def test_bad_audio_messages(message: bytes) -> None:
    with pytest.raises(ProtocolError, match="audio message: "):
        unpack_audio(message)


@pytest.mark.parametrize("packets", [[], [b""], [b"x"] * 51, [b"x" * 65536]])
def test_unsendable_packets(packets: list[bytes]) -> None:
    with pytest.raises(EdgeSpeechError, match="audio message: "):
        pack_audio(packets)


def test_finals_add_up_to_the_whole_utterance() -> None:
    messages: list[ServerMessage] = [
        Endpoint(segment=0, audio_s=1.0),
        Final(segment=0, text=" one ", audio_s=1.0),
        Final(segment=1, text="", audio_s=2.0),
        Final(segment=2, text="two", audio_s=3.0),
    ]
    trace = remote_trace(
        [(message, 10 + i) for i, message in enumerate(messages)],
        TraceMessage(compute_s=[0.0, 0.1, 0.2], causes=[1, 1, 2, 2], after_s=[0.02, 0.1, 0.1, 0.2]),
        sent=3,
    )
    assert trace.compute_s == (0.0, 0.1, 0.2)
    assert [reply.compute_s for reply in trace.replies] == [0.02, 0.1, 0.1, 0.2]
    assert [
        (r.after_message, r.n_bytes, r.event.kind, r.event.text, r.event.audio_s) for r in trace.replies
    ] == [
        (1, 10, EventKind.ENDPOINT, "", 1.0),
        (1, 11, EventKind.FINAL, "one", 1.0),
        (2, 12, EventKind.FINAL, "one", 2.0),
        (2, 13, EventKind.FINAL, "one two", 3.0),
    ]


@pytest.mark.parametrize(
    ("compute_s", "causes"), [([0.1], [0]), ([0.1, 0.1], []), ([0.1, 0.1], [2]), ([0.1, 0.1], [-1])]
)
def test_a_trace_that_does_not_fit(compute_s: list[float], causes: list[int]) -> None:
    with pytest.raises(EdgeSpeechError, match="server trace: "):
        remote_trace(
            [(Final(segment=0, text="", audio_s=0.0), 5)],
            TraceMessage(compute_s=compute_s, causes=causes, after_s=[0.1] * len(causes)),
            2,
        )
