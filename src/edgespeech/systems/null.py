"""A recogniser that does nothing, for measuring the harness's overhead."""

from __future__ import annotations

from collections.abc import Sequence

from edgespeech.contracts import Event, EventKind, Kind, Recogniser, Request, Samples, Stream, SystemInfo


class _NullStream(Stream):
    def accept(self, samples: Samples) -> Sequence[Event]:
        return ()

    def finish(self) -> Sequence[Event]:
        return (Event(kind=EventKind.FINAL),)


class Null(Recogniser):
    """Returns no events, then an empty result."""

    name = "null"
    kind = Kind.DEVICE
    takes_context = False
    summary = "does nothing: shows the harness's own cost"

    def load(self) -> SystemInfo:
        """Nothing to load."""
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=0,
            parameters=0,
            chunk_s=0.1,
            citation="EdgeSpeech",
            notes=("recognises nothing: its row is the harness's own cost",),
        )

    def open(self, request: Request) -> Stream:
        """A stream that ignores its audio."""
        return _NullStream()
