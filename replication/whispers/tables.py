"""Tables of the page."""

from __future__ import annotations

from edgespeech.harness.checks import NO_RECORD, View
from edgespeech.report.text import NONE, markdown_table


def detectors_block(record: View | None) -> str:
    """F1 of every detector, one row each, one column a condition."""
    found = [row["detector"] for row in (record or {}).get("rows", ()) if "detector" in row]
    if not found:
        return NO_RECORD
    names = [name for name in found[0] if name != "condition"]
    rows = [
        (f"`{name}`", *(f"{one[name]:.3f}" if name in one else NONE for one in found))
        for name in sorted(names, key=lambda name: -sum(one.get(name, 0.0) for one in found))
    ]
    head = ("Detector", *(str(one["condition"]) for one in found))
    return "F1 of whispered utterances, a mean over seeds where a detector has them.\n\n" + markdown_table(
        head, rows
    )
