"""The page: one self-contained HTML file. Findings first, then one table to filter, three plots, and details behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgespeech.contracts import Kind
from edgespeech.core.files import write_atomic
from edgespeech.metrics.registry import metrics
from edgespeech.records.records import Figure, Record
from edgespeech.report.drawing import DARK, LIGHT, looks_of, themed
from edgespeech.report.front import CORPUS, findings, front_table
from edgespeech.report.plots import all_plots
from edgespeech.report.reference import load_references
from edgespeech.report.table import NETWORK
from edgespeech.report.tables import NULL, all_tables, latest, load_published
from edgespeech.report.text import figure, style_of
from edgespeech.report.timeline import envelopes, timelines
from edgespeech.report.tradeoff import tradeoff_plots

MAIN = "headline"
"""The table that can be filtered; the others are among the details."""
PLOT_BELOW = {"headline": ("wer", "latency"), "networks": ("networks",), "uplink": ("uplink",)}
"""Which of the detailed plots belong to which table."""
_MARKUP = re.compile(
    r"\*\*(?P<bold>[^*]+)\*\*|\*(?P<slanted>[^*]+)\*|`(?P<code>[^`]+)`|(?P<text>[^*`]+|[*`])"
)


class Run(NamedTuple):
    """A record with what one wants to know of it."""

    record: Record
    facts: dict[str, str]
    figures: list[tuple[str, str, int]]
    """Metric, value and the number of values it comes from."""


def write_page(records_dir: Path, reference_dir: Path, page: Path, *, claims: str = "") -> None:
    """Write the page; it asks nothing of the network and of other files.

    Args:
        records_dir: the records.
        reference_dir: what others published.
        page: where it goes.
        claims: what became of the claims, as `claims_summary` writes it.

    Raises:
        EdgeSpeechError: a record or reference is not right, or the page cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    records = load_published(records_dir)
    references = load_references(reference_dir)
    newest = latest(records)
    plots = {name: themed(svg, name) for name, svg in all_plots(records_dir, records, references).items()}
    passed = [record for record in newest if record.status == "passed" and record.system.name != NULL]
    # Those with most events come first.
    shown = timelines(records_dir, sorted(passed, key=lambda record: record.system.kind is Kind.DEVICE))
    tables = {table.name: table for table in all_tables(records, references) if table.rows}
    environment = Environment(
        loader=PackageLoader("edgespeech.report", "."), autoescape=True, undefined=StrictUndefined
    )
    html = environment.get_template("template.html").render(
        findings=[list(_marked(text)) for text in findings(records_dir, records)],
        claims=[list(_marked(line.removeprefix("* "))) for line in claims.splitlines() if line],
        front=front_table(records),
        front_corpus=CORPUS,
        main=tables.pop(MAIN, None),
        corpora=sorted({record.corpus.name for record in newest if record.system.name != NULL}),
        tradeoffs=_tradeoffs(records, passed),
        details=list(tables.values()),
        plots=plots,
        plot_below=PLOT_BELOW,
        metrics=list(metrics().values()),
        runs=[Run(record, _provenance(record), list(_figures(record))) for record in newest],
        timelines=_script_json({"runs": shown, "envelopes": envelopes(shown)}),
        light=LIGHT,
        dark=DARK,
    )
    write_atomic(page, html)


def _marked(text: str) -> Iterator[tuple[str, str]]:
    """The pieces of a line of Markdown, each with the element it belongs in: `strong`, `em`, `code` or `span`."""
    for found in _MARKUP.finditer(text):
        if found["bold"]:
            yield "strong", found["bold"]
        elif found["slanted"]:
            yield "em", found["slanted"]
        elif found["code"]:
            yield "code", found["code"]
        else:
            yield "span", found["text"]


def _tradeoffs(records: Sequence[Record], passed: Sequence[Record]) -> dict[str, dict[str, str]]:
    """By corpus the plots of what accuracy costs, by their names."""
    looks = looks_of(passed)
    return {
        corpus: {
            name: themed(svg, f"{name}-{corpus}")
            for name, svg in tradeoff_plots(records, looks, corpus).items()
        }
        for corpus in sorted({record.corpus.name for record in passed})
    }


def _figures(record: Record) -> Iterator[tuple[str, str, int]]:
    """The figures of a record, those that depend on the network over the one that tables show."""
    found: list[tuple[str, Figure]] = [
        (f"{value.definition}, {name}", value)
        for name, row in record.accuracy.items()
        for value in (row.wer, *row.further.values())
    ]
    if record.acceptance is not None:
        found.append((record.acceptance.definition, record.acceptance))
    found += list(record.latency.items())
    if (network := record.networks.get(NETWORK)) is not None:
        over = [*network.latency.items(), ("up_bytes", network.up_bytes), ("down_bytes", network.down_bytes)]
        found += [(f"{name}, {NETWORK}", value) for name, value in over]
    for name, value in found:
        yield name, figure(value, style_of(value.unit)), value.n


def _provenance(record: Record) -> dict[str, str]:
    """What one wants to know of a run, as label and text."""
    made = record.provenance
    corpus = record.corpus
    facts: dict[str, Any] = {
        "Run": f"{record.run_id}, {record.created}, profile {record.profile}",
        "Commit": made.commit + (" (working tree differed)" if made.dirty else ""),
        "Citation": record.system.citation,
        "System's configuration": _compact(record.system.config),
        "Model files": _compact(record.system.model_sha256),
        "Manifest": corpus.manifest_sha256,
        "Utterances": f"{corpus.n_utterances}, {corpus.audio_s:.1f} s, {corpus.ref_words} words"
        + (f"; a subset by seed {corpus.subset.seed}" if corpus.subset else ""),
        "End of an utterance": record.endpointing,
        "Machine": f"{made.cpu_model}, {made.cores} cores, {made.threads} thread(s), {made.platform}",
        "Load before, jobs at once": f"{made.load_average_before}, {made.concurrent_jobs}",
        "Python and packages": f"{made.python}, " + ", ".join(f"{k} {v}" for k, v in made.versions.items()),
        "Reason": record.reason,
    }
    return {label: str(value) for label, value in facts.items() if value}


def _compact(value: Any) -> str:
    return json.dumps(dict(value), ensure_ascii=False) if value else ""


def _script_json(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
