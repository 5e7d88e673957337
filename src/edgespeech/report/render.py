"""Rendering what is committed: tables, plots, figures and the blocks of pages, the same bytes every time."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records.records import Record
from edgespeech.report import figures
from edgespeech.report.front import TEXTS, front_table
from edgespeech.report.reference import load_references
from edgespeech.report.table import Table
from edgespeech.report.tables import all_tables, latest, load_published

_log = logging.getLogger(__name__)

PUBLISHED = ("headline", "noise", "networks", "memory", "published", "overhead", "failures")
"""The tables that have a file in `results/`; every figure is in `figures.csv.gz`, every table on the HTML page."""
_HEADER = "<!-- Rendered from the records by `edgespeech report`. Do not edit. -->\n"
_BLOCK = re.compile(
    r"^(<!-- (?P<kind>table|text):(?P<name>[\w-]+) -->\n)(?P<body>.*?)^(<!-- /(?P=kind) -->)$",
    re.DOTALL | re.MULTILINE,
)
_OPENING = re.compile(r"^<!-- (?:table|text):", re.MULTILINE)


def render(
    records_dir: Path,
    out_dir: Path,
    pages: Sequence[Path],
    *,
    check: bool,
    texts: Mapping[str, str] | None = None,
) -> list[str]:
    """Render the published tables, every plot, the file of all figures and the blocks of pages.

    A block is what stands between `<!-- table:NAME -->` and `<!-- /table -->`, or between `<!-- text:NAME -->` and
    `<!-- /text -->`. Files in `out_dir` that an earlier version rendered and this one does not are removed.

    Args:
        records_dir: the records.
        out_dir: gets `NAME.md`, `plots/NAME.svg`, `figures.csv.gz` and an index that begins with the findings; its
            `reference/` holds what others published.
        pages: Markdown files with blocks, the README first; those that do not exist are left out.
        check: write nothing.
        texts: further texts for blocks, by name.

    Returns:
        The files that differ from what is there, relative to the first page's folder; written unless `check`.

    Raises:
        EdgeSpeechError: a record or reference is not right, or a page names a table or text that does not exist.
    """
    from edgespeech.report.plots import all_plots

    records = load_published(records_dir)
    references = load_references(out_dir / "reference")
    tables = {table.name: table for table in (front_table(records), *all_tables(records, references))}
    files = {
        out_dir / f"{name}.md": f"{_HEADER}# {tables[name].title}\n\n"
        f"{tables[name].markdown(_links(records_dir, out_dir))}"
        for name in PUBLISHED
    }
    plots = all_plots(records_dir, records, references)
    files |= {out_dir / "plots" / f"{name}.svg": svg for name, svg in plots.items()}
    known = {name: text(records_dir, records) for name, text in TEXTS.items()} | dict(texts or {})
    files[out_dir / "README.md"] = _index(known["findings"], [tables[name] for name in PUBLISHED], plots)
    for page in pages:
        if page.exists():
            files[page] = _fill(page, tables, known, records_dir)
    changed = [
        path for path, text in files.items() if not path.exists() or path.read_bytes() != text.encode()
    ]
    stale = [path for path in _rendered(out_dir) if path not in files]
    packed, rows = out_dir / figures.FILE, figures.figures_csv(records)
    unpacked = not figures.is_same(packed, rows)
    _log.info("%d records, %d shown; %d files to write", len(records), len(latest(records)), len(changed))
    if not check:
        for path in changed:
            write_atomic(path, files[path])
        for path in stale:
            path.unlink()
        if unpacked:
            write_atomic(packed, figures.pack(rows))
    differing = [*changed, *stale, *([packed] if unpacked else [])]
    return [Path(os.path.relpath(path, pages[0].parent)).as_posix() for path in differing]


def _rendered(out_dir: Path) -> list[Path]:
    """Tables and plots that lie there now."""
    tables = [path for path in out_dir.glob("*.md") if path.read_text(encoding="utf-8").startswith(_HEADER)]
    return sorted([*tables, *out_dir.glob("plots/*.svg")])


def _links(records_dir: Path, from_dir: Path) -> Callable[[Record], str]:
    prefix = Path(os.path.relpath(records_dir, from_dir)).as_posix()
    return lambda record: f"{prefix}/{record.stem}.json"


def _index(findings: str, tables: Sequence[Table], plots: dict[str, str]) -> str:
    """The page of a folder of results: what was found, then where everything is."""
    lines = [f"* [{table.title}]({table.name}.md)" for table in tables]
    lines.append(f"* [Every figure of every record]({figures.FILE}), as CSV: one line a figure")
    lines += [f"\n![{name}](plots/{name}.svg)" for name in plots]
    return f"{_HEADER}# Results\n\n{findings}\n## All tables\n\n" + "\n".join(lines) + "\n"


def _fill(page: Path, tables: Mapping[str, Table], texts: Mapping[str, str], records_dir: Path) -> str:
    text = page.read_text(encoding="utf-8")
    if len(_OPENING.findall(text)) != len(_BLOCK.findall(text)):
        raise EdgeSpeechError(
            f"{page.name}: a `<!-- table:NAME -->` or `<!-- text:NAME -->` line has no "
            "`<!-- /table -->` or `<!-- /text -->` line"
        )

    def body(found: re.Match[str]) -> str:
        kind, name = found["kind"], found["name"]
        known: Mapping[str, object] = tables if kind == "table" else texts
        if name not in known:
            raise bad(page.name, kind, name, "one of " + ", ".join(known))
        inner = tables[name].markdown(_links(records_dir, page.parent)) if kind == "table" else texts[name]
        return f"{found[1]}\n{inner}\n<!-- /{kind} -->"

    return _BLOCK.sub(body, text)
