"""Events of a stream from the hypotheses of a search; needs no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from edgespeech.contracts import SAMPLE_RATE, Event, EventKind, Samples, Stream, Word
from edgespeech.search.hypothesis import Hypothesis, words_of
from edgespeech.search.segments import Segments

TAIL_S = 0.16
"""Seconds of digital silence that follow the last sample; at least one transcriber frame."""


class PartialsStream(Stream):
    """One utterance in progress, see `edgespeech.contracts.Stream`: a partial whenever the text changes, and a final
    when the decoder pauses. Later words are another segment, with another final.

    Long audio takes linear time and bounded memory: a subclass that can restart its search does so at a pause from
    `segments.SEGMENT_S` on, and the words up to then no longer change.

    Args:
        pieces: every word piece by its label.
        frame_s: seconds of a transcriber frame.
        final_s: seconds of audio without a word piece after the last one that end the utterance (Kaldi's rule of
            trailing silence); None: only the end of the audio does.
    """

    def __init__(self, pieces: Sequence[str], frame_s: float, final_s: float | None = None) -> None:
        self._pieces = pieces
        self._frame_s = frame_s
        self._final_s = final_s
        self._segments = Segments()
        self._said = ""
        self._labels: tuple[int, ...] = ()  # that `_said` was made of
        self._words: tuple[Word, ...] = ()  # of the last event
        self._open = True  # whether there are words after the last final

    @abstractmethod
    def _hear(self, samples: Samples) -> None:
        """Continue the search with further samples."""

    @abstractmethod
    def _end(self) -> None:
        """Append `TAIL_S` of silence and search to the end."""

    @abstractmethod
    def _best(self) -> Hypothesis:
        """The best hypothesis so far."""

    def accept(self, samples: Samples) -> Sequence[Event]:
        """Take any number of samples; return a partial with words if the text has changed, and the final if the pause
        after it is long enough.
        """
        segments = self._segments
        segments.heard += len(samples)
        self._hear(samples)
        best = self._best()
        events = self._news(best)
        if best.frames:
            segments.emitted = segments.start + round((best.frames[-1] + 1) * self._frame_s * SAMPLE_RATE)
        if self._open and self._paused():
            self._open = False
            events.append(Event(kind=EventKind.ENDPOINT, audio_s=segments.heard / SAMPLE_RATE))
            events.append(self._event(EventKind.FINAL, best))
        if segments.is_over and self._restart():
            events.append(self._event(EventKind.SETTLED, best))
            segments.begin()
            self._said, self._labels = "", ()
        return tuple(events)

    def finish(self) -> Sequence[Event]:
        """The final with its words, unless it was returned already."""
        self._end()
        final = self._event(EventKind.FINAL, self._best())
        return (final,) if self._open or final.text != self._said else ()

    def _news(self, best: Hypothesis) -> list[Event]:
        """A partial if the text has changed, else nothing."""
        if best.labels == self._labels:
            return []
        partial = self._event(EventKind.PARTIAL, best)
        self._labels = best.labels
        if partial.text == self._said:
            return []
        self._said, self._open = partial.text, True
        return [partial]

    def _paused(self) -> bool:
        """Whether the last word is followed by a long enough pause."""
        if self._final_s is None or self._segments.emitted is None:
            return False
        return self._segments.heard - self._segments.emitted >= round(self._final_s * SAMPLE_RATE)

    def _restart(self) -> bool:
        """Start a new search with the next sample; False if that is not supported."""
        return False

    def _event(self, kind: EventKind, best: Hypothesis) -> Event:
        """The best hypothesis since the last settled event, with word times relative to the whole utterance."""
        start_s = self._segments.start / SAMPLE_RATE
        words = words_of(best, self._pieces, self._frame_s, self._segments.heard / SAMPLE_RATE - start_s)
        text = " ".join(word.text for word in words)
        later = [_later(word, start_s) for word in words]
        for at, (word, before) in enumerate(zip(later, self._words, strict=False)):
            if word == before:
                later[at] = before  # events share what is the same in them
        self._words = tuple(later)
        return Event(kind=kind, text=text, words=self._words)


def _later(word: Word, by_s: float) -> Word:
    return replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s) if by_s else word
