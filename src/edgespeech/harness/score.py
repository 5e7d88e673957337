"""Scoring: from a run's traces to figures and rows. Deterministic: the same run and seed give the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgespeech.contracts import EventKind, LinkProfile
from edgespeech.corpora.manifest import Utterance
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.hear import text_of
from edgespeech.harness.replay import replay
from edgespeech.harness.workers import Loaded, Run
from edgespeech.metrics.acceptance import accepted
from edgespeech.metrics.latency import UtteranceTimes, utterance_timing
from edgespeech.metrics.registry import Scored, measure
from edgespeech.metrics.wer import count_errors, n_empty, total
from edgespeech.records.records import (
    HOST_KEYS,
    AccuracyRow,
    EventRow,
    Figure,
    MemoryRow,
    NetworkRow,
    NetworkTiming,
    Row,
    Timing,
    UplinkRow,
    sha256_json,
    without_paths,
)
from edgespeech.records.rows import trace_from_row, trace_to_row
from edgespeech.records.trace import Timeline, Trace
from edgespeech.text.grammar import Grammar, Parse, load_grammar
from edgespeech.text.normalise import Normaliser, normalisers

EVENTS_NETWORK = "wifi"
"""The network whose times are in the rows, if it is among those replayed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRun:
    """The results part of a record."""

    loaded: Loaded
    rows: list[Row]
    n_failed: int
    audio_s: float
    ref_words: int
    accuracy: dict[str, AccuracyRow]
    acceptance: Figure | None
    latency: dict[str, Figure]
    networks: dict[str, NetworkRow]
    uplink: UplinkRow | None
    memory: MemoryRow | None


def resampling_unit(utterances: Sequence[Utterance]) -> Literal["speaker", "utterance"]:
    """The resampling unit of intervals: speakers, if every utterance has one."""
    return "speaker" if utterances and all(item.speaker for item in utterances) else "utterance"


def score(
    utterances: Sequence[Utterance],
    run: Run,
    links: Mapping[str, LinkProfile],
    *,
    seed: int,
    cloud_speedup: float,
    grammar: str | None,
    bias: Sequence[str] = (),
) -> ScoredRun:
    """Score a run.

    Args:
        utterances: those run, in order.
        run: results of the processes, in the same order.
        links: networks to replay over.
        seed: of the networks and the intervals.
        cloud_speedup: server's speed relative to this machine's.
        grammar: for parsing hypotheses into intent and slots; None if the corpus has no commands.
        bias: phrases for B-WER and U-WER, for utterances without their own.
    """
    traces = [_stored(done.trace) for done in run.done]
    timelines = {
        name: [
            replay(trace, profile, seed=replay_seed(seed, trace), cloud_speedup=cloud_speedup)
            for trace in traces
        ]
        for name, profile in links.items()
    }
    # Accuracy is that with a working network: a trace's own failure counts, an outage does not.
    texts = ["" if trace.failure is not None else text_of(trace) for trace in traces]
    parses = _parse(grammar, utterances, texts)
    judged = [
        None if item.intent is None else accepted(parse, item.intent, item.slots or {})
        for item, parse in zip(utterances, parses, strict=True)
    ]
    known = normalisers()
    accuracy = {name: accuracy_row(utterances, texts, known[name], bias, seed) for name in known}
    any_network = next(iter(timelines))
    items = _scored(utterances, texts, judged, timelines[any_network], known["whisper-en"], bias)
    device = measure(items, seed=seed, wanted=lambda metric: not metric.network and not metric.words)
    return ScoredRun(
        loaded=run.loaded,
        rows=[
            _row(utterances[n], texts[n], parses[n], judged[n], {k: v[n] for k, v in timelines.items()})
            for n in range(len(utterances))
        ],
        n_failed=sum(trace.failure is not None for trace in traces),
        audio_s=sum(trace.duration_s for trace in traces),
        ref_words=sum(len(item.text.split()) for item in utterances),
        accuracy=accuracy,
        acceptance=device.pop("acceptance", None),
        latency=device,
        networks={
            name: _network(
                links[name],
                _scored(utterances, texts, judged, timelines[name], known["whisper-en"], bias),
                seed,
            )
            for name in links
        },
        uplink=_uplink(run),
        memory=_memory(run, traces),
    )


def _stored(trace: Trace) -> Trace:
    """The trace after conversion to a row and back, so that figures recomputed from rows equal the record's."""
    return trace_from_row(trace.utterance_id, trace_to_row(trace))


def replay_seed(seed: int, trace: Trace) -> int:
    """A separate seed for every utterance: otherwise all would have the same outages."""
    return int(sha256_json([seed, trace.utterance_id])[:8], 16)


def _parse(grammar: str | None, utterances: Sequence[Utterance], texts: Sequence[str]) -> list[Parse | None]:
    labelled = any(item.intent is not None for item in utterances)
    if grammar is None:
        if labelled:
            raise EdgeSpeechError(
                "the manifest has intents, expected a grammar to parse hypotheses with (--grammar)"
            )
        return [None] * len(texts)
    parser: Grammar = load_grammar(grammar)
    return [parser.parse(text) if text else None for text in texts]


def _scored(
    utterances: Sequence[Utterance],
    texts: Sequence[str],
    judged: Sequence[bool | None],
    timelines: Sequence[Timeline] | None,
    normalise: Normaliser,
    bias: Sequence[str],
) -> list[Scored]:
    by_speaker = resampling_unit(utterances) == "speaker"
    references = normalise.all([item.text for item in utterances])
    hypotheses = normalise.all(texts)
    return [
        Scored(
            duration_s=item.duration,
            reference=references[n],
            hypothesis=hypotheses[n],
            speaker=item.speaker if by_speaker else None,
            context=tuple(normalise(phrase) for phrase in item.context or bias),
            sos_s=item.sos_s,
            eos_s=item.eos_s,
            accepted=judged[n],
            timeline=None if timelines is None else timelines[n],
        )
        for n, item in enumerate(utterances)
    ]


def accuracy_row(
    utterances: Sequence[Utterance],
    texts: Sequence[str],
    normalise: Normaliser,
    bias: Sequence[str],
    seed: int,
) -> AccuracyRow:
    """Word errors of raw hypotheses by one normaliser, and every other metric of words.

    Args:
        utterances: those run, in order.
        texts: their raw hypotheses.
        normalise: applied to both before words are compared.
        bias: phrases for B-WER and U-WER, for utterances without their own.
        seed: of the intervals.

    Raises:
        EdgeSpeechError: no reference word remains after normalisation.
    """
    items = _scored(utterances, texts, [None] * len(texts), None, normalise, bias)
    counts = count_errors([item.reference for item in items], [item.hypothesis for item in items])
    whole = total(counts)
    figures = measure(items, seed=seed, wanted=lambda metric: metric.words)
    if "wer" not in figures:
        raise EdgeSpeechError("the manifest has no reference word, expected at least one to score")
    return AccuracyRow(
        normaliser_version=normalise.version,
        normaliser_sha256=normalise.sha256,
        wer=figures.pop("wer"),
        substitutions=whole.substitutions,
        deletions=whole.deletions,
        insertions=whole.insertions,
        hits=whole.hits,
        ref_words=whole.ref_words,
        empty_refs=n_empty(counts),
        b_wer=figures.pop("b_wer", None),
        u_wer=figures.pop("u_wer", None),
        further=figures,
    )


def _network(profile: LinkProfile, items: Sequence[Scored], seed: int) -> NetworkRow:
    figures = measure(items, seed=seed, wanted=lambda metric: metric.network)
    traffic = {name: figures.pop(name) for name in ("up_bytes", "down_bytes", "available")}
    return NetworkRow(
        profile_sha256=sha256_json(asdict(profile)),
        latency=figures,
        **traffic,
    )


def _uplink(run: Run) -> UplinkRow | None:
    sizes = [done.audio_bytes for done in run.done if done.audio_bytes]
    if not sizes:
        return None
    return UplinkRow(
        pcm_bytes=sum(item["pcm"] for item in sizes),
        flac_bytes=sum(item["flac"] for item in sizes),
        opus_bytes=sum(item["sent"] for item in sizes),
    )


def _memory(run: Run, traces: Sequence[Trace]) -> MemoryRow | None:
    if run.memory is None:
        return None
    states = [trace.state_bytes for trace in traces if trace.state_bytes is not None]
    return MemoryRow(
        rss_before_load_bytes=run.memory.baseline_bytes,
        peak_rss_bytes=run.memory.peak_bytes,
        added_rss_bytes=run.memory.peak_bytes - run.memory.baseline_bytes,
        helpers_peak_rss_bytes=run.memory.helpers_bytes or None,
        state_bytes=max(states) if states else None,
        n_utterances=len(traces),
    )


def _row(
    utterance: Utterance,
    text: str,
    parse: Parse | None,
    judged: bool | None,
    timelines: Mapping[str, Timeline],
) -> Row:
    shown = EVENTS_NETWORK if EVENTS_NETWORK in timelines else next(iter(timelines))
    trace = timelines[shown].trace
    sent = any(event.kind is EventKind.SENT for _, event in trace.events)
    return Row(
        id=utterance.id,
        ref=utterance.text,
        hyp_raw=text,
        speaker=utterance.speaker,
        duration_s=trace.duration_s,
        eos_s=utterance.eos_s,
        events_network=shown,
        events=_events(timelines[shown]),
        timing=Timing(
            compute_s=tuple(chunk.compute_s for chunk in trace.chunks),
            networks={
                name: NetworkTiming(
                    upl_s=_upl(timeline, utterance),
                    up_bytes=timeline.up_bytes,
                    down_bytes=timeline.down_bytes,
                    failure=timeline.failure and without_paths(timeline.failure),
                    note=timeline.note,
                )
                for name, timeline in timelines.items()
                if sent or name == shown
            },
        ),
        trace=trace_to_row(trace) if trace.remote is not None else None,
        intent=None if parse is None else parse.intent,
        slots=None if parse is None else dict(parse.slots),
        accepted=judged,
        failure=trace.failure and without_paths(trace.failure),
        fields=publishable(fields_of(utterance)),
    )


def fields_of(utterance: Utterance) -> dict[str, Any]:
    """The fields of an utterance's manifest line that have no other field in its row."""
    ours = {name: getattr(utterance, name) for name in ("gender", "age", "split", "kind")}
    return {**{name: value for name, value in ours.items() if value is not None}, **utterance.foreign}


def publishable(value: Any) -> Any:
    """JSON without absolute paths, and without the keys that a record must not have."""
    if isinstance(value, str):
        return without_paths(value)
    if isinstance(value, dict):
        return {without_paths(k): publishable(v) for k, v in value.items() if k.lower() not in HOST_KEYS}
    return [publishable(item) for item in value] if isinstance(value, list) else value


def _events(timeline: Timeline) -> tuple[EventRow, ...]:
    """The events of a row: all but the messages sent, and only the first of equal partials."""
    rows: list[EventRow] = []
    for stamped in timeline.events:
        kind, text = stamped.event.kind, stamped.event.text
        again = bool(rows) and kind is EventKind.PARTIAL and (rows[-1].kind, rows[-1].text) == (kind, text)
        if kind is not EventKind.SENT and not again:
            rows.append(EventRow(kind=kind, t_s=stamped.t_s, text=text, remote=stamped.remote))
    return tuple(rows)


def _upl(timeline: Timeline, utterance: Utterance) -> float | None:
    return utterance_timing(timeline, UtteranceTimes(sos_s=utterance.sos_s, eos_s=utterance.eos_s)).upl_s
