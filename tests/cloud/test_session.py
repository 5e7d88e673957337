from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Generator

import numpy as np
import pytest

from cloud.fakes import Alone, EchoBackend, EnergyDetector, silence, tone
from edgespeech.audio.codec import OpusEncoder
from edgespeech.audio.vad import SegmentRule
from edgespeech.cloud.access import Tokens
from edgespeech.cloud.door import Door
from edgespeech.cloud.limits import Limits
from edgespeech.cloud.protocol import PATH, End, Hello, encode, pack_audio
from edgespeech.cloud.server import SLICE_S, _Models, _Server
from edgespeech.cloud.session import Done, Job, Pausing, ServerSession, TooLongError
from edgespeech.contracts import Samples
from edgespeech.errors import EdgeSpeechError

HELLO, END = encode(Hello(context=["latte"])), encode(End())


def session(delay_s: float = 0.0, max_audio_s: float = 60.0) -> Alone:
    rule = SegmentRule(silence_s=0.7, padding_s=0.2)
    one = ServerSession(EnergyDetector(), rule=rule, max_audio_s=max_audio_s)
    return Alone(one, EchoBackend(delay_s=delay_s))


def audio_messages(samples: Samples) -> list[bytes]:
    encoder = OpusEncoder()
    packets = encoder.encode(samples) + encoder.finish()
    return [pack_audio(packets[i : i + 5]) for i in range(0, len(packets), 5)]


def run(one: Alone, samples: Samples) -> list[list[dict[str, object]]]:
    """The replies per message, hello first and end last."""
    messages: list[str | bytes] = [HELLO, *audio_messages(samples), END]
    return [[json.loads(reply) for reply in one.handle(message)] for message in messages]


def test_two_segments() -> None:
    one = session()
    replies = run(one, np.concatenate([silence(0.5), tone(1.0), silence(1.0), tone(1.0), silence(0.3)]))
    flat = [(i, reply) for i, group in enumerate(replies) for reply in group]
    assert [reply["type"] for _, reply in flat] == ["endpoint", "final", "final"]
    # Speech ends at 1.5 s; 0.7 s later is within the 100 ms that message 23 brings (hello is message 0).
    assert flat[0][0] == flat[1][0] == 23
    assert 2.2 <= float(str(flat[0][1]["audio_s"])) <= 2.27
    # 0.2 s before the onset, 1 s of speech, 0.7 s of silence.
    assert flat[1][1]["text"] == "heard 1.9 en latte"
    assert [reply["segment"] for _, reply in flat] == [0, 0, 1]
    assert flat[2][0] == len(replies) - 1
    assert flat[2][1]["text"] == "heard 1.5 en latte"
    assert one.session.finished


def test_silence_after_the_end_point_adds_nothing() -> None:
    replies = run(session(), np.concatenate([tone(0.5), silence(2.0)]))
    assert [reply["type"] for group in replies for reply in group] == ["endpoint", "final"]


def test_what_the_detector_misses_is_still_recognised() -> None:
    replies = run(session(), 0.01 * tone(1.0))
    assert [reply["text"] for group in replies for reply in group] == ["heard 1.0 en latte"]


def test_silence_is_one_empty_final() -> None:
    one = session()
    assert list(one.handle(HELLO)) == []
    assert list(one.handle(END)) == ['{"type":"final","segment":0,"text":"","audio_s":0.0}']


def test_compute_lies_with_the_message_that_caused_it() -> None:
    one = session(delay_s=0.05)
    run(one, np.concatenate([tone(0.5), silence(1.0), tone(0.2)]))
    trace = json.loads(one.session.trace())
    assert trace["causes"] == [13, 13, len(trace["compute_s"]) - 1]
    slow = [i for i, compute_s in enumerate(trace["compute_s"]) if compute_s >= 0.05]
    assert slow == [13, len(trace["compute_s"]) - 1]
    assert min(trace["compute_s"]) > 0


def test_replies_are_the_same_in_every_run() -> None:
    samples = np.concatenate([tone(0.7), silence(1.0), tone(0.4)])
    assert run(session(), samples) == run(session(delay_s=0.01), samples)


@pytest.mark.parametrize(
    ("before", "message", "problem"),
    [
        ([], audio_messages(tone(0.1))[0], "audio came first, expected hello"),
        ([], END, "end came first, expected hello"),
        ([HELLO], HELLO, "a second hello"),
        ([HELLO], b"\x00", "audio message: packet 0 of 0 bytes"),
        ([HELLO], b"\x00\x02\xff\xff", "expected an Opus packet"),
        ([HELLO], "nonsense", "client message: JSON"),
        ([HELLO, END], audio_messages(tone(0.1))[0], "came after end"),
    ],
)
def test_broken_protocol(before: list[str], message: str | bytes, problem: str) -> None:
    one = session()
    for earlier in before:
        list(one.handle(earlier))
    with pytest.raises(EdgeSpeechError, match=problem):
        list(one.handle(message))


def test_too_long() -> None:
    one = session(max_audio_s=1.0)
    list(one.handle(HELLO))
    messages = audio_messages(tone(1.5))
    for message in messages[:10]:
        list(one.handle(message))
    with pytest.raises(TooLongError, match="utterance: over 1 s, the most that this server takes"):
        list(one.handle(messages[10]))


def test_long_packets_in_one_message_do_not_get_round_the_limit() -> None:
    one = session(max_audio_s=0.5)
    list(one.handle(HELLO))
    # Code 3 (RFC 6716, section 3.2.5): six 20 ms frames of one byte in a packet of 8.
    packet = bytes([(1 << 3) | 3, 6]) + bytes(6)
    with pytest.raises(TooLongError):
        list(one.handle(pack_audio([packet] * 50)))


def test_a_message_of_many_packets_pauses_between_them() -> None:
    one = session().session
    list(one.handle(HELLO))
    encoder = OpusEncoder()
    packets = encoder.encode(tone(0.4))
    steps = list(one.handle(pack_audio(packets)))
    assert steps == [Pausing()] * len(packets)


def test_decoding_lets_others_go_on_and_is_dropped() -> None:
    limits = Limits()
    server = _Server(
        _Models(recogniser=None, rescorer=None),
        Door(limits, Tokens(["x"]), (PATH,)),
        limits,
        EnergyDetector,
        SegmentRule(),
    )
    decoded: list[int] = []

    def packets() -> Generator[str | Job | Pausing, Done | None, None]:
        for packet in range(100):
            time.sleep(0.005)
            decoded.append(packet)
            yield Pausing()

    step, took_s = asyncio.run(server.step("holder", packets(), None))
    assert isinstance(step, Pausing)
    assert took_s >= SLICE_S
    assert 1 <= len(decoded) < 100
