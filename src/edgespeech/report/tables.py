"""The tables: built from records alone, as Markdown or as data for the HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edgespeech.contracts import Kind
from edgespeech.harness.rescore import current
from edgespeech.records.records import Condition, Record, load_records
from edgespeech.report.noise import noise, published_by_others
from edgespeech.report.reference import Reference
from edgespeech.report.table import (
    NETWORK,
    NORMALISER,
    NORMALISERS,
    Cell,
    Table,
    caption,
    has_latency,
    leading,
    several,
    uses_network,
    wer,
)
from edgespeech.report.text import NONE, Footnotes, figure, number

LATENCY = "UPL is left out where WER is above 50 %. Cut off: utterances ended before the end of speech."
NULL = "null"
"""The recogniser that does nothing: its row is the harness's own cost and has a table of its own."""
_KINDS = list(Kind)


def latest(records: Iterable[Record]) -> list[Record]:
    """The records that are shown: one for every system, corpus and condition, in the order of the tables.

    Of several, the one with most utterances is shown, then the newest. A record of other weights than the system's
    newest run is left out, so that no table mixes two models. A record without weights (a run that was skipped, a
    recogniser that has none) names no model, and stays.
    """
    in_time = sorted(records, key=lambda record: (record.created, record.run_id))
    weights = {
        record.system.name: record.system.model_sha256 for record in in_time if record.system.model_sha256
    }
    shown: dict[tuple[object, ...], Record] = {}
    for record in in_time:
        if record.system.model_sha256 and record.system.model_sha256 != weights[record.system.name]:
            continue
        key = record.system.name, record.corpus.name, record.condition
        if key not in shown or shown[key].corpus.n_utterances <= record.corpus.n_utterances:
            shown[key] = record
    return sorted(shown.values(), key=_order)


def load_published(folder: Path) -> list[Record]:
    """Every record of a folder; those that are shown have their word errors under today's normalisers.

    Raises:
        EdgeSpeechError: a record or its rows are not right.
    """
    records = load_records(folder)
    shown = {record.run_id for record in latest(records)}
    return [current(folder, record) if record.run_id in shown else record for record in records]


def _order(record: Record) -> tuple[object, ...]:
    condition = record.condition
    noise = (condition.band or "", condition.noise or "", -(condition.snr_db or 0.0))
    kind = _KINDS.index(record.system.kind)
    return (
        record.corpus.name,
        *noise,
        kind,
        record.system.name,
        condition.context,
        condition.stream or "",
        record.corpus.n_utterances,
    )


def one_line(record: Record) -> str:
    """A record in one line, for a terminal."""
    head = f"{record.system.name} on {record.corpus.name}, {record.condition.label}: "
    if record.status != "passed":
        return f"{head}{record.status}: {record.reason}"
    wer = record.accuracy.get(NORMALISER) or next(iter(record.accuracy.values()))
    parts = [f"WER {figure(wer.wer, 'percent')} (n = {record.corpus.n_utterances})"]
    if record.acceptance is not None:
        parts.append(f"accepted {figure(record.acceptance, 'percent')}")
    if "rtf" in record.latency:
        parts.append(f"RTF {figure(record.latency['rtf'], 'ratio', interval=False)}")
    if record.corpus.n_failed:
        parts.append(f"{record.corpus.n_failed} failed")
    return head + ", ".join(parts)


def all_tables(records: Iterable[Record], references: Sequence[Reference] = ()) -> list[Table]:
    """Every table, from the newest record of each kind."""
    shown = latest(records)
    rows = [record for record in shown if record.system.name != NULL]
    return [
        headline(rows),
        noise(rows, references),
        accuracy(rows),
        networks(rows),
        uplink(rows),
        memory(rows),
        overhead([record for record in shown if record.system.name == NULL]),
        published_by_others(rows, references),
        failures(shown),
    ]


def headline(records: Sequence[Record]) -> Table:
    """One row per clean run: accuracy, speed, size, bytes."""
    notes = Footnotes()
    body = []
    shown = [record for record in records if record.condition.clean]
    for record in shown:
        start = leading(record, notes)
        if record.status != "passed":
            body.append(_unfinished(start, record, 8 + len(NORMALISERS)))
            continue
        upl = record.networks[NETWORK].latency if has_latency(record) else {}
        up_bytes = record.networks[NETWORK].up_bytes if NETWORK in record.networks else None
        body.append(
            (
                *start,
                Cell(str(record.corpus.n_utterances)),
                *(Cell(wer(record, name)) for name in NORMALISERS),
                Cell(figure(record.acceptance, "percent")),
                Cell(figure(record.latency.get("rtf"), "ratio", interval=False)),
                Cell(several(record.latency, ("chunk_p50", "chunk_p99"), "ms")),
                Cell(several(upl, ("upl_p50", "upl_p90", "upl_p99"), "s")),
                Cell(figure(upl.get("cut_off_rate"), "percent", interval=False)),
                Cell(number(record.system.model_bytes, "bytes")),
                Cell(_peak_rss(record)),
                Cell(figure(up_bytes, "bytes", interval=False)),
            )
        )
    head = ("System", "Corpus", "Condition", "n", *(f"WER {name}" for name in NORMALISERS), "Accepted", "RTF")
    cost = (
        "Chunk P50 / P99",
        f"UPL P50 / P90 / P99 ({NETWORK})",
        "Cut off",
        "Model",
        "Peak RSS",
        "Uplink / utterance",
    )
    return Table(
        name="headline",
        title="Accuracy, latency, size and bandwidth on clean audio",
        head=(*head, *cost),
        rows=tuple(body),
        caption=(LATENCY, *caption(shown)),
        notes=notes.text(),
    )


def accuracy(records: Sequence[Record]) -> Table:
    """Every normaliser's error counts, and B-WER and U-WER where there is a list."""
    body = []
    notes = Footnotes()
    for record in records:
        for name, row in record.accuracy.items():
            counts = (row.substitutions, row.deletions, row.insertions, row.ref_words, row.empty_refs)
            body.append(
                (
                    *leading(record, notes),
                    Cell(str(record.corpus.n_utterances)),
                    Cell(f"{name} {row.normaliser_version}"),
                    Cell(figure(row.wer, "percent")),
                    *(Cell(str(count)) for count in counts),
                    Cell(figure(row.b_wer, "percent")),
                    Cell(figure(row.u_wer, "percent")),
                )
            )
    head = ("System", "Corpus", "Condition", "n", "Normaliser", "WER", "S", "D", "I", "Reference words")
    return Table(
        name="accuracy",
        title="Word errors under every normaliser",
        head=(*head, "Empty references", "B-WER", "U-WER"),
        rows=tuple(body),
        caption=caption(records),
        notes=notes.text(),
    )


def networks(records: Sequence[Record]) -> Table:
    """User-perceived latency and bytes on the wire, per network; one row for a system that sends nothing."""
    body = []
    notes = Footnotes()
    for record in records:
        rows = dict(record.networks) if uses_network(record) else dict(list(record.networks.items())[:1])
        for name, row in rows.items():
            upl = row.latency if has_latency(record, name) else {}
            body.append(
                (
                    *leading(record, notes),
                    Cell(str(record.corpus.n_utterances)),
                    Cell(name if uses_network(record) else "any: sends nothing"),
                    Cell(figure(row.available, "percent", interval=False)),
                    *(Cell(figure(upl.get(key), "s")) for key in ("upl_p50", "upl_p90", "upl_p99")),
                    Cell(figure(row.latency.get("cut_off_rate"), "percent", interval=False)),
                    Cell(figure(row.up_bytes, "bytes", interval=False)),
                    Cell(figure(row.down_bytes, "bytes", interval=False)),
                )
            )
    head = ("System", "Corpus", "Condition", "n", "Network", "Available", "UPL P50", "UPL P90", "UPL P99")
    return Table(
        name="networks",
        title="User-perceived latency and bytes over each network",
        head=(*head, "Cut off", "Up / utterance", "Down / utterance"),
        rows=tuple(body),
        caption=(LATENCY, *caption(records)),
        notes=notes.text(),
    )


def uplink(records: Sequence[Record]) -> Table:
    """What the audio of each corpus costs to send, per codec, beside what each system did send."""
    body = []
    notes = Footnotes()
    for record in records:
        if record.uplink is None or record.corpus.n_utterances == 0:
            continue
        n = record.corpus.n_utterances
        payload = (record.uplink.pcm_bytes, record.uplink.flac_bytes, record.uplink.opus_bytes)
        sent = record.networks[NETWORK].up_bytes if NETWORK in record.networks else None
        body.append(
            (
                *leading(record, notes),
                Cell(str(n)),
                *(Cell(number(total / n, "bytes")) for total in payload),
                Cell(figure(sent, "bytes", interval=False)),
            )
        )
    return Table(
        name="uplink",
        title="Uplink bytes per utterance: the audio in each codec, and what was sent",
        head=("System", "Corpus", "Condition", "n", "PCM", "FLAC", "Opus 24 kbit/s", f"Sent ({NETWORK})"),
        rows=tuple(body),
        caption=(
            "PCM (16 bit, 16 kHz), FLAC and Opus are payloads without framing; what was sent includes the "
            "framing of WebSocket, TLS and TCP/IP.",
        ),
        notes=notes.text(),
    )


def memory(records: Sequence[Record]) -> Table:
    """Sizes, resident memory and the times to start: of every system its longest run on clean audio."""
    body = []
    notes = Footnotes()
    longest: dict[str, Record] = {}
    for record in records:
        if record.memory is not None and record.condition == Condition():
            other = longest.setdefault(record.system.name, record)
            if record.corpus.audio_s > other.corpus.audio_s:
                longest[record.system.name] = record
    for record in longest.values():
        assert record.memory is not None
        sizes = (
            record.system.model_bytes,
            record.memory.rss_before_load_bytes,
            record.memory.peak_rss_bytes,
            record.memory.added_rss_bytes,
            record.memory.helpers_peak_rss_bytes,
            record.memory.state_bytes,
        )
        parameters = record.system.parameters
        body.append(
            (
                *leading(record, notes),
                Cell(str(record.corpus.n_utterances)),
                Cell(NONE if parameters is None else f"{parameters / 1e6:.1f} M"),
                *(Cell(number(size, "bytes")) for size in sizes),
                Cell(number(record.load_s, "s")),
                Cell(number(record.warmup_s, "s")),
            )
        )
    head = (
        "System",
        "Corpus",
        "Condition",
        "n",
        "Parameters",
        "Model",
        "RSS before load",
        "Peak RSS",
        "Added",
    )
    return Table(
        name="memory",
        title="Memory and start-up",
        head=(*head, "Helpers' peak RSS", "State / stream", "Load", "Warm-up"),
        rows=tuple(body),
        caption=(
            "Peak RSS is of a process that did only this run; helpers are the processes that it starts (the "
            "cloud's server). Load and warm-up are in no latency.",
        ),
        notes=notes.text(),
    )


def overhead(records: Sequence[Record]) -> Table:
    """What the harness itself costs, by a recogniser that does nothing."""
    body = []
    for record in records:
        start = leading(record, Footnotes())
        if record.status != "passed":
            body.append(_unfinished(start, record, 2))
            continue
        share = figure(record.latency.get("rtf"), "ratio", interval=False)
        chunk = several(record.latency, ("chunk_p50", "chunk_p99"), "ms")
        body.append((*start, Cell(str(record.corpus.n_utterances)), Cell(share), Cell(chunk)))
    return Table(
        name="overhead",
        title="Harness overhead (not subtracted from any row)",
        head=("System", "Corpus", "Condition", "n", "RTF", "Chunk P50 / P99"),
        rows=tuple(body),
    )


def failures(records: Sequence[Record]) -> Table:
    """Runs that did not happen or broke, and utterances without a result."""
    body = []
    for record in records:
        if record.status == "passed" and record.corpus.n_failed == 0:
            continue
        share = f"{record.corpus.n_failed} of {record.corpus.n_utterances}"
        reason = (
            record.reason or "each is in the record's rows; it scores as full deletions and unbounded latency"
        )
        body.append((*leading(record, Footnotes()), Cell(record.status), Cell(share), Cell(reason)))
    return Table(
        name="failures",
        title="What was skipped and what failed",
        head=("System", "Corpus", "Condition", "Status", "Utterances without a result", "Reason"),
        rows=tuple(body),
    )


def _unfinished(start: tuple[Cell, ...], record: Record, empty: int) -> tuple[Cell, ...]:
    status = Cell(f"{record.status}: {record.reason}")
    return (*start, Cell(str(record.corpus.n_utterances)), status, *[Cell(NONE)] * (empty - 1))


def _peak_rss(record: Record) -> str:
    if record.memory is None:
        return NONE
    text = number(record.memory.peak_rss_bytes, "bytes")
    helpers = record.memory.helpers_peak_rss_bytes
    return text if helpers is None else f"{text} + {number(helpers, 'bytes')}"
