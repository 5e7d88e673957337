"""Vosk's small English model: a streaming recogniser of Kaldi (TDNN and a language model as a graph)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgespeech.contracts import (
    SAMPLE_RATE,
    Event,
    EventKind,
    Kind,
    Recogniser,
    Request,
    Samples,
    Stream,
    SystemInfo,
    Word,
)
from edgespeech.core.extras import missing
from edgespeech.corpora.weights import resolve_weights, weights_available
from edgespeech.errors import EdgeSpeechError
from edgespeech.search.segments import SEGMENT_S
from edgespeech.systems._shared import pcm16, ready

MODEL = "vosk-small-en-us"
UNKNOWN = "[unk]"
"""Vosk's word for anything that a grammar does not hold."""


class _VoskStream(Stream):
    """One utterance in progress.

    Vosk finds ends of speech by itself: each is an end-point and a final, which later speech extends.
    """

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        decoder.SetWords(True)
        self._heard = 0
        self._began = 0
        self._words: tuple[Word, ...] = ()
        self._partial = ""

    def accept(self, samples: Samples) -> Sequence[Event]:
        ended = self._decoder.AcceptWaveform(pcm16(samples))
        self._heard += len(samples)
        if ended:
            return self._ended()
        partial = json.loads(self._decoder.PartialResult())["partial"]
        if partial == self._partial:
            return ()
        self._partial = partial
        return (Event(kind=EventKind.PARTIAL, text=self._text(_spoken(partial))),)

    def finish(self) -> Sequence[Event]:
        self._take(self._decoder.FinalResult())
        return (self._event(EventKind.FINAL),)

    def close(self) -> None:
        self._decoder = None

    def _ended(self) -> Sequence[Event]:
        """Vosk takes a long silence for an end too; without words it is none."""
        found = self._take(self._decoder.Result())
        self._partial = ""
        if (self._heard - self._began) / SAMPLE_RATE >= SEGMENT_S:
            settled = self._event(EventKind.SETTLED)
            self._words, self._began = (), self._heard
            return (settled,)
        if not found:
            return ()
        end = Event(kind=EventKind.ENDPOINT, audio_s=self._heard / SAMPLE_RATE)
        return (end, self._event(EventKind.FINAL))

    def _take(self, result: str) -> bool:
        """Add the words of a result; whether there were any."""
        words = [word for word in json.loads(result).get("result", ()) if word["word"] != UNKNOWN]
        self._words += tuple(
            Word(text=word["word"], start_s=word["start"], end_s=word["end"]) for word in words
        )
        return bool(words)

    def _text(self, further: str = "") -> str:
        return " ".join([*(word.text for word in self._words), *further.split()])

    def _event(self, kind: EventKind) -> Event:
        return Event(kind=kind, text=self._text(), words=self._words)


class VoskSmall(Recogniser):
    """Vosk 0.3.45 with its small US English model and default settings; a list of phrases becomes its grammar."""

    name = "vosk-small"
    kind = Kind.DEVICE
    languages = ("en",)
    takes_context = True
    summary = "Vosk's small US English model, streaming; with phrases it hears those alone"

    def __init__(self, *, weights: str | None = None) -> None:
        """`weights`: a folder with the model, instead of the usual source."""
        self._path = None if weights is None else Path(weights)
        self._model: Any = None
        self._dictionary: frozenset[str] = frozenset()

    def missing(self) -> str | None:
        """The missing package or weights."""
        return missing("vosk") or weights_available(MODEL, self._path)

    def context_remarks(self, context: Sequence[str], weights: Sequence[float] = ()) -> Sequence[str]:
        """The phrases that its dictionary cannot spell, and what it does with the others.

        Raises:
            EdgeSpeechError: none is left.
        """
        known = _dictionary(resolve_weights(MODEL, self._path).folder)
        remarks = [
            f"{phrase!r}: left out, since its dictionary has no {', '.join(absent)}"
            for phrase in context
            if (absent := [word for word in phrase.lower().split() if word not in known])
        ]
        if context and len(remarks) == len(context):
            raise EdgeSpeechError(f"{self.name}: context: {remarks[0]}, as are all others")
        if context:
            remarks.append("the phrases are its grammar: it hears no others")
        if weights:
            remarks.append("weights are ignored")
        return remarks

    def load(self) -> SystemInfo:
        """Verify the model and load it.

        Raises:
            EdgeSpeechError: it is missing or has another hash.
        """
        import vosk

        found = resolve_weights(MODEL, self._path)
        vosk.SetLogLevel(-1)
        self._dictionary = _dictionary(found.folder)
        self._model = vosk.Model(str(found.folder))
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=found.n_bytes,
            parameters=None,
            chunk_s=0.1,
            citation=f"Vosk 0.3.45, Apache-2.0; {found.citation}",
            config={"search": "the model's own settings", "endpoint": "the model's own rules"},
            model_sha256=found.files,
        )

    def open(self, request: Request) -> Stream:
        """Start an utterance.

        Raises:
            EdgeSpeechError: not loaded, or the language is not English.
        """
        import vosk

        model = ready(self, self._model, request)
        if not request.context:
            return _VoskStream(vosk.KaldiRecognizer(model, SAMPLE_RATE))
        phrases = [phrase.lower() for phrase in request.context]
        grammar = [phrase for phrase in phrases if self._dictionary.issuperset(phrase.split())]
        return _VoskStream(vosk.KaldiRecognizer(model, SAMPLE_RATE, json.dumps([*grammar, UNKNOWN])))

    def close(self) -> None:
        """Release the model."""
        self._model = None


def _dictionary(folder: Path) -> frozenset[str]:
    """The words that the model can spell."""
    lines = (folder / "graph" / "words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line.split()[0] for line in lines if line)


def _spoken(text: str) -> str:
    """The words of a hypothesis without those that a grammar does not hold."""
    return " ".join(word for word in text.split() if word != UNKNOWN)
