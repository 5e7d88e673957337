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


def words_of(
    hypothesis: Hypothesis, pieces: Sequence[str], frame_s: float, duration_s: float
) -> tuple[Word, ...]:
    """The words of a hypothesis, with times from their pieces' frames.

    A word starts with the frame of its first piece and ends with that of its last, both clipped to the end of the
    audio. A transducer may emit a piece later than it was spoken, but never before its audio was received.

    Args:
        hypothesis: labels and frames.
        pieces: every piece by its label, see `Tokeniser.pieces`.
        frame_s: seconds of a transcriber frame.
        duration_s: seconds of audio so far.
    """
    words: list[tuple[str, int, int]] = []
    for label, frame in zip(hypothesis.labels, hypothesis.frames, strict=True):
        piece = pieces[label]
        if piece.startswith(SPACE) or not words:
            words.append((piece.removeprefix(SPACE), frame, frame))
        else:
            text, first, _ = words[-1]
            words[-1] = (text + piece, first, frame)
    return tuple(
        Word(
            text=text,
            start_s=min(first * frame_s, duration_s),
            end_s=min((last + 1) * frame_s, duration_s),
        )
        for text, first, last in words
        if text
    )
