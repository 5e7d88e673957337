"""Tables of the page."""

from __future__ import annotations

from typing import Any

from edgespeech.harness.checks import NO_RECORD, View
from edgespeech.report.text import NONE, markdown_table


def systems_block(record: View | None) -> str:
    """EER and lowest detection cost of every system, one row for each list of trials."""
    found = _compared(record)
    absent = [row["peer"] for row in (record or {}).get("rows", ()) if "peer" in row]
    lines = [f"* `{one['name']}`: not run: {one['reason']}." for one in absent]
    if not found:
        return NO_RECORD if record is None else "No trials were run.\n\n" + "\n".join(lines) + "\n"
    names = list(dict.fromkeys(name for row in found for name in row["systems"]))
    rows = [(row["trials"]["where"], *(_both(row["systems"].get(name)) for name in names)) for row in found]
    table = markdown_table(("Trials", *(f"`{name}`" for name in names)), rows)
    about = "EER in % / lowest detection cost, a mean over seeds where a system has them.\n\n"
    return about + table + ("\n" + "\n".join(lines) + "\n" if lines else "")


def trials_block(record: View | None) -> str:
    """The lists of trials: how many, of whom, and their hashes."""
    found = _compared(record)
    if not found:
        return NO_RECORD if record is None else "No trials were run.\n"
    rows = []
    for row in found:
        one = row["trials"]
        rows.append(
            (
                one["where"],
                str(one["speakers"]),
                f"{one['trials']:,}",
                f"{one['targets']:,}",
                f"`{one['sha256'][:12]}`",
            )
        )
    return markdown_table(("Trials", "Speakers", "Trials", "Of one speaker", "Hash of the list"), rows)


def _compared(record: View | None) -> list[dict[str, Any]]:
    return [row for row in (record or {}).get("rows", ()) if "systems" in row]


def _both(value: dict[str, float] | None) -> str:
    return NONE if value is None else f"{100 * value['eer']:.1f} / {value['dcf']:.2f}"
