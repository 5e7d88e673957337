"""Hypotheses of a search: labels with the frames in which they were emitted, and their words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgespeech.contracts import Word
from edgespeech.core.labels import SPACE


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A label sequence.

    Attributes:
        labels: word pieces, no blanks, with shape `(U,)`.
        frames: the transcriber frame in which each was emitted, non-decreasing, with shape `(U,)`.
        score: natural logarithm of its probability: of this one alignment for greedy search, of all alignments in the
            beam for beam search, plus language-model scores if there is fusion.
    """

    labels: tuple[int, ...] = ()
    frames: tuple[int, ...] = ()
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Changes:
    """How the labels of a hypothesis differ from those before.

    Attributes:
        kept: how many of the first labels before, with their frames, are still its first ones.
        labels: those behind them.
        frames: of the latter.
    """

    kept: int
    labels: Sequence[int]
    frames: Sequence[int]


@dataclass(slots=True)
class _Span:
    """A word in a `Transcript`: its text, its first and last frame, and the number of its first label.

    Attributes:
        word: as it was last told; None if the text is empty, or nothing was told.
        fixed: whether it stays as long as its labels do: the audio so far does not end within it.
    """

    text: str
    first: int
    last: int
    label: int
    word: Word | None = None
    fixed: bool = False


class Transcript:
    """The words of a hypothesis that changes at its end; takes a time that grows with what changes alone.

    A word starts with the frame of its first piece and ends with that of its last, both clipped to the end of the
    audio. A transducer may emit a piece later than it was spoken, but never before its audio was received.

    Args:
        pieces: every piece by its label, see `Tokeniser.pieces`.
        frame_s: seconds of a transcriber frame.

    Attributes:
        labels: of the hypothesis.
        frames: in which they were emitted.
    """

    def __init__(self, pieces: Sequence[str], frame_s: float) -> None:
        self._pieces = pieces
        self._frame_s = frame_s
        self.labels: list[int] = []
        self.frames: list[int] = []
        self._spans: list[_Span] = []

    def clear(self) -> None:
        """Begin again without a label."""
        self.labels, self.frames, self._spans = [], [], []

    def changes(self, hypothesis: Hypothesis) -> Changes:
        """How a hypothesis differs from what is here."""
        told = zip(hypothesis.labels, hypothesis.frames, strict=True)
        kept = 0
        for label, frame, now in zip(self.labels, self.frames, told, strict=False):
            if now != (label, frame):
                break
            kept += 1
        return Changes(kept, hypothesis.labels[kept:], hypothesis.frames[kept:])

    def update(self, changes: Changes) -> bool:
        """Take changes; return whether a label is another one, new or gone."""
        kept = changes.kept
        differ = self.labels[kept:] != list(changes.labels)
        if not differ and self.frames[kept:] == list(changes.frames):
            return False
        self.labels[kept:] = changes.labels
        self.frames[kept:] = changes.frames
        dropped: list[_Span] = []
        while self._spans:
            dropped.append(self._spans.pop())
            if dropped[-1].label < kept:  # the word in which the first change is
                break
        before = len(self._spans)
        for at in range(dropped[-1].label if dropped else 0, len(self.labels)):
            piece, frame = self._pieces[self.labels[at]], self.frames[at]
            if piece.startswith(SPACE) or not self._spans:
                self._spans.append(_Span(piece.removeprefix(SPACE), frame, frame, at))
            else:
                self._spans[-1].text += piece
                self._spans[-1].last = frame
        for span, earlier in zip(self._spans[before:], reversed(dropped), strict=False):
            span.word = earlier.word
        return differ

    def words(self, duration_s: float, later_s: float = 0.0) -> tuple[Word, ...]:
        """All words so far; those that did not change are the very ones that were returned before.

        Args:
            duration_s: seconds of audio so far, never fewer than before.
            later_s: is added to their times, always the same.
        """
        for span in reversed(self._spans):
            if span.fixed:
                break
            ends_s = (span.last + 1) * self._frame_s
            word = Word(
                text=span.text,
                start_s=min(span.first * self._frame_s, duration_s) + later_s,
                end_s=min(ends_s, duration_s) + later_s,
            )
            if word != span.word:
                span.word = word if word.text else None
            span.fixed = ends_s <= duration_s
        return tuple(span.word for span in self._spans if span.word is not None)


def words_of(
    hypothesis: Hypothesis, pieces: Sequence[str], frame_s: float, duration_s: float
) -> tuple[Word, ...]:
    """The words of a hypothesis, see `Transcript`.

    Args:
        hypothesis: labels and frames.
        pieces: every piece by its label, see `Tokeniser.pieces`.
        frame_s: seconds of a transcriber frame.
        duration_s: seconds of audio so far.
    """
    transcript = Transcript(pieces, frame_s)
    transcript.update(Changes(0, hypothesis.labels, hypothesis.frames))
    return transcript.words(duration_s)
