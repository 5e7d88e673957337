"""From what a search believes to a stream's events; nothing here needs torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from edgespeech.contracts import SAMPLE_RATE, Event, EventKind, Samples, Stream
from edgespeech.search.hypothesis import Hypothesis, words_of

TAIL_S = 0.16
"""Seconds of digital silence that follow the last sample; at least one transcriber frame."""


class PartialsStream(Stream):
    """One utterance in progress, see `edgespeech.contracts.Stream`: a partial whenever the text changes, and a final
    where the decoder pauses. Words that come after that are a further segment, and another final then.

    Args:
        pieces: every word piece by its label.
        frame_s: seconds of a transcriber frame.
        final_s: seconds of audio without a word piece behind the last one that end the utterance (Kaldi's rule of
            trailing silence); None: the end of the audio does.
    """

    def __init__(self, pieces: Sequence[str], frame_s: float, final_s: float | None = None) -> None:
        self._pieces = pieces
        self._frame_s = frame_s
        self._final_s = final_s
        self._heard = 0
        self._said = ""
        self._open = True  # whether there is something to say that no final has said

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
        """Take samples of any number; a partial with words where the text is another than before, and the final
        where the pause behind it is long enough.
        """
        self._heard += len(samples)
        self._hear(samples)
        events = self._news()
        if self._open and self._paused():
            self._open = False
            events.append(Event(kind=EventKind.ENDPOINT, audio_s=self._heard / SAMPLE_RATE))
            events.append(self._event(EventKind.FINAL))
        return tuple(events)

    def finish(self) -> Sequence[Event]:
        """The final with its words, unless it was said already."""
        self._end()
        final = self._event(EventKind.FINAL)
        return (final,) if self._open or final.text != self._said else ()

    def _news(self) -> list[Event]:
        """A partial where the text is another than before, else nothing."""
        partial = self._event(EventKind.PARTIAL)
        if partial.text == self._said:
            return []
        self._said, self._open = partial.text, True
        return [partial]

    def _paused(self) -> bool:
        """Whether something was said, and then nothing for long enough."""
        if self._final_s is None or not (frames := self._best().frames):
            return False
        said = round((frames[-1] + 1) * self._frame_s * SAMPLE_RATE)
        return self._heard - said >= round(self._final_s * SAMPLE_RATE)

    def _event(self, kind: EventKind) -> Event:
        words = words_of(self._best(), self._pieces, self._frame_s, self._heard / SAMPLE_RATE)
        return Event(kind=kind, text=" ".join(word.text for word in words), words=words)
