"""Vosk behind the contract: its ends of speech, its grammar; the model itself where it is here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from edgespeech.contracts import EventKind, Request
from edgespeech.core.places import project_root
from edgespeech.corpora.manifest import load_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.runner import run_utterance
from edgespeech.systems.vosk_small import VoskSmall, _VoskStream


def result(*words: str) -> str:
    found = [{"word": word, "start": float(n), "end": n + 0.5} for n, word in enumerate(words)]
    return json.dumps({"text": " ".join(words)} | ({"result": found} if words else {}))


class Scripted:
    """A decoder that says what it was told to: a partial after each chunk, or, where that is None, an end."""

    def __init__(self, partials: Sequence[str | None], results: Sequence[str]) -> None:
        self._partials, self._results = iter(partials), iter(results)
        self._partial: str | None = None
        self.heard: list[bytes] = []

    def SetWords(self, wanted: bool) -> None:  # noqa: N802  # Vosk's name
        assert wanted

    def AcceptWaveform(self, pcm: bytes) -> bool:  # noqa: N802  # Vosk's name
        self.heard.append(pcm)
        self._partial = next(self._partials)
        return self._partial is None

    def PartialResult(self) -> str:  # noqa: N802  # Vosk's name
        return json.dumps({"partial": self._partial})

    def Result(self) -> str:  # noqa: N802  # Vosk's name
        return next(self._results)

    FinalResult = Result


def events(decoder: Scripted, chunks: int, samples: int = 1600) -> list[tuple[EventKind, str, float | None]]:
    stream = _VoskStream(decoder)
    told = [event for _ in range(chunks) for event in stream.accept(np.zeros(samples, np.float32))]
    return [(event.kind, event.text, event.audio_s) for event in [*told, *stream.finish()]]


def test_an_end_of_speech_is_an_endpoint_and_later_speech_extends_its_final() -> None:
    decoder = Scripted(["", "two", "two", None, "please"], [result("two", "lattes"), result("please")])
    assert events(decoder, 5) == [
        (EventKind.PARTIAL, "two", None),
        (EventKind.ENDPOINT, "", 0.4),
        (EventKind.FINAL, "two lattes", None),
        (EventKind.PARTIAL, "two lattes please", None),
        (EventKind.FINAL, "two lattes please", None),
    ]


def test_an_end_without_words_is_none() -> None:
    assert events(Scripted([None, "a"], [result(), result("a")]), 2) == [
        (EventKind.PARTIAL, "a", None),
        (EventKind.FINAL, "a", None),
    ]


def test_what_a_grammar_does_not_hold_is_no_word() -> None:
    decoder = Scripted(["[unk] latte"], [result("[unk]", "latte", "[unk]")])
    assert events(decoder, 1) == [
        (EventKind.PARTIAL, "latte", None),
        (EventKind.FINAL, "latte", None),
    ]


def test_long_audio_is_settled_at_an_end() -> None:
    decoder = Scripted(["one", None, "two"], [result("one"), result("two")])
    kinds = events(decoder, 3, samples=70 * 16_000)
    assert kinds[1:] == [
        (EventKind.SETTLED, "one", None),
        (EventKind.PARTIAL, "two", None),
        (EventKind.FINAL, "two", None),
    ]


def test_samples_beyond_full_scale_are_clipped() -> None:
    decoder = Scripted([""], [])
    _VoskStream(decoder).accept(np.array([2.0, -2.0, 0.5], np.float32))
    assert np.frombuffer(decoder.heard[0], "<i2").tolist() == [32767, -32767, 16384]


@pytest.fixture(scope="module")
def recogniser() -> Iterator[VoskSmall]:
    made = VoskSmall()
    if reason := made.missing():
        pytest.skip(reason)
    made.load()
    yield made
    made.close()


def test_speech_is_recognised(recogniser: VoskSmall) -> None:
    from edgespeech.audio.io import read_audio

    path = sorted((project_root() / "data_manifests/assistant_mini").glob("*.jsonl"))[0]
    manifest = load_manifest(path)
    line = min(manifest.utterances, key=lambda line: line.duration)
    trace = run_utterance(
        recogniser, read_audio(manifest.audio_path(line)), Request(utterance_id="x"), chunk_s=0.1
    )
    assert trace.failure is None
    assert trace.events[-1][1].kind is EventKind.FINAL
    assert trace.events[-1][1].text


def test_phrases_that_it_cannot_spell_are_named(recogniser: VoskSmall) -> None:
    told = recogniser.context_remarks(["Large latte", "qwzx latte"])
    assert told[0] == "'qwzx latte': left out, since its dictionary has no qwzx"
    assert len(told) == 2
    assert recogniser.context_remarks([]) == []
    with pytest.raises(EdgeSpeechError, match="vosk-small: context: 'qwzx'"):
        recogniser.context_remarks(["qwzx"])
