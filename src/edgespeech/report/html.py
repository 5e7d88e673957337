"""The page: one self-contained HTML file with every table, plot and definition, and timelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgespeech.contracts import Kind
from edgespeech.core.files import write_atomic
from edgespeech.harness.rescore import current_records
from edgespeech.metrics.registry import metrics
from edgespeech.records.records import Record
from edgespeech.report.drawing import DARK, LIGHT, themed
from edgespeech.report.plots import all_plots
from edgespeech.report.reference import load_references
from edgespeech.report.tables import NULL, all_tables, latest
from edgespeech.report.timeline import envelopes, timelines

PLOT_BELOW = {"headline": ("wer", "latency"), "noise": ("acceptance",), "uplink": ("uplink",)}
"""Which plots stand with which table."""


def write_page(records_dir: Path, reference_dir: Path, page: Path) -> None:
    """Write the page; it asks nothing of the network and of other files.

    Args:
        records_dir: the records.
        reference_dir: what others published.
        page: where it goes.

    Raises:
        EdgeSpeechError: a record or reference is not right, or the page cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    records = current_records(records_dir)
    references = load_references(reference_dir)
    newest = latest(records)
    plots = {name: themed(svg) for name, svg in all_plots(records_dir, records, references).items()}
    told = [record for record in newest if record.status == "passed" and record.system.name != NULL]
    told.sort(key=lambda record: record.system.kind is Kind.DEVICE)  # those with most to tell come first
    shown = timelines(records_dir, told)
    environment = Environment(
        loader=PackageLoader("edgespeech.report", "."), autoescape=True, undefined=StrictUndefined
    )
    html = environment.get_template("template.html").render(
        tables=[table for table in all_tables(records, references) if table.rows],
        plots=plots,
        plot_below=PLOT_BELOW,
        metrics=list(metrics().values()),
        records=[(record, _provenance(record)) for record in newest],
        timelines=_script_json({"runs": shown, "envelopes": envelopes(shown)}),
        light=LIGHT,
        dark=DARK,
    )
    write_atomic(page, html)


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
