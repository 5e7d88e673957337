"""A recogniser that says the same words to everybody."""

from __future__ import annotations

from collections.abc import Sequence

from edgespeech.contracts import Event, EventKind, Kind, Recogniser, Request, Samples, Stream, SystemInfo


class ParrotStream(Stream):
    """One utterance."""

    def __init__(self, words: str) -> None:
        self.words, self.started = words, False

    def accept(self, samples: Samples) -> Sequence[Event]:
        """Say the first word at once."""
        if self.started:
            return ()
        self.started = True
        return (Event(kind=EventKind.PARTIAL, text=self.words.split()[0]),)

    def finish(self) -> Sequence[Event]:
        """The audio is over: there must be a final result."""
        return (Event(kind=EventKind.FINAL, text=self.words),)


class Parrot(Recogniser):
    """Says the same words to everybody."""

    name, kind, summary = "parrot", Kind.DEVICE, "says the same words to everybody"

    def __init__(self, *, words: str = "make me a latte please") -> None:
        self.words = words

    def load(self) -> SystemInfo:
        """Load nothing, and say what this is."""
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=0,
            parameters=0,
            chunk_s=0.1,
            citation="an example",
            config={"words": self.words},
        )

    def open(self, request: Request) -> Stream:
        """Start an utterance."""
        return ParrotStream(self.words)
