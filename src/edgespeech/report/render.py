"""Rendering what is committed: tables, plots and the README's blocks, the same bytes every time."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from edgespeech.data.files import write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.records import Record
from edgespeech.harness.rescore import current_records
from edgespeech.report.reference import load_references
from edgespeech.report.table import Table
from edgespeech.report.tables import all_tables

_HEADER = "<!-- Rendered from the records by `edgespeech report`. Do not edit. -->\n"
_BLOCK = re.compile(r"(<!-- table:(?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- /table -->)", re.DOTALL)


def render(records_dir: Path, out_dir: Path, readme: Path, *, check: bool) -> list[str]:
    """Render every table, every plot and the README's blocks.

    Args:
        records_dir: the records.
        out_dir: gets `NAME.md`, `plots/NAME.svg` and an index; its `reference/` holds what others published.
        readme: what stands between its `<!-- table:NAME -->` and `<!-- /table -->` lines is replaced.
        check: write nothing.

    Returns:
        The files that differ from what is there, relative to the README's folder; written unless `check`.

    Raises:
        EdgeSpeechError: a record or reference is not right, or the README names a table that does not exist.
    """
    from edgespeech.report.plots import all_plots

    records = current_records(records_dir)
    references = load_references(out_dir / "reference")
    tables = {table.name: table for table in all_tables(records, references)}
    files = {
        out_dir / f"{name}.md": f"{_HEADER}# {table.title}\n\n{table.markdown(_links(records_dir, out_dir))}"
        for name, table in tables.items()
    }
    plots = all_plots(records_dir, records, references)
    files |= {out_dir / "plots" / f"{name}.svg": svg for name, svg in plots.items()}
    files[out_dir / "README.md"] = _index(tables, plots)
    if readme.exists():
        files[readme] = _fill(readme, tables, _links(records_dir, readme.parent))
    changed = [
        path for path, text in files.items() if not path.exists() or path.read_bytes() != text.encode()
    ]
    if not check:
        for path in changed:
            write_atomic(path, files[path])
    return [Path(os.path.relpath(path, readme.parent)).as_posix() for path in changed]


def _links(records_dir: Path, from_dir: Path) -> Callable[[Record], str]:
    prefix = Path(os.path.relpath(records_dir, from_dir)).as_posix()
    return lambda record: f"{prefix}/{record.stem}.json"


def _index(tables: dict[str, Table], plots: dict[str, str]) -> str:
    lines = [f"* [{table.title}]({name}.md)" for name, table in tables.items()]
    lines += [f"\n![{name}](plots/{name}.svg)" for name in plots]
    return f"{_HEADER}# Results\n\n" + "\n".join(lines) + "\n"


def _fill(readme: Path, tables: dict[str, Table], link: Callable[[Record], str]) -> str:
    text = readme.read_text(encoding="utf-8")
    if text.count("<!-- table:") != len(_BLOCK.findall(text)):
        raise EdgeSpeechError(f"{readme.name}: a `<!-- table:NAME -->` line has no `<!-- /table -->` line")

    def body(found: re.Match[str]) -> str:
        if found["name"] not in tables:
            raise bad(readme.name, "table", found["name"], "one of " + ", ".join(tables))
        return f"{found[1]}\n{tables[found['name']].markdown(link)}\n{found[4]}"

    return _BLOCK.sub(body, text)
