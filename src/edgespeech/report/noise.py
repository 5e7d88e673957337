"""Beside others: acceptance and word errors against noise, and what others published on the same corpora."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgespeech.records.records import Record
from edgespeech.report.reference import CLEAN, Reference
from edgespeech.report.table import NORMALISER, Cell, Table, caption, wer
from edgespeech.report.text import NONE, Footnotes, figure, number

METRICS = {"acceptance": "accepted", "wer": f"WER {NORMALISER}"}
"""The metrics that are compared with others, and how a table calls ours."""
_THEIR_METRICS = {"acceptance": "accepted", "wer": "WER, their scoring"}
Setting = tuple[str, str | None, str | None]
"""Corpus, noise, rule of the ratio."""


def noise(records: Sequence[Record], references: Sequence[Reference]) -> Table:
    """Acceptance and word errors against the signal-to-noise ratios run, beside published values."""
    notes = Footnotes()
    noisy = [record for record in records if record.condition.noise is not None and not record.condition.band]
    settings = sorted({(r.corpus.name, r.condition.noise, r.condition.snr_rule) for r in noisy}, key=str)
    ratios = sorted({r.condition.snr_db for r in noisy if r.condition.snr_db is not None}, reverse=True)
    body = []
    for setting in settings:
        corpus, name, rule = setting
        for metric, title in METRICS.items():
            middle = (Cell(corpus), Cell(f"{name}, {rule} SNR"), Cell(title))
            for label, runs in against_noise(records, setting).items():
                if metric == "wer" or any(record.acceptance for record in runs.values()):
                    body.append(
                        (Cell(label), *middle, *(_here(runs.get(at), metric) for at in (None, *ratios)))
                    )
            for system, mark, values in _theirs(references, setting, metric, notes):
                points: list[float | str] = [CLEAN, *ratios]
                given = (number(values.get(at), "percent") for at in points)
                body.append((Cell(f"{system} (published)", None, mark), *middle, *map(Cell, given)))
    return Table(
        name="noise",
        title="Command acceptance and word errors against noise",
        head=("System", "Corpus", "Noise", "Metric", CLEAN, *(f"{at:g} dB" for at in ratios)),
        rows=tuple(body),
        caption=caption(noisy),
        notes=notes.text(),
    )


def against_noise(records: Sequence[Record], setting: Setting) -> dict[str, dict[float | None, Record]]:
    """Per system (with and without context) its record at each ratio; None is clean."""
    corpus, *sound = setting
    runs: dict[str, dict[float | None, Record]] = {}
    for record in records:
        condition = record.condition
        here = record.corpus.name == corpus and condition.band is None
        if here and [condition.noise, condition.snr_rule] in ([None, None], sound):
            runs.setdefault(label_of(record), {})[condition.snr_db] = record
    return runs


def label_of(record: Record) -> str:
    """The system, and whether it was given context."""
    return record.system.name + (" + context" if record.condition.context else "")


def published_by_others(records: Sequence[Record], references: Sequence[Reference]) -> Table:
    """Values that others published on the same clean corpora, beside each of our systems'."""
    notes = Footnotes()
    body = []
    for ref in references:
        for metric in METRICS:
            for system, mark, values in _theirs([ref], (ref.corpus, None, None), metric, notes):
                value = Cell(number(values.get(CLEAN), "percent"))
                name = Cell(f"{system} (published)", None, mark)
                body.append((name, Cell(ref.corpus), Cell(_THEIR_METRICS[metric]), value))
        for record in records:
            if record.corpus.name == ref.corpus and record.condition.clean and ref.noise is None:
                ours = (Cell(ref.corpus), Cell(METRICS[ref.metric]), _here(record, ref.metric))
                body.append((Cell(label_of(record)), *ours))
    return Table(
        name="published",
        title="Values published by others, beside ours",
        head=("System", "Corpus", "Metric", "Value"),
        rows=tuple(body),
        notes=notes.text(),
    )


def _theirs(
    references: Sequence[Reference], setting: Setting, metric: str, notes: Footnotes
) -> Iterator[tuple[str, str, dict[float | str, float]]]:
    """Published systems with the mark of their source and their values by ratio."""
    for ref in references:
        if (ref.corpus, ref.noise, ref.snr_rule) == setting and ref.metric == metric:
            mark = notes.mark(f"{ref.note} ({ref.source})")
            for system, values in ref.values.items():
                yield system, mark, dict(values.items())


def _here(record: Record | None, metric: str) -> Cell:
    if record is None:
        return Cell(NONE)
    if record.status != "passed":
        return Cell(record.status, record)
    text = figure(record.acceptance, "percent") if metric == "acceptance" else wer(record, NORMALISER)
    return Cell(f"{text} (n = {record.corpus.n_utterances})", record)
