"""Events of a stream from the hypotheses of a search; needs no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from edgespeech.contracts import SAMPLE_RATE, Event, EventKind, Samples, Stream
from edgespeech.search.hypothesis import Changes, Hypothesis, Transcript
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
        self._transcript = Transcript(pieces, frame_s)
        self._said = ""
        self._changed = False  # whether labels changed since `_said` was made of them
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

    def _changes(self) -> Changes:
        """How the best hypothesis changed since the last call or `_restart`; a subclass may know without comparing."""
        return self._transcript.changes(self._best())

    def accept(self, samples: Samples) -> Sequence[Event]:
        """Take any number of samples; return a partial with words if the text has changed, and the final if the pause
        after it is long enough.
        """
        segments = self._segments
        segments.heard += len(samples)
        self._hear(samples)
        self._learn()
        events = self._news()
        if frames := self._transcript.frames:
            segments.emitted = segments.start + round((frames[-1] + 1) * self._frame_s * SAMPLE_RATE)
        if self._open and self._paused():
            self._open = False
            events.append(Event(kind=EventKind.ENDPOINT, audio_s=segments.heard / SAMPLE_RATE))
            events.append(self._event(EventKind.FINAL))
        if segments.is_over and self._restart():
            events.append(self._event(EventKind.SETTLED))
            segments.begin()
            self._transcript.clear()
            self._said, self._changed = "", False
        return tuple(events)

    def finish(self) -> Sequence[Event]:
        """The final with its words, unless it was returned already."""
        self._end()
        self._learn()
        final = self._event(EventKind.FINAL)
        return (final,) if self._open or final.text != self._said else ()

    def _learn(self) -> None:
        """Ask the search what changed."""
        self._changed |= self._transcript.update(self._changes())

    def _news(self) -> list[Event]:
        """A partial if the text has changed, else nothing."""
        if not self._changed:
            return []
        partial = self._event(EventKind.PARTIAL)
        self._changed = False
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

    def _event(self, kind: EventKind) -> Event:
        """The best hypothesis since the last settled event, with word times relative to the whole utterance; events
        share the words that are the same in them.
        """
        start_s = self._segments.start / SAMPLE_RATE
        words = self._transcript.words(self._segments.heard / SAMPLE_RATE - start_s, start_s)
        return Event(kind=kind, text=" ".join(word.text for word in words), words=words)
