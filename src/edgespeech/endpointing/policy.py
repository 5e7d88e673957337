"""Policies: from scores to speculative and final end-points.

A **scorer** returns after every frame a score for the user having finished, on a scale of its own (seconds of silence,
a probability). A policy fires if a score reaches a threshold, so all policies are swept, compared and run in the same
way.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from edgespeech.contracts import EventKind
from edgespeech.endpointing.frames import Frame
from edgespeech.errors import bad


class Scorer(ABC):
    """Scores the frames of one utterance."""

    @abstractmethod
    def accept(self, frame: Frame) -> float:
        """The score after this frame; higher is more certain that the user has finished; never NaN."""


class Guarded(Scorer):
    """A scorer within bounds on the decoder's pause (Maas et al., 2018), which have priority.

    Args:
        scorer: the bounded scorer.
        shortest_s: it does not fire without words, or before a pause of this length.
        longest_s: after a pause of this length it fires independently of the scorer.

    Raises:
        EdgeSpeechError: the bounds are not 0 or more and in order.
    """

    def __init__(self, scorer: Scorer, *, shortest_s: float, longest_s: float) -> None:
        if not 0 <= shortest_s <= longest_s:
            raise bad("end-pointing", "bounds", (shortest_s, longest_s), "0 or more, the shorter one first")
        self._scorer = scorer
        self._shortest_s = shortest_s
        self._longest_s = longest_s

    def accept(self, frame: Frame) -> float:
        """The scorer's score within the bounds, minus infinity below and infinity above."""
        score = self._scorer.accept(frame)
        if frame.pause_s < self._shortest_s or math.isinf(frame.pause_s):
            return -math.inf
        return math.inf if frame.pause_s >= self._longest_s else score


class Shared(Scorer):
    """A scorer shared by several gates of one policy, so that each frame is scored once.

    Args:
        scorer: the shared scorer.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._frame: Frame | None = None
        self._score = -math.inf

    def accept(self, frame: Frame) -> float:
        """See above."""
        if frame is not self._frame:
            self._frame, self._score = frame, self._scorer.accept(frame)
        return self._score


@dataclass(frozen=True, slots=True)
class Gate:
    """A scorer with a threshold.

    Raises:
        EdgeSpeechError: the threshold is NaN.
    """

    scorer: Scorer
    threshold: float

    def __post_init__(self) -> None:
        if math.isnan(self.threshold):
            raise bad("end-pointing", "threshold", self.threshold, "a number")

    def accept(self, frame: Frame) -> bool:
        """Whether the gate is open after this frame."""
        return self.scorer.accept(frame) >= self.threshold


class EndPointer:
    """A policy over one utterance: a final gate, and perhaps a speculative one that opens earlier.

    A system publishes its hypothesis at `SPECULATIVE`, withdraws it at `RESET` (after further words), and closes the
    utterance at `ENDPOINT`. After that there are no more events, unless `again`. If the hypothesis at the end-point
    differs from the published one, the policy resets before it.

    Args:
        final: closes the utterance.
        speculative: publishes a speculative result; None: without.
        again: whether words after an end-point are another segment with its own end-points.
    """

    def __init__(self, final: Gate, speculative: Gate | None = None, *, again: bool = False) -> None:
        self._final = final
        self._speculative = speculative
        self._again = again
        self._published: tuple[int, ...] | None = None
        self._closed: tuple[int, ...] = ()
        self.ended = False

    def accept(self, frame: Frame) -> tuple[EventKind, ...]:
        """The events after this frame, in order: any of `RESET`, then `SPECULATIVE` or `ENDPOINT`."""
        if self.ended and not self._again:
            return ()
        early = self._speculative is not None and self._speculative.accept(frame)
        over = self._final.accept(frame)
        if self.ended and frame.labels == self._closed:
            return ()
        self.ended = False
        happened: list[EventKind] = []
        if self._published is not None and self._published != frame.labels:
            happened.append(EventKind.RESET)
            self._published = None
        if over:
            happened.append(EventKind.ENDPOINT)
            self.ended, self._published, self._closed = True, None, frame.labels
        elif early and self._published is None:
            happened.append(EventKind.SPECULATIVE)
            self._published = frame.labels
        return tuple(happened)
