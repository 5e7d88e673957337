"""The contracts of EdgeSpeech: read this file first.

A *recogniser* turns a stream of audio into *events*. The *runner* delivers the audio in virtual real time, owns every
clock and seed, and time-stamps the events; a recogniser has no clock of its own. The work of a remote server is
returned as a *remote trace* (bytes and compute times, no wall-clock times), which can be replayed over any *link*.

Units: seconds (`_s`), bytes, hertz, bits per second (`_bps`). Audio is mono float32 in [-1, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
SAMPLE_RATE = 16_000
RECOGNISER_GROUP = "edgespeech.recognisers"
"""Entry-point group with which other packages register recognisers."""


class Kind(StrEnum):
    """Where the recognition happens."""

    DEVICE = "device"
    CLOUD = "cloud"
    HYBRID = "hybrid"


class EventKind(StrEnum):
    """The kinds of events that a recogniser returns."""

    PARTIAL = "partial"
    """The hypothesis so far; may change."""
    SPECULATIVE = "speculative"
    """A result published early, which the final result is expected to confirm."""
    ENDPOINT = "endpoint"
    """The user has stopped speaking."""
    FINAL = "final"
    """The final result. A later final of the same utterance extends or replaces it: the last one counts."""
    RESET = "reset"
    """The speculative result was wrong; downstream must start again."""
    SETTLED = "settled"
    """The text and words since the last such event, or since the start, will not change: later hypotheses begin behind
    them. Long audio alone needs it: without it every hypothesis repeats hours of speech."""
    SENT = "sent"
    """One message left for the network; `n_bytes` is its payload after the codec, before framing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A recognised word with its start and end in audio time (seconds from the first sample)."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event of a recogniser.

    Attributes:
        kind: what it is.
        text: the raw hypothesis of the whole utterance so far (partial, speculative, final), without what is settled.
        words: word times, if the recogniser provides them.
        audio_s: the audio time that the event is about, where it is known (for an end-point: how much audio had
            been consumed when it was decided).
        n_bytes: payload bytes of a `SENT` message.
    """

    kind: EventKind
    text: str = ""
    words: tuple[Word, ...] = ()
    audio_s: float | None = None
    n_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A message from the server: its payload bytes, its event, and the uplink message that caused it.

    `after_message` counts the stream's `SENT` events from 0. `compute_s` is the part of that message's compute time
    that was spent before the reply was sent; None: all of it.
    """

    after_message: int
    n_bytes: int
    event: Event
    compute_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteTrace:
    """The server's work on one stream: compute time per uplink message, and the replies in order.

    `compute_s[m]` is the compute time caused by message m, measured on the server around that work alone.

    Attributes:
        answer_deadline_s: for a device with a result of its own: how long after that result the server's answer to the
            newest message may still replace it, see `edgespeech.metrics.arbitration`. None: the device has no result.
        notes: violations of the protocol by the server.
    """

    compute_s: tuple[float, ...] = ()
    replies: tuple[Reply, ...] = ()
    answer_deadline_s: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkProfile:
    """The network between device and cloud (measurement definitions, section 2). Rates in bit/s."""

    name: str
    rtt_s: float
    jitter_s: float
    up_bps: float
    down_bps: float
    loss: float = 0.0
    outage_share: float = 0.0
    outage_mean_s: float = 0.0
    available: bool = True


@dataclass(frozen=True, slots=True)
class LeadIn:
    """Audio right before an utterance, which is heard and not transcribed: a wake word, a pause.

    Attributes:
        samples: with shape `(N,)`, N >= 1, finite.
        rate: in hertz; recognisers take 16,000.
    """

    samples: Samples
    rate: int = SAMPLE_RATE


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Information that accompanies the audio of one utterance.

    Attributes:
        utterance_id: the manifest's id.
        language: ISO 639-1 code.
        context: phrases that are likely to be spoken (contact names, menu items); may be empty.
        context_weights: how likely each of them is beside the others, a factor of at least 0; empty: 1 for all. A
            recogniser that knows no weights uses the phrases alone.
        link: the network, for recognisers that adapt to it; None if the network is applied afterwards by replay.
        seed: for random numbers in the recogniser.
        lead_in: what came right before the first sample; None: nothing is known of it. Times count from the first
            sample after it.
    """

    utterance_id: str
    language: str = "en"
    context: tuple[str, ...] = ()
    context_weights: tuple[float, ...] = ()
    link: LinkProfile | None = None
    seed: int = 0
    lead_in: LeadIn | None = field(default=None, compare=False)  # arrays have no equality of their own


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemInfo:
    """The description that a recogniser returns after loading.

    Attributes:
        name: as in the tables.
        kind: device, cloud or hybrid.
        model_bytes: total size of the model files, on device and server; 0 for none.
        parameters: number of weights, or None if unknown.
        chunk_s: how much audio one `accept` takes.
        citation: its origin: name, version, licence.
        config: everything that changes its output or its bytes, JSON-serialisable.
        model_sha256: file name to hash, for every file in `model_bytes`.
        notes: footnotes for its row in tables.
    """

    name: str
    kind: Kind
    model_bytes: int
    parameters: int | None
    chunk_s: float
    citation: str
    config: Mapping[str, Any] = field(default_factory=dict)
    model_sha256: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Stream(ABC):
    """One utterance in progress. Opened by a recogniser, fed by the runner, used once."""

    @abstractmethod
    def accept(self, samples: Samples) -> Sequence[Event]:
        """Take the next samples, with shape `(N,)`, `0 < N <= chunk_s * 16000`; return new events."""

    @abstractmethod
    def finish(self) -> Sequence[Event]:
        """End of the audio: process the rest and return the last events. Called exactly once."""

    def remote(self) -> RemoteTrace | None:
        """The server's work; called once, after `finish`, outside all timing. None: there is no server."""
        return None

    def state_bytes(self) -> int | None:
        """Size of this stream's state in bytes, or None if unknown."""
        return None

    def close(self) -> None:
        """Release the stream, finished or not."""
        return None


class Recogniser(ABC):
    """Anything that turns a stream of audio into events.

    A subclass is one file: set the class attributes, implement `load` and `open`. Import heavy packages inside
    `load`, so that listing recognisers stays instant. Keyword arguments of the constructor are the options a user
    can set (`--option name=value`); unknown names are a TypeError by themselves.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    summary: ClassVar[str]
    languages: ClassVar[tuple[str, ...]] = ()
    """ISO 639-1 codes of the languages that it recognises; empty if unspecified. Others are refused before a run."""
    takes_context: ClassVar[bool | None] = None
    """Whether it uses the context phrases of a request; None if unspecified. Phrases that would be ignored are
    refused before a run."""
    takes_lead_in: ClassVar[bool] = False
    """Whether it uses the lead-in of a request. One that would be ignored is refused before a run."""

    def missing(self) -> str | None:
        """Why this recogniser cannot run here (a package, weights), or None when it can. Must be cheap."""
        return None

    def files(self) -> Mapping[str, Path]:
        """The files that `load` reads, by names; where one changes, the pipeline measures again. Must be cheap."""
        return {}

    def context_remarks(self, context: Sequence[str], weights: Sequence[float] = ()) -> Sequence[str]:
        """What of these context phrases it will not use, and why; called before `load` with the list of a run.

        Raises:
            EdgeSpeechError: it cannot use such a list at all.
        """
        del context, weights
        return ()

    @abstractmethod
    def load(self) -> SystemInfo:
        """Load everything, once, before any stream. May take long; the load time is recorded separately."""

    @abstractmethod
    def open(self, request: Request) -> Stream:
        """Start a stream. Any number may be open at once; they are independent."""

    def helper_pids(self) -> Sequence[int]:
        """Process ids of helpers (such as a server), so that their memory is counted too."""
        return ()

    def close(self) -> None:
        """Stop helpers and free the resources of `load`."""
        return None


class Verdict(StrEnum):
    """The verdict on a claim (`edgespeech.records.claims`), or on a published value measured again."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT_REPRODUCED = "not reproduced"
    MET = "met"
    MISSED = "missed"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


class Difference(StrEnum):
    """The conclusion from a paired interval of two systems. Lower is better for every rate it is used on."""

    BETTER = "better"
    WORSE = "worse"
    TIE = "tie"
