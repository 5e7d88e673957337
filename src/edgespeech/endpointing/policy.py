"""Policies: from scores to speculative and final end-points.

A **scorer** says after every frame how sure it is that the user has finished; what its scores mean is its own
affair (seconds of silence, a probability). A policy fires where a score reaches a threshold, so all policies are
swept, compared and run in the same way.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from edgespeech.contracts import EventKind
from edgespeech.endpointing.frames import Frame
from edgespeech.errors import bad


class Scorer(ABC):
    """Listens to one utterance."""

    @abstractmethod
    def accept(self, frame: Frame) -> float:
        """How sure it is after this frame that the user has finished; more is surer, never NaN."""


class Guarded(Scorer):
    """A scorer within bounds on the decoder's pause (Maas et al., 2018): the words come first.

    Args:
        scorer: what is bounded.
        shortest_s: while nothing was recognised, or words came more recently than this, nothing fires.
        longest_s: once nothing more came for so long, it fires whatever the scorer says.

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
    """A scorer for several gates of one policy: each frame is scored once.

    Args:
        scorer: what scores it.
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
    """A scorer and the threshold that it has to reach.

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

    A system that holds one publishes its hypothesis at `SPECULATIVE`, withdraws it at `RESET` (words came after it),
    and closes the utterance at `ENDPOINT`. After that nothing more happens, unless `again`. If the hypothesis at the
    end-point is another than the one that was published, the policy resets before it.

    Args:
        final: closes the utterance.
        speculative: publishes a result in the hope that it stays; None leaves that out.
        again: whether further words after an end-point are a further segment, with end-points of its own.
    """

    def __init__(self, final: Gate, speculative: Gate | None = None, *, again: bool = False) -> None:
        self._final = final
        self._speculative = speculative
        self._again = again
        self._published: tuple[int, ...] | None = None
        self._closed: tuple[int, ...] = ()
        self.ended = False

    def accept(self, frame: Frame) -> tuple[EventKind, ...]:
        """What happens after this frame, in order: any of `RESET`, then `SPECULATIVE` or `ENDPOINT`."""
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
