"""When a long stream restarts its search, so that its memory and its events stay bounded."""

from __future__ import annotations

from edgespeech.contracts import SAMPLE_RATE

SEGMENT_S = 120.0
"""Seconds after which a stream restarts its search at the next pause, since the memory and time of a search grow with
its hypotheses. Shorter utterances, such as all published ones, are searched as a whole."""
_PAUSES_S = (0.8, 0.2, 0.0)
"""The required pause in the first `SEGMENT_S` after that, in the second, and later."""


class Segments:
    """The position in a stream, and since when no word piece was emitted.

    Attributes:
        heard: samples received so far.
        start: samples received when this segment began.
        emitted: samples received when the last word piece was emitted; None before the first.
    """

    def __init__(self) -> None:
        self.heard = 0
        self.start = 0
        self.emitted: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether the segment is long, and the pause long enough."""
        longer = (self.heard - self.start) / SAMPLE_RATE / SEGMENT_S
        if longer < 1:
            return False
        pause = _PAUSES_S[min(int(longer), len(_PAUSES_S)) - 1]
        return self.heard - max(self.emitted or 0, self.start) >= round(pause * SAMPLE_RATE)

    def begin(self) -> None:
        """The next sample is the first of a new segment."""
        self.start = self.heard
