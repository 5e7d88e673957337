"""What recognisers of different kinds have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from edgespeech.audio.features import Features, StreamingLogMel
from edgespeech.contracts import SAMPLE_RATE, LeadIn, Recogniser, Request, Samples
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.search.partials import TAIL_S, PartialsStream

Loaded = TypeVar("Loaded")


def ready(recogniser: Recogniser, loaded: Loaded | None, request: Request) -> Loaded:
    """What a recogniser has loaded, for an utterance in a language that it knows.

    Raises:
        EdgeSpeechError: nothing is loaded, or the language is another.
    """
    if loaded is None:
        raise EdgeSpeechError(f"{recogniser.name}: not loaded: call load() before open()")
    if recogniser.languages and request.language not in recogniser.languages:
        raise bad(recogniser.name, "language", request.language, " or ".join(recogniser.languages))
    return loaded


LONGEST_LEAD_IN_S = 60.0
"""Seconds of a lead-in beyond which it is a mistake: it is heard before the first sample of the utterance is."""


def lead_in_of(recogniser: Recogniser, request: Request) -> Samples | None:
    """The samples of a request's lead-in, with shape `(N,)`; None: it has none.

    Raises:
        EdgeSpeechError: the recogniser does not use lead-ins; or this one is empty, too long, of another rate or type,
            or not finite. The message names the utterance.
    """
    if request.lead_in is None:
        return None
    where = f"{recogniser.name}: lead-in of {request.utterance_id}"
    if not recogniser.takes_lead_in:
        raise bad(where, "recogniser", recogniser.name, "one that takes lead-ins")
    return checked_lead_in(request.lead_in, where)


def checked_lead_in(lead_in: LeadIn, where: str) -> Samples:
    """The samples of a lead-in, with shape `(N,)`; raises as `lead_in_of`."""
    samples = lead_in.samples
    if lead_in.rate != SAMPLE_RATE:
        raise bad(where, "rate", lead_in.rate, f"{SAMPLE_RATE} Hz")
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise bad(where, "samples", f"{samples.dtype} {samples.shape}", "float32 (N,)")
    if not 0 < len(samples) <= LONGEST_LEAD_IN_S * SAMPLE_RATE:
        raise bad(where, "seconds", len(samples) / SAMPLE_RATE, f"above 0, at most {LONGEST_LEAD_IN_S:g}")
    if not np.isfinite(samples).all():
        raise bad(where, "samples", "NaN or infinity", "finite numbers")
    return samples


def pcm16(samples: Samples) -> bytes:
    """Samples, with shape `(N,)`, in 16 bits, little-endian; what is beyond full scale is clipped."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes()


class Extractor(Protocol):
    """What makes features of samples that arrive in pieces."""

    def accept(self, samples: Samples, /) -> Features:
        """Take samples and return the frames that they complete, with shape `(F, 80)`."""
        ...

    def finish(self) -> Features:
        """The audio is over: return the last frames."""
        ...


class FeatureSearch(Protocol):
    """A search that takes features."""

    @property
    def state_bytes(self) -> int:
        """Bytes of its state."""
        ...

    def accept(self, features: Features, /) -> None:
        """Search on with further frames, with shape `(F, 80)`."""
        ...


Search = TypeVar("Search", bound=FeatureSearch)


class FeatureStream(PartialsStream, Generic[Search]):
    """One utterance in progress, whose search takes features; a subclass sets `_search` and says what is best."""

    _search: Search

    def __init__(
        self,
        pieces: Sequence[str],
        frame_s: float,
        final_s: float | None = None,
        features: Extractor | None = None,
    ) -> None:
        super().__init__(pieces, frame_s, final_s)
        self._features = features or StreamingLogMel()

    def _hear(self, samples: Samples) -> None:
        self._search.accept(self._features.accept(samples))

    def _end(self) -> None:
        tail = self._features.accept(np.zeros(round(TAIL_S * SAMPLE_RATE), np.float32))
        self._search.accept(np.concatenate([tail, self._features.finish()]))

    def state_bytes(self) -> int:
        """Bytes of state, but for the extractor's last 25 ms of samples."""
        return self._search.state_bytes
