"""Compute and latency of a run (measurement definitions, section 4), from its timelines.

`utterance_timing` reads one utterance, `summarise` pools a run: quantiles over all values of all utterances,
never means of quantiles. Negative latencies are included. Missing events of a failed utterance have unbounded
(infinite) latency, unless no utterance of the run has them (a system without partials or end-points).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from edgespeech.contracts import EventKind, Word
from edgespeech.errors import bad
from edgespeech.metrics.registry import (
    Direction,
    Metric,
    Scored,
    figure,
    lower,
    quantile_figures,
    ratio_figure,
    share_figure,
)
from edgespeech.metrics.statistics import Groups
from edgespeech.metrics.upl import (
    UplParts,
    closing_endpoint,
    final_result,
    first_endpoint,
    plain,
    upl_parts,
    upl_s,
    was_revised,
)
from edgespeech.records.records import Figure
from edgespeech.records.trace import Stamped, Timeline

CUT_OFF_S = 0.05
"""An end-point at least this long before the end of speech cuts the user off."""


def _quantiles(
    stem: str, definition: str, *percents: int, network: bool = True
) -> list[tuple[Metric, float]]:
    return [
        (lower(f"{stem}_p{p}", "s", f"P{p} of: {definition}", network=network), p / 100) for p in percents
    ]


_CHUNK = _quantiles(
    "chunk", "compute of one call of the recogniser, `finish` included", 50, 99, network=False
)
_CHUNK_MAX = lower("chunk_max", "s", "longest compute of one call of the recogniser, `finish` included")
_RTF = lower("rtf", "ratio", "compute on the device over audio duration, load and warm-up excluded")
_RTFX = Metric(
    id="rtfx",
    unit="ratio",
    direction=Direction.HIGHER,
    definition="audio duration over compute on the device",
)
_REMOTE_RTF = lower("remote_rtf", "ratio", "compute on the far side, as measured here, over audio duration")
_FIRST = _quantiles("first_partial", "first non-empty partial's stamp - start of speech", 50, 90)
_EMISSION = _quantiles(
    "emission", "stamp of a word's first appearance that stays - the word's end in audio time", 50, 90
)
_ENDPOINT = _quantiles("ep", "end-point stamp - end of speech, over utterances not cut off", 50, 90, 99)
_CUT_OFF = lower(
    "cut_off_rate",
    "ratio",
    f"share of utterances end-pointed on audio up to end of speech - {CUT_OFF_S} s or less",
    network=True,
)
_FINALISATION = _quantiles(
    "finalisation", "final result's stamp - stamp of the end-point that closed it", 50, 90
)
_UPL = _quantiles("upl", "stamp of the result that downstream keeps - end of speech", 50, 90, 99)
_RESET = lower(
    "reset_rate", "ratio", "share of utterances with a speculative result that was revised", network=True
)
_UPL_MEAN = lower("upl_mean", "s", "mean UPL over utterances with a result", network=True)
_PARTS = [
    lower(
        f"upl_{name}",
        "s",
        f"mean of the part of UPL due to {name}; the parts add up to upl_mean",
        network=True,
    )
    for name in (part.name.removesuffix("_s") for part in fields(UplParts))
]
METRICS = (
    *(metric for metric, _ in _CHUNK),
    _CHUNK_MAX,
    _RTF,
    _RTFX,
    _REMOTE_RTF,
    *(metric for group in (_FIRST, _EMISSION, _ENDPOINT) for metric, _ in group),
    _CUT_OFF,
    *(metric for group in (_FINALISATION, _UPL) for metric, _ in group),
    _RESET,
    _UPL_MEAN,
    *_PARTS,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class UtteranceTimes:
    """Start and end of speech, in audio time; None if the corpus does not state them."""

    sos_s: float | None = None
    eos_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UtteranceTiming:
    """The times of one utterance, in seconds. None: does not apply. Infinite: missing because of a failure.

    Attributes:
        duration_s: length of the audio.
        completed: whether every call returned; otherwise the compute times are incomplete.
        compute_s: of each call, `finish` last.
        remote_compute_s: of the server, measured on this machine; None without one.
        first_partial_s: after the start of speech.
        emission_delays_s: of the usable words of the final.
        final_words: how many words the final has.
        endpoint_latency_s: after the end of speech; also of utterances that were cut off.
        cut_off: whether the end-point was during speech.
        finalisation_s: from the end-point that closed the final result to that result.
        upl_s: user-perceived latency, and its parts.
        revised: whether a speculative result was revised.
    """

    duration_s: float
    completed: bool
    compute_s: tuple[float, ...]
    remote_compute_s: float | None
    first_partial_s: float | None
    emission_delays_s: tuple[float, ...]
    final_words: int
    endpoint_latency_s: float | None
    cut_off: bool | None
    finalisation_s: float | None
    upl_s: float | None
    upl_parts: UplParts | None
    revised: bool | None


def utterance_timing(timeline: Timeline, times: UtteranceTimes) -> UtteranceTiming:
    """All times of one timeline."""
    trace, eos_s = timeline.trace, times.eos_s
    missing = None if timeline.failure is None else math.inf
    endpoint = first_endpoint(timeline)
    result = final_result(timeline)
    partial = next(
        (s for s in timeline.events if s.event.kind is EventKind.PARTIAL and s.event.text.strip()), None
    )
    delays, n_words = emission_delays(timeline)
    endpoint_latency_s, cut_off, finalisation_s = missing, False, missing
    if endpoint is not None:
        heard_s = endpoint.event.audio_s
        if heard_s is None:
            heard_s = endpoint.parts.get("listening", endpoint.t_s)
        if eos_s is not None:
            endpoint_latency_s, cut_off = endpoint.t_s - eos_s, heard_s < eos_s - CUT_OFF_S
        if result is not None:
            finalisation_s = result.t_s - (closing_endpoint(timeline, result) or endpoint).t_s
    return UtteranceTiming(
        duration_s=trace.duration_s,
        completed=trace.failure is None,
        compute_s=tuple(chunk.compute_s for chunk in trace.chunks),
        remote_compute_s=None if trace.remote is None else sum(trace.remote.compute_s),
        first_partial_s=None
        if times.sos_s is None
        else missing
        if partial is None
        else partial.t_s - times.sos_s,
        emission_delays_s=delays,
        final_words=n_words,
        endpoint_latency_s=None if eos_s is None else endpoint_latency_s,
        cut_off=None if eos_s is None else cut_off,
        finalisation_s=finalisation_s,
        upl_s=None if eos_s is None else upl_s(timeline, eos_s),
        upl_parts=None if eos_s is None else upl_parts(timeline, eos_s),
        revised=was_revised(timeline),
    )


def emission_delays(timeline: Timeline) -> tuple[tuple[float, ...], int]:
    """Emission delays: how long after its end each word of the final was displayed permanently.

    Words are identified by text (without case and punctuation) and overlapping times. A word is displayed permanently
    from the first hypothesis after which all contain it; a word that only the final has, from the final on. Hypotheses
    without word times are skipped; if no partial has them, or the final has none, no word is usable. For settled words
    only the events up to then count.

    Returns:
        The delays in seconds, one per usable word, and the number of words in the final.
    """
    if timeline.failure is not None or timeline.last(EventKind.FINAL) is None:
        return (), 0
    delays: list[float] = []
    n_words = 0
    segment: list[Stamped] = []
    for stamped in timeline.events:
        segment.append(stamped)
        if stamped.event.kind is EventKind.SETTLED:
            some, n = _segment_delays(segment, len(segment) - 1)
            delays, n_words, segment = [*delays, *some], n_words + n, []
    finals = [at for at, stamped in enumerate(segment) if stamped.event.kind is EventKind.FINAL]
    if finals:
        some, n = _segment_delays(segment, finals[-1])
        delays, n_words = [*delays, *some], n_words + n
    return tuple(delays), n_words


def _segment_delays(events: Sequence[Stamped], last: int) -> tuple[list[float], int]:
    """The delays of the words of one event, from it and the preceding events, and its number of words."""
    final = events[last]
    words = final.event.words
    shown = [
        stamped
        for stamped in events[:last]
        if stamped.event.kind in (EventKind.PARTIAL, EventKind.SPECULATIVE, EventKind.FINAL)
        and (stamped.event.words or not stamped.event.text.strip())
    ]
    if not words or not any(stamped.event.words for stamped in shown):
        return [], len(words) or len(final.event.text.split())
    first_s = [final.t_s] * len(words)
    staying = set(range(len(words)))
    for stamped in reversed(shown):
        said: defaultdict[str, list[Word]] = defaultdict(list)
        for word in stamped.event.words:
            said[plain(word.text)].append(word)
        staying = {
            i
            for i in staying
            if any(
                word.start_s <= words[i].end_s and words[i].start_s <= word.end_s
                for word in said.get(plain(words[i].text), ())
            )
        }
        for i in staying:
            first_s[i] = stamped.t_s
    return [t_s - word.end_s for t_s, word in zip(first_s, words, strict=True)], len(words)


def summarise(timings: Sequence[UtteranceTiming], groups: Groups, seed: int) -> dict[str, Figure]:
    """The figures of a run by metric id, without those that do not apply.

    Args:
        timings: one per utterance run, failures included.
        groups: per utterance its speaker, or None.
        seed: of the intervals.

    Raises:
        EdgeSpeechError: there are not as many groups as timings.
    """
    if len(timings) != len(groups):
        raise bad("summarise", "groups", len(groups), f"as many as timings, {len(timings)}")
    uncut = [None if t.cut_off else t.endpoint_latency_s for t in timings]
    figures = _compute_figures(timings, groups, seed)
    for wanted, values in (
        (_FIRST, [t.first_partial_s for t in timings]),
        (_ENDPOINT, uncut),
        (_FINALISATION, [t.finalisation_s for t in timings]),
    ):
        if any(value is not None and math.isfinite(value) for value in values):
            figures |= _pooled(wanted, values, groups, seed)
    figures |= _pooled(_UPL, [t.upl_s for t in timings], groups, seed)
    n_words = sum(t.final_words for t in timings)
    n_used = sum(len(t.emission_delays_s) for t in timings)
    figures |= quantile_figures(
        _EMISSION,
        [t.emission_delays_s for t in timings],
        groups,
        used_share=n_used / n_words if n_words else 0.0,
        seed=seed,
    )
    if any(t.endpoint_latency_s is not None and math.isfinite(t.endpoint_latency_s) for t in timings):
        figures |= share_figure(_CUT_OFF, [t.cut_off for t in timings], groups, seed=seed)
    figures |= share_figure(_RESET, [t.revised for t in timings], groups, seed=seed)
    return figures | _part_figures(timings, groups, seed)


def measure(scored: Sequence[Scored], *, seed: int) -> dict[str, Figure]:
    """The figures of a run; nothing if a hypothesis has no timing, which means that it was not measured here."""
    timings = [
        utterance_timing(item.timeline, UtteranceTimes(sos_s=item.sos_s, eos_s=item.eos_s))
        for item in scored
        if item.timeline is not None
    ]
    if not timings or len(timings) < len(scored):
        return {}
    return summarise(timings, [item.speaker for item in scored], seed)


def _compute_figures(timings: Sequence[UtteranceTiming], groups: Groups, seed: int) -> dict[str, Figure]:
    """Chunk compute over all calls; the real-time factors over utterances that ran to their end."""
    calls = [t.compute_s for t in timings]
    figures = quantile_figures(_CHUNK, calls, groups, used_share=1.0, seed=seed)
    if pooled := [value for call in calls for value in call]:
        figures[_CHUNK_MAX.id] = figure(_CHUNK_MAX, max(pooled), n=len(pooled), used_share=1.0, interval=None)
    done = [(t, group) for t, group in zip(timings, groups, strict=True) if t.completed]
    groups = [group for _, group in done]
    share = len(done) / len(timings) if timings else 0.0
    compute = [sum(t.compute_s) for t, _ in done]
    audio = [t.duration_s for t, _ in done]
    ratios = [(_RTF, compute, audio), (_RTFX, audio, compute)]
    if any(t.remote_compute_s is not None for t, _ in done):
        ratios.append((_REMOTE_RTF, [t.remote_compute_s or 0.0 for t, _ in done], audio))
    for metric, top, bottom in ratios:
        figures |= ratio_figure(metric, top, bottom, groups, n=len(done), used_share=share, seed=seed)
    return figures


def _part_figures(timings: Sequence[UtteranceTiming], groups: Groups, seed: int) -> dict[str, Figure]:
    """Mean UPL and the means of its parts over the same utterances, so that they add up."""
    used = [(t.upl_parts, group) for t, group in zip(timings, groups, strict=True) if t.upl_parts is not None]
    if not used:
        return {}
    figures: dict[str, Figure] = {}
    rows = [astuple(parts) for parts, _ in used]
    columns = [[sum(row) for row in rows], *zip(*rows, strict=True)]
    for metric, column in zip((_UPL_MEAN, *_PARTS), columns, strict=True):
        figures |= ratio_figure(
            metric,
            column,
            [1.0] * len(column),
            [group for _, group in used],
            n=len(used),
            used_share=len(used) / len(timings),
            seed=seed,
        )
    return figures


def _pooled(
    wanted: Sequence[tuple[Metric, float]], values: Sequence[float | None], groups: Groups, seed: int
) -> dict[str, Figure]:
    lists = [() if value is None else (value,) for value in values]
    share = sum(map(len, lists)) / len(lists) if lists else 0.0
    return quantile_figures(wanted, lists, groups, used_share=share, seed=seed)
