"""One end-pointer for all: a detector ends the utterance, and the recogniser's own end-pointer has no say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgespeech.audio.vad import Segmenter, SegmentRule
from edgespeech.contracts import (
    SAMPLE_RATE,
    Event,
    EventKind,
    Kind,
    Recogniser,
    Request,
    Samples,
    Stream,
    Word,
)
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import find_recogniser, recognisers
from edgespeech.harness.runner import run_utterance
from edgespeech.systems._ended_by_vad import EndedByVad, EndedStream
from edgespeech.systems.with_vad import EdgePackedVad

CHUNK_S = 0.1
CHUNK = round(CHUNK_S * SAMPLE_RATE)


def loud(window: Samples) -> float:
    """A detector for which any sound is speech."""
    return float(np.abs(window).max() > 0.1)


def sound(*seconds: float) -> Samples:
    """Silence and a constant in turns, beginning with silence."""
    return np.concatenate([np.full(round(s * SAMPLE_RATE), n % 2, np.float32) for n, s in enumerate(seconds)])


class Counting(Stream):
    """Tells how many seconds of sound it heard; with an end-pointer and a word of its own."""

    def __init__(self) -> None:
        self.heard = np.zeros(0, np.float32)
        self.longest = 0
        self.closed = False

    def accept(self, samples: Samples) -> Sequence[Event]:
        assert not self.closed
        self.longest = max(self.longest, len(samples))
        self.heard = np.concatenate([self.heard, samples])
        return (Event(kind=EventKind.ENDPOINT), Event(kind=EventKind.FINAL, text=self._text()))

    def finish(self) -> Sequence[Event]:
        word = Word(text=self._text(), start_s=0.0, end_s=len(self.heard) / SAMPLE_RATE)
        return (Event(kind=EventKind.FINAL, text=self._text(), words=(word,)),)

    def close(self) -> None:
        self.closed = True

    def _text(self) -> str:
        return f"{self.heard.sum() / SAMPLE_RATE:.2f}"


def run(audio: Samples, rule: SegmentRule | None = None) -> tuple[list[tuple[float, Event]], list[Counting]]:
    streams: list[Counting] = []

    def begin() -> Counting:
        streams.append(Counting())
        return streams[-1]

    chosen = rule or SegmentRule(silence_s=0.5, padding_s=0.2)
    stream = EndedStream(begin, Segmenter(loud, chosen), chunk_s=CHUNK_S, padding_s=chosen.padding_s)
    told = []
    for at in range(0, len(audio), CHUNK):
        piece = audio[at : at + CHUNK]
        told += [((at + len(piece)) / SAMPLE_RATE, event) for event in stream.accept(piece)]
    told += [(len(audio) / SAMPLE_RATE, event) for event in stream.finish()]
    stream.close()
    return told, streams


def test_silence_after_speech_ends_the_utterance_at_once() -> None:
    told, streams = run(sound(0.5, 1.0, 2.0))
    ends = [(at, event) for at, event in told if event.kind is not EventKind.PARTIAL]
    assert [event.kind for _, event in ends] == [EventKind.ENDPOINT, EventKind.FINAL]
    assert ends[0][0] == pytest.approx(2.0, abs=0.15)
    assert ends[0][1].audio_s == ends[0][0]
    assert ends[1][1].text == "1.00"
    assert len(streams) == 1
    assert streams[0].closed


def test_later_speech_is_a_stream_of_its_own_and_extends_the_final() -> None:
    told, streams = run(sound(0.5, 1.0, 1.5, 0.5, 1.0))
    finals = [event for _, event in told if event.kind is EventKind.FINAL]
    assert [event.text for event in finals] == ["1.00", "1.00 0.50"]
    assert len(streams) == 2
    # The second begins a little before its speech, at 3.0 s, and its word times are those of the whole audio.
    assert finals[1].words[1].start_s == pytest.approx(2.8, abs=0.05)
    assert len(streams[1].heard) < 1.5 * SAMPLE_RATE
    assert streams[1].longest <= CHUNK


def test_its_own_end_pointer_has_no_say() -> None:
    told, _ = run(sound(0.2, 0.6))
    assert [event.kind for _, event in told[:-1]] == [EventKind.PARTIAL] * (len(told) - 1)
    assert told[-1][1].kind is EventKind.FINAL
    assert told[-1][1].text == "0.60"


def test_where_nobody_speaks_all_of_the_audio_is_recognised() -> None:
    told, streams = run(sound(2.0))
    assert [event.kind for _, event in told if event.kind is not EventKind.PARTIAL] == [EventKind.FINAL]
    assert len(streams[0].heard) == 2 * SAMPLE_RATE


@pytest.mark.parametrize("silence_s", [0.2, 0.5, 1.0])
def test_no_speech_is_lost_or_heard_twice(silence_s: float) -> None:
    audio = sound(0.3, 0.7, 0.6, 0.4, 1.2, 0.9, 0.3, 0.5)
    _, streams = run(audio, SegmentRule(silence_s=silence_s, padding_s=0.1))
    assert sum(stream.heard.sum() for stream in streams) == pytest.approx(audio.sum(), abs=1)


def test_every_such_system_is_discovered_and_says_what_it_is() -> None:
    found = {name: kind for name, kind in recognisers().items() if issubclass(kind, EndedByVad)}
    assert {
        "whisper-base-local-vad",
        "vosk-small-vad",
        "edge-packed-vad",
        "moonshine-tiny-vad",
    } <= found.keys()
    for kind in found.values():
        assert kind.kind is Kind.DEVICE
        assert kind.languages == kind.of.languages
        assert kind.takes_context == kind.of.takes_context


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"silence_s": -1}, "silence_s is -1"),
        ({"silence_s": 11}, "silence_s is 11"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        find_recogniser("edge-packed-vad", **options)


def test_the_recognisers_options_are_passed_on() -> None:
    made = EdgePackedVad(beam=1)
    if reason := made.missing():
        pytest.skip(reason)
    info = made.load()
    assert info.config["beam"] == 1
    assert info.config["final_s"] is None
    assert info.config["vad_silence_s"] == 0.7
    assert "silero_vad_v6.onnx" in info.model_sha256
    trace = run_utterance(made, sound(1.0), Request(utterance_id="x"), chunk_s=info.chunk_s)
    assert trace.failure is None
    made.close()


def test_a_recogniser_of_ones_own_can_be_ended_too() -> None:
    class Own(Recogniser):
        name = "own"
        kind = Kind.DEVICE
        summary = "one's own"

        def load(self) -> Any:
            raise NotImplementedError

        def open(self, request: Request) -> Stream:
            return Counting()

    class OwnVad(EndedByVad):
        """As in `with_vad`."""

        of = Own

    assert OwnVad.name == "own-vad"
    assert isinstance(OwnVad(silence_s=0.3), Recogniser)
