"""Events of a stream from the hypotheses of a search; needs no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from edgespeech.contracts import SAMPLE_RATE, Event, EventKind, Samples, Stream, Word
from edgespeech.search.hypothesis import Hypothesis, words_of

SEGMENT_S = 120.0
"""Seconds after which a stream restarts its search at the next pause, since the memory and time of a search grow with
its hypotheses. Shorter utterances, such as all published ones, are searched as a whole."""
_PAUSES_S = (0.8, 0.2, 0.0)
"""The required pause in the first `SEGMENT_S` after that, in the second, and later."""
TAIL_S = 0.16
"""Seconds of digital silence that follow the last sample; at least one transcriber frame."""


class PartialsStream(Stream):
    """One utterance in progress, see `edgespeech.contracts.Stream`: a partial whenever the text changes, and a final
    when the decoder pauses. Later words are another segment, with another final.

    Long audio takes linear time: a subclass that can restart its search does so at a pause, see `SEGMENT_S`. Words of
    earlier segments do not change.

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
        self._heard = 0
        self._said = ""
        self._before: tuple[Word, ...] = ()  # the words of earlier segments
        self._before_text = ""
        self._start = 0  # samples received when this segment's search started
        self._emitted: int | None = None  # samples received when the last piece was emitted
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
        self._heard += len(samples)
        self._hear(samples)
        events = self._news()
        if frames := self._best().frames:
            self._emitted = self._start + round((frames[-1] + 1) * self._frame_s * SAMPLE_RATE)
        if self._open and self._paused():
            self._open = False
            events.append(Event(kind=EventKind.ENDPOINT, audio_s=self._heard / SAMPLE_RATE))
            events.append(self._event(EventKind.FINAL))
        self._cut()
        return tuple(events)

    def finish(self) -> Sequence[Event]:
        """The final with its words, unless it was returned already."""
        self._end()
        final = self._event(EventKind.FINAL)
        return (final,) if self._open or final.text != self._said else ()

    def _news(self) -> list[Event]:
        """A partial if the text has changed, else nothing."""
        partial = self._event(EventKind.PARTIAL)
        if partial.text == self._said:
            return []
        self._said, self._open = partial.text, True
        return [partial]

    def _paused(self) -> bool:
        """Whether the last word is followed by a long enough pause."""
        if self._final_s is None or self._emitted is None:
            return False
        return self._heard - self._emitted >= round(self._final_s * SAMPLE_RATE)

    def _restart(self) -> bool:
        """Start a new search with the next sample; False if that is not supported."""
        return False

    def _cut(self) -> None:
        """Restart the search if the segment is long and the pause long enough."""
        longer = (self._heard - self._start) / SAMPLE_RATE / SEGMENT_S
        if longer < 1:
            return
        pause = _PAUSES_S[min(int(longer), len(_PAUSES_S)) - 1]
        silent = self._heard - max(self._emitted or 0, self._start)
        if silent >= round(pause * SAMPLE_RATE):
            words, text = self._words()
            if self._restart():
                self._before, self._before_text, self._start = words, text, self._heard

    def _words(self) -> tuple[tuple[Word, ...], str]:
        """Every word so far, and the text."""
        start_s = self._start / SAMPLE_RATE
        words = words_of(self._best(), self._pieces, self._frame_s, self._heard / SAMPLE_RATE - start_s)
        text = " ".join(word.text for word in words)
        if not self._start:
            return words, text
        moved = (replace(w, start_s=w.start_s + start_s, end_s=w.end_s + start_s) for w in words)
        return (*self._before, *moved), f"{self._before_text} {text}".strip()

    def _event(self, kind: EventKind) -> Event:
        words, text = self._words()
        return Event(kind=kind, text=text, words=words)
