"""One pass of recogniser and scorers over an utterance, and the replay of policies on its scores.

`played` runs the same `EndPointer` as a system, over stored scores.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from replication.endpointing.curves import Floats, Scores, chunk_end
from replication.endpointing.sets import Case

from edgespeech.contracts import SAMPLE_RATE, Event, EventKind
from edgespeech.endpointing.frames import Frame, FrameStream
from edgespeech.endpointing.policy import EndPointer, Gate, Scorer
from edgespeech.endpointing.scorers import Scorers
from edgespeech.model.checkpoint import Trained
from edgespeech.records.trace import Stamped, Timeline, Trace
from edgespeech.search.settings import SearchSettings
from edgespeech.search.streaming import decoder_of

_NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """An utterance with the results of one pass.

    Attributes:
        case: the utterance, without its samples.
        duration_s: of its audio.
        audio_s: received after each frame, with shape `(T,)`.
        pause_s: the decoder's, after each frame, with shape `(T,)`.
        texts: hypothesis after each frame.
        scores: of each scorer, each with shape `(T,)`.
        compute_s: of each scorer for all frames.
    """

    case: Case
    duration_s: float
    audio_s: Floats
    pause_s: Floats
    texts: tuple[str, ...]
    scores: dict[str, Floats]
    compute_s: dict[str, float]

    def of(self, scorer: str) -> Scores:
        """The input of a sweep for one scorer."""
        return Scores(scores=self.scores[scorer], audio_s=self.audio_s, eos_s=self.case.eos_s)


def frames_of(trained: Trained, settings: SearchSettings, case: Case) -> list[Frame]:
    """All frames of an utterance."""
    return FrameStream(trained, decoder_of(trained, settings)).accept(case.samples)


def listen(trained: Trained, settings: SearchSettings, case: Case, scorers: Scorers) -> Heard:
    """Decode an utterance with every scorer.

    Args:
        trained: the recogniser.
        settings: of its search; its own end-point is ignored.
        case: the utterance.
        scorers: by name.
    """
    frames = frames_of(trained, settings, case)
    scores: defaultdict[str, Floats] = defaultdict(lambda: np.empty(len(frames)))
    compute_s: dict[str, float] = {}
    for name, make in scorers.items():
        scorer = make()
        start = time.perf_counter()
        scores[name][:] = [scorer.accept(frame) for frame in frames]
        compute_s[name] = time.perf_counter() - start
    texts: dict[tuple[int, ...], str] = {}
    for frame in frames:
        if frame.labels not in texts:
            texts[frame.labels] = trained.tokeniser.decode(frame.labels)
    return Heard(
        case=replace(case, samples=_NOTHING),
        duration_s=len(case.samples) / SAMPLE_RATE,
        audio_s=np.array([frame.audio_s for frame in frames]),
        pause_s=np.array([frame.pause_s for frame in frames]),
        texts=tuple(texts[frame.labels] for frame in frames),
        scores=dict(scores),
        compute_s=compute_s,
    )


class _Kept(Scorer):
    """Returns stored scores."""

    def __init__(self, scores: Floats) -> None:
        self._scores = iter(scores.tolist())

    def accept(self, frame: Frame) -> float:
        return float(next(self._scores))


def played(
    heard: Heard,
    final: tuple[str, float],
    speculative: tuple[str, float] | None = None,
    *,
    chunk_s: float,
) -> Timeline:
    """The events of a policy on an utterance, each at the end of its chunk; compute and network take no time.

    Args:
        heard: the utterance.
        final: scorer and threshold for ending the utterance.
        speculative: scorer and threshold for a speculative result; None: without.
        chunk_s: duration of a chunk of audio.

    Returns:
        Speculative results, resets, the end-point, and the final result, at the end-point, or without one at the end of
        the audio. A result is withdrawn when its text changes.
    """
    gates = [
        None if one is None else Gate(_Kept(heard.scores[one[0]]), one[1]) for one in (speculative, final)
    ]
    assert gates[1] is not None
    policy = EndPointer(gates[1], gates[0])
    known: dict[str, tuple[int, ...]] = {}
    events: list[Stamped] = []
    ends = chunk_end(heard.audio_s, chunk_s).tolist()

    def stamp(kind: EventKind, text: str, audio_s: float, t_s: float) -> None:
        event = Event(kind=kind, text=text, audio_s=audio_s)
        events.append(Stamped(event=event, t_s=t_s, chunk=round(t_s / chunk_s) - 1, parts={"listening": t_s}))

    for text, audio_s, pause_s, t_s in zip(
        heard.texts, heard.audio_s.tolist(), heard.pause_s.tolist(), ends, strict=True
    ):
        labels = known.setdefault(text, (len(known),))
        frame = Frame(audio_s=audio_s, samples=_NOTHING, encoded=_NOTHING, labels=labels, pause_s=pause_s)
        for kind in policy.accept(frame):
            stamp(kind, "" if kind is EventKind.RESET else text, audio_s, t_s)
        if policy.ended:
            stamp(EventKind.FINAL, text, audio_s, t_s)
            break
    else:
        stamp(EventKind.FINAL, heard.texts[-1] if heard.texts else "", heard.duration_s, heard.duration_s)
    trace = Trace(utterance_id=heard.case.id, duration_s=heard.duration_s, chunks=(), events=())
    return Timeline(trace=trace, network="none", events=tuple(events), up_bytes=0, down_bytes=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Early:
    """Statistics of speculation over a set.

    Attributes:
        confirmed: share of utterances with a speculative result of which the first is the final one.
        published: share of all utterances with a speculative result.
        advance_s: median of the final result's time minus that of the speculative result that stays (0 without).
        resets: mean number per utterance.
        advances_s: of each utterance.
        each_confirmed: of each utterance; None without a speculative result.
    """

    confirmed: float
    published: float
    advance_s: float
    resets: float
    advances_s: tuple[float, ...]
    each_confirmed: tuple[bool | None, ...]

    def as_row(self) -> dict[str, float]:
        """The figures of the whole set, as JSON."""
        return {
            "confirmed": self.confirmed,
            "published": self.published,
            "advance_s": self.advance_s,
            "resets": self.resets,
        }


def early(timelines: Sequence[Timeline]) -> Early:
    """See `Early`; a share of no utterance is 0."""
    resets = 0
    advances: list[float] = []
    each: list[bool | None] = []
    for timeline in timelines:
        kinds = [one.event.kind for one in timeline.events]
        resets += kinds.count(EventKind.RESET)
        final = timeline.events[-1]
        kept = final
        for one in timeline.events:
            if one.event.kind is EventKind.SPECULATIVE:
                kept = one
            elif one.event.kind is EventKind.RESET:
                kept = final
        advances.append(final.t_s - kept.t_s)
        each.append(EventKind.RESET not in kinds if EventKind.SPECULATIVE in kinds else None)
    published = [confirmed for confirmed in each if confirmed is not None]
    return Early(
        confirmed=sum(published) / len(published) if published else 0.0,
        published=len(published) / len(timelines),
        advance_s=float(np.median(advances)),
        resets=resets / len(timelines),
        advances_s=tuple(advances),
        each_confirmed=tuple(each),
    )
