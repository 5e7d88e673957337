"""Rendering with the defaults of the checkout: the published records, the pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgespeech.core.files import write_atomic
from edgespeech.core.places import project_root, records_dir, results_dir, work_dir
from edgespeech.pipeline.needs import training_needs
from edgespeech.pipeline.pages import rendered_pages, rows_of_claims
from edgespeech.records.claims import load_claims
from edgespeech.records.pages import newest
from edgespeech.records.records import load_record
from edgespeech.report.claims_summary import claims_summary
from edgespeech.report.page import judged
from edgespeech.report.reference import load_references
from edgespeech.report.render import render
from edgespeech.report.replication import outcome, replication_table
from edgespeech.report.tables import all_tables, load_published

DETAILS = "# Details\n"
"""The heading of what the summary's file has and the terminal does not."""


def summarise(here: Sequence[Path], published: Path | None, left_out: str = "") -> str:
    """What came of records measured here, in short; then all their tables, and each beside the published ones.

    Args:
        here: record files, their rows beside them.
        published: folder of the published records, or None.
        left_out: a line about what was not asked for.
    """
    tables = {table.name: table for table in all_tables([load_record(path) for path in here])}
    shown = [tables[name] for name in ("headline", "noise", "overhead", "failures") if tables[name].rows]
    parts = [f"{outcome(here, published, left_out)}\n{DETAILS}"]
    parts += [f"# {table.title}\n\n{table.markdown()}" for table in shown]
    if published is not None:
        parts.append(f"# Published beside measured here\n\n{replication_table(here, published)}")
    return "\n".join(parts)


def render_all(*, check: bool, html: Path | None) -> list[str]:
    """Render the committed tables, plots and blocks, and, unless only checking, the HTML page.

    Args:
        check: write nothing.
        html: where the page goes; None: `report.html` in the work folder.

    Returns:
        The files that changed or, when checking, would change.
    """
    root = project_root()
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    changed = render(
        records_dir(),
        results_dir(),
        pages,
        check=check,
        texts={"claims": claims_text(), "training-needs": training_needs()},
    )
    for path, text in rendered_pages(root).items():
        if not path.exists() or path.read_bytes() != text.encode():
            changed.append(path.relative_to(root).as_posix())
            if not check:
                write_atomic(path, text)
    if not check:
        changed.append(str(page_of_all(html)))
    return changed


def page_of_all(html: Path | None = None) -> Path:
    """Write the HTML page of the committed records and return where it is.

    Args:
        html: where it goes; None: `report.html` in the work folder.
    """
    from edgespeech.report.html import write_page

    page = html or work_dir() / "report.html"
    write_page(records_dir(), results_dir() / "reference", page, claims=claims_text())
    return page


def claims_text() -> str:
    """What became of every claim of every replication, from its newest record: Markdown of a few lines.

    Raises:
        EdgeSpeechError: a technique's claims or its record are not right.
    """
    found = {}
    for path in sorted((project_root() / "replication").glob("*/claim.yaml")):
        claims = load_claims(path)
        name = path.parent.name
        found[name] = judged(claims, newest(results_dir() / name, claims))
    return claims_summary(found)


def claims_table() -> str:
    """What papers and others report, and our own targets, beside what the committed records say."""
    references = load_references(results_dir() / "reference")
    tables = {table.name: table for table in all_tables(load_published(records_dir()), references)}
    parts = [f"# Claims\n\n{claims_text()}\n{rows_of_claims()}"]
    parts += [f"# {tables[name].title}\n\n{tables[name].markdown()}" for name in ("published", "noise")]
    return "\n".join(parts)
