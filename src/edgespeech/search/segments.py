"""When a stream that has gone on for long starts its search anew, so that what it holds and says stays bounded."""

from __future__ import annotations

from edgespeech.contracts import SAMPLE_RATE

SEGMENT_S = 120.0
"""From here on a stream starts its search anew at the next pause: what a search holds grows with what was said, and
so does the time that it takes. Shorter utterances, as all published ones are, never do."""
_PAUSES_S = (0.8, 0.2, 0.0)
"""The pause that is waited for, in the first further `SEGMENT_S`, in the second, and from then on."""


class Segments:
    """How much of a stream was heard, and since when nothing was said.

    Attributes:
        heard: samples so far.
        start: samples that were heard when this segment began.
        emitted: samples that were heard when the last word piece was emitted; None before the first.
    """

    def __init__(self) -> None:
        self.heard = 0
        self.start = 0
        self.emitted: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether the segment is long, and nothing was said for long enough."""
        longer = (self.heard - self.start) / SAMPLE_RATE / SEGMENT_S
        if longer < 1:
            return False
        pause = _PAUSES_S[min(int(longer), len(_PAUSES_S)) - 1]
        return self.heard - max(self.emitted or 0, self.start) >= round(pause * SAMPLE_RATE)

    def begin(self) -> None:
        """The next sample is the first of a new segment."""
        self.start = self.heard
