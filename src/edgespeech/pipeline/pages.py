"""The pages of all techniques: their files as rendered from the newest records, and their claims together."""

from __future__ import annotations

from pathlib import Path

from edgespeech.harness.checks import Page
from edgespeech.pipeline.replicate import load_experiment, techniques
from edgespeech.records.claims import Kind
from edgespeech.report.page import Judged, files, judged, value_text, verdict_text
from edgespeech.report.text import NONE, markdown_table


def pages() -> list[Page]:
    """The page of every technique.

    Raises:
        EdgeSpeechError: there is no checkout.
    """
    found: list[Page] = [load_experiment(name).PAGE for name in techniques()]
    return found


def rendered_pages(root: Path) -> dict[Path, str]:
    """READMEs and pictures of every technique of a checkout.

    Args:
        root: the checkout; techniques elsewhere are left out.

    Raises:
        EdgeSpeechError: a record or a file of a page is wrong.
    """
    made: dict[Path, str] = {}
    for page in pages():
        if page.folder.is_relative_to(root):
            made |= files(page, page.newest())
    return made


def all_judged() -> list[Judged]:
    """Every claim of every page that has a record."""
    return [
        one
        for page in pages()
        if (record := page.newest()) is not None
        for one in judged(page.claims(), record)
    ]


def rows_of_claims() -> str:
    """Every claim and target with what was measured and its verdict."""
    rows = [
        (
            one.claim.id,
            one.claim.kind.value,
            measured.condition or NONE,
            value_text(measured, one.claim.unit),
            verdict_text(judgement),
        )
        for one in all_judged()
        if one.claim.kind is not Kind.OBSERVATION
        for measured, judgement in one.measured
    ]
    return markdown_table(("Claim", "Kind", "Condition", "Measured [95 %]", "Verdict"), rows)
