"""From what a search believes to a stream's events; nothing here needs torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from edgespeech.contracts import SAMPLE_RATE, Event, EventKind, Samples, Stream
from edgespeech.decoding.hypothesis import Hypothesis, words_of

TAIL_S = 0.16
"""Seconds of digital silence that follow the last sample; at least one transcriber frame."""


class PartialsStream(Stream):
    """One utterance in progress, see `edgespeech.contracts.Stream`: a partial whenever the text changes.

    Args:
        pieces: every word piece by its label.
        frame_s: seconds of a transcriber frame.
    """

    def __init__(self, pieces: Sequence[str], frame_s: float) -> None:
        self._pieces = pieces
        self._frame_s = frame_s
        self._heard = 0
        self._said = ""

    @abstractmethod
    def _hear(self, samples: Samples) -> None:
        """Search on with further samples."""

    @abstractmethod
    def _end(self) -> None:
        """Let `TAIL_S` of silence follow and search to the end."""

    @abstractmethod
    def _best(self) -> Hypothesis:
        """What was most likely said so far."""

    def accept(self, samples: Samples) -> Sequence[Event]:
        """Take samples of any number; a partial with words where the text is another than before."""
        self._heard += len(samples)
        self._hear(samples)
        event = self._event(EventKind.PARTIAL)
        if event.text == self._said:
            return ()
        self._said = event.text
        return (event,)

    def finish(self) -> Sequence[Event]:
        """The final with its words."""
        self._end()
        return (self._event(EventKind.FINAL),)

    def _event(self, kind: EventKind) -> Event:
        words = words_of(self._best(), self._pieces, self._frame_s, self._heard / SAMPLE_RATE)
        return Event(kind=kind, text=" ".join(word.text for word in words), words=words)
