"""Every figure of every record as one table in long form: `results/figures.csv.gz`."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgespeech.records.records import Figure, Record
from edgespeech.report.tables import latest

FILE = "figures.csv.gz"
COLUMNS = (
    "run_id",
    "shown",
    "created",
    "commit",
    "cpu_model",
    "system",
    "kind",
    "model_bytes",
    "corpus",
    "n_utterances",
    "noise",
    "snr_db",
    "context",
    "normaliser",
    "normaliser_version",
    "network",
    "metric",
    "value",
    "low",
    "high",
    "unit",
    "values",
    "used_share",
)
"""One line is one figure. `shown` is 1 where the published tables show the record. `low` and `high` are the 95 %
interval; `values` is how many values the figure was computed from, and `used_share` the share that could be used.
`normaliser` and `network` are empty where the figure depends on none. Word errors of records that are shown are under
today's version of their normaliser, those of the others under the version of their day."""


def figures_csv(records: Sequence[Record]) -> str:
    """Every figure of the records that passed, oldest record first, as CSV with a header.

    Args:
        records: all records, also those that the tables do not show.
    """
    shown = {record.run_id for record in latest(records)}
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in sorted(records, key=lambda record: (record.created, record.run_id)):
        if record.status != "passed":
            continue
        start = _start(record, shown=record.run_id in shown)
        for place, found in _figures(record):
            writer.writerow(start | place | _values(found))
    return out.getvalue()


def pack(text: str) -> bytes:
    """The text as gzip without a time in it."""
    return gzip.compress(text.encode(), mtime=0)


def is_same(path: Path, text: str) -> bool:
    """Whether a packed file holds this text; how it was compressed makes no difference."""
    try:
        return gzip.decompress(path.read_bytes()) == text.encode()
    except (OSError, EOFError):
        return False


def _start(record: Record, *, shown: bool) -> dict[str, Any]:
    condition = record.condition
    return {
        "run_id": record.run_id,
        "shown": int(shown),
        "created": record.created,
        "commit": record.provenance.commit,
        "cpu_model": record.provenance.cpu_model,
        "system": record.system.name,
        "kind": record.system.kind.value,
        "model_bytes": record.system.model_bytes,
        "corpus": record.corpus.name,
        "n_utterances": record.corpus.n_utterances,
        "noise": ", ".join(filter(None, (condition.noise, condition.band, condition.stream))) or None,
        "snr_db": condition.snr_db,
        "context": int(condition.context),
    }


def _figures(record: Record) -> Iterator[tuple[dict[str, str], Figure]]:
    """Every figure with the normaliser or the network that it depends on."""
    for normaliser, row in record.accuracy.items():
        for figure in (row.wer, row.b_wer, row.u_wer, *row.further.values()):
            if figure is not None:
                yield {"normaliser": normaliser, "normaliser_version": row.normaliser_version}, figure
    if record.acceptance is not None:
        yield {}, record.acceptance
    yield from (({}, figure) for figure in record.latency.values())
    for network, found in record.networks.items():
        figures: Mapping[str, Figure] = found.latency
        yield from (({"network": network}, figure) for figure in figures.values())
        for figure in (found.up_bytes, found.down_bytes, found.available):
            yield {"network": network}, figure


def _values(found: Figure) -> dict[str, Any]:
    return {
        "metric": found.definition,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "unit": found.unit,
        "values": found.n,
        "used_share": found.used_share,
    }
