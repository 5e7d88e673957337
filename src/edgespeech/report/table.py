"""What a table is, and the pieces that all tables share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgespeech.records.records import Figure, Provenance, Record
from edgespeech.report.text import Footnotes, Style, escaped, figure, markdown_table

NETWORK = "lte"
"""The network of the tables that show one; the others are in the table `networks`."""
NORMALISER = "whisper-en"
"""The normaliser of the tables that show one; the table `accuracy` has all."""
USELESS_WER = 0.5
"""Above this WER a result that comes soon is worth nothing, so its latency is not shown."""
NORMALISERS = (NORMALISER, "basic", "spelled-en")
"""The normalisers of the headline table."""


class Cell(NamedTuple):
    """A cell, with the record that it links to, if any, and the marks of its footnotes."""

    text: str
    record: Record | None = None
    marks: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table before it is Markdown or HTML.

    Attributes:
        name: of its file and of its marker in the README.
        title: what it shows.
        head: column titles.
        rows: cells, as many as column titles.
        caption: sentences below it.
        notes: footnotes, the first is number 1.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def markdown(self, link: Callable[[Record], str] | None = None) -> str:
        """GitHub Markdown; `link` gives the address of a record, None links nothing."""
        if not self.rows:
            return "No record yet.\n"
        rows = [[_markdown_cell(cell, link) for cell in row] for row in self.rows]
        notes = "".join(f"{number}. {escaped(note)}\n" for number, note in enumerate(self.notes, 1))
        parts = [markdown_table(self.head, rows), *(f"{line}\n" for line in self.caption), notes]
        return "\n".join(part for part in parts if part)


def _markdown_cell(cell: Cell, link: Callable[[Record], str] | None) -> str:
    text = escaped(cell.text)
    if cell.record is not None and link is not None:
        text = f"[{text}]({link(cell.record)})"
    return text + cell.marks


def leading(record: Record, notes: Footnotes) -> tuple[Cell, Cell, Cell]:
    """System (linked, with its footnotes), corpus and condition."""
    system, corpus = notes.mark(*record.system.notes), notes.mark(*record.corpus.notes)
    return (
        Cell(record.system.name, record, system),
        Cell(record.corpus.name, marks=corpus),
        Cell(record.condition.label),
    )


def wer(record: Record, normaliser: str) -> str:
    """The WER under one normaliser, with its interval."""
    row = record.accuracy.get(normaliser)
    return figure(None if row is None else row.wer, "percent")


def has_latency(record: Record, network: str = NETWORK) -> bool:
    """Whether a run's user-perceived latency over a network may be shown: not if most of its words are wrong."""
    found, row = record.networks.get(network), record.accuracy.get(NORMALISER)
    useful = row is None or row.wer.value <= USELESS_WER
    return useful and found is not None and "upl_p50" in found.latency


def uses_network(record: Record) -> bool:
    """Whether anything was sent or received; if not, the run is the same over every network."""
    return any(row.up_bytes.value > 0 or row.down_bytes.value > 0 for row in record.networks.values())


def several(figures: Mapping[str, Figure], keys: Sequence[str], style: Style) -> str:
    """Figures behind each other, without intervals; a dash for each that is not there."""
    return " / ".join(figure(figures.get(key), style, interval=False) for key in keys)


def caption(records: Sequence[Record]) -> tuple[str, ...]:
    """What the figures of these records have in common: intervals, end-pointing, speed-up, machine."""
    passed = [record for record in records if record.status == "passed"]
    if not passed:
        return ()
    units = sorted({f"{record.corpus.name} by {record.corpus.resampling}" for record in passed})
    speedups = sorted({record.cloud_speedup for record in passed})
    machines = sorted({_machine(record.provenance) for record in passed})
    versions = sorted(
        {f"{name} {row.normaliser_version}" for r in passed for name, row in r.accuracy.items()}
    )
    return (
        f"n: utterances. In brackets: 95 % intervals by bootstrap ({', '.join(units)}).",
        f"Normalisers: {', '.join(versions)}. Older records are scored again from their raw hypotheses.",
        *sorted({record.endpointing for record in passed}),
        f"Measured server compute is divided by {', '.join(f'{s:g}' for s in speedups)} (cloud_speedup). "
        f"Times are of: {'; '.join(machines)}; compare them with no other machine's.",
    )


def _machine(found: Provenance) -> str:
    """What its times depend on."""
    return (
        f"{found.cpu_model}, {found.cores} cores, {found.threads} thread(s) a recogniser, "
        f"{found.concurrent_jobs} run(s) at once"
    )
