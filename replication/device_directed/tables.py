"""Tables of the page."""

from __future__ import annotations

from edgespeech.harness.checks import NO_RECORD, View
from edgespeech.report.text import markdown_table


def scores_block(record: View | None) -> str:
    """EER of the score and of each control."""
    found = [row["systems"] for row in (record or {}).get("rows", ()) if "systems" in row]
    if not found:
        return NO_RECORD if record is None else "Not run yet.\n"
    rows = [(f"`{name}`", f"{100 * one['eer']:.1f}") for name, one in found[0].items()]
    return markdown_table(("Score", "EER, %"), sorted(rows, key=lambda row: float(row[1])))
