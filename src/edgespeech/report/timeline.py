"""What happened when, for a few utterances: the data of the page's timeline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgespeech.cloud.link import load_profiles
from edgespeech.contracts import EventKind
from edgespeech.core.places import mirror_root
from edgespeech.corpora.corpora import find_split
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.replay import replay
from edgespeech.records.records import Record, Row, load_rows
from edgespeech.records.rows import trace_from_row

PER_CORPUS = 4
"""Utterances shown of each corpus: the first ones that every record of it has."""
BUCKETS = 400
"""Points of a waveform's envelope."""


def timelines(records_dir: Path, records: Sequence[Record]) -> list[dict[str, Any]]:
    """For each record a few utterances with their events, as JSON-serialisable data.

    Args:
        records_dir: where the rows lie.
        records: those to show.
    """
    rows = {record.run_id: {row.id: row for row in load_rows(records_dir, record)} for record in records}
    shown: list[dict[str, Any]] = []
    for record in records:
        same = [rows[other.run_id] for other in records if other.corpus.name == record.corpus.name]
        ids = [key for key in same[0] if all(key in found for found in same)][:PER_CORPUS]
        if ids:
            utterances = [_utterance(record, rows[record.run_id][key]) for key in ids]
            shown.append(
                {
                    "system": record.system.name,
                    "corpus": record.corpus.name,
                    "condition": record.condition.label,
                    "utterances": utterances,
                }
            )
    return shown


def envelopes(shown: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Per corpus and utterance the waveform's envelope, 0 to 100, where its audio is on this machine."""
    found: dict[str, dict[str, list[int]]] = {}
    here = {corpus: _is_here(corpus) for corpus in {item["corpus"] for item in shown}}
    for item in shown:
        corpus = item["corpus"]
        if not here[corpus]:
            continue
        for utterance in item["utterances"]:
            if points := _envelope(corpus, utterance["id"]):
                found.setdefault(corpus, {})[utterance["id"]] = list(points)
    return found


def _is_here(split: str) -> bool:
    """Whether a split's audio can be read without a download."""
    try:
        sources = find_split(split)[0].sources
    except EdgeSpeechError:
        return False  # a manifest of somebody's own
    mirror = mirror_root()
    return any(
        source.embedded is not None
        or (source.mirror is not None and mirror is not None and (mirror / source.mirror.folder).is_dir())
        for source in sources
    )


def _utterance(record: Record, row: Row) -> dict[str, Any]:
    events = [
        {"kind": event.kind.value, "t": round(event.t_s, 4), "text": event.text, "remote": event.remote}
        for event in row.events
        if event.kind is not EventKind.SENT
    ]
    return {
        "id": row.id,
        "ref": row.ref,
        "hyp": row.hyp_raw,
        "failure": row.failure,
        "duration": row.duration_s,
        "eos": row.eos_s,
        "network": row.events_network,
        "events": events,
        "sent": _sent(record, row),
    }


def _sent(record: Record, row: Row) -> list[tuple[float, int]]:
    """(stamp, payload bytes) of every message; no network changes when the device sends."""
    if row.trace is None:
        return []
    trace = trace_from_row(row.id, dict(row.trace))
    timeline = replay(trace, load_profiles()["offline"], seed=0, cloud_speedup=record.cloud_speedup)
    return [
        (round(stamped.t_s, 4), stamped.event.n_bytes)
        for stamped in timeline.events
        if stamped.event.kind is EventKind.SENT
    ]


@lru_cache(maxsize=4096)
def _envelope(corpus: str, utterance_id: str) -> tuple[int, ...]:
    from edgespeech.corpora.fetch import manifest_of

    try:
        manifest = manifest_of(corpus)
        utterance = next(item for item in manifest.utterances if item.id == utterance_id)
        samples = manifest.read(utterance)
    except (EdgeSpeechError, StopIteration):
        return ()
    peaks = [float(np.abs(part).max()) for part in np.array_split(samples, BUCKETS) if part.size]
    loudest = max(peaks) or 1.0
    return tuple(round(100 * peak / loudest) for peak in peaks)
