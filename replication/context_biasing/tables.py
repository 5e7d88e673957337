"""Tables and pictures of the page, from a record's rows.

A row of word errors has `table`: `corpus`, `arm`, `count` and `list` (the length and the kind of the lists), and `wer`,
`u_wer` and `b_wer` with their intervals, and `invented_per_hour`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from replication.context_biasing.attention import picture_of_rows

from edgespeech.harness.checks import NO_RECORD, View
from edgespeech.report.drawing import LIGHT, svg
from edgespeech.report.text import NONE, markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Row = Mapping[str, Any]
LENGTHS, ATTENTION = "lengths.svg", "attention.svg"
LATTICES = {
    "plain best": "no list, best path",
    "plain oracle": "no list, oracle",
    "behind best": "fusion after it, best path",
    "behind oracle": "fusion after it, oracle",
    "inside best": "fusion in its search, best path",
    "inside oracle": "fusion in its search, oracle",
}
_MARKERS = "os^DvP"


def tables_of(view: View | None, wanted: Callable[[Row], bool]) -> list[Row]:
    """The word errors of a record that are wanted."""
    return [row["table"] for row in (view or {}).get("rows", ()) if "table" in row and wanted(row["table"])]


def arms_block(view: View | None) -> str:
    """Every arm with every list."""
    return _table(tables_of(view, lambda row: True))


def kinds_block(view: View | None) -> str:
    """No list, and lists of the headline's length and their kinds, by set."""
    most = (view or {}).get("config", {}).get("headline")
    return _table(tables_of(view, lambda row: row["arm"] in ("none", "fusion") and row["count"] in (0, most)))


def _table(found: Sequence[Row]) -> str:
    if not found:
        return NO_RECORD
    rows = [
        (
            row["corpus"],
            row["arm"],
            f"{row['count']:,}" if row["count"] else NONE,
            row["list"] if row["count"] else NONE,
            *(_rate(row, name) for name in ("wer", "u_wer", "b_wer")),
            f"{row['invented_per_hour']:,.0f}",
        )
        for row in found
    ]
    head = ("Set", "Arm", "Phrases", "List", "WER, %", "U-WER, %", "B-WER, %", "Invented phrases per hour")
    return markdown_table(head, rows)


def _rate(row: Row, name: str) -> str:
    if name not in row:
        return NONE
    value, low, high = (100 * part for part in row[name])
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def peers_block(view: View | None) -> str:
    """Acceptance by system and parser, and the difference from the cloud that is told the list."""
    rows = (view or {}).get("rows", ())
    shares = [row for row in rows if row.get("claim") == "context_biasing.acceptance"]
    if not shares:
        return NO_RECORD
    against = {
        row["detail"]: row
        for row in rows
        if row.get("claim") == "context_biasing.against_cloud" and "measured" in row
    }
    lines = []
    for row in shares:
        name, _, parsed = row["detail"].partition(", parsed by ")
        if "measured" not in row:
            lines.append((name, NONE, f"not run: {row['skipped']}", NONE))
            continue
        paired = against.get(row["detail"])
        lines.append(
            (name, parsed, _with_ends(row, ".1f"), NONE if paired is None else _with_ends(paired, "+.1f"))
        )
    head = ("System, told", "Parsed by", "Accepted, %", "Minus the cloud told the list, points")
    return markdown_table(head, lines)


def _with_ends(row: Row, form: str) -> str:
    value, low, high = (f"{100 * part:{form}}" for part in (row["measured"], *row["interval"]))
    return f"{value} [{low}, {high}]"


def attention_block(view: View | None) -> str:
    """The picture of attention, or why there is none."""
    rows = (view or {}).get("rows", ())
    if picture_of_rows(rows) is not None:
        return f"![attention of each frame to the phrases of a list]({ATTENTION})\n"
    reasons = [
        row["skipped"] for row in rows if row.get("claim") == "context_biasing.attends" and "skipped" in row
    ]
    return f"No picture of attention yet: {reasons[0]}.\n" if reasons else NO_RECORD


def lengths_block(view: View | None) -> str:
    """The picture of B-WER by the length of the list."""
    return f"![B-WER by the length of the list]({LENGTHS})\n" if LENGTHS in plots(view) else NO_RECORD


def plots(view: View | None) -> dict[str, str]:
    """B-WER by the length of the list, and the attention of the first trained model."""
    found = tables_of(
        view, lambda row: row["arm"] in ("none", "fusion") and row["list"] == "full" and "b_wer" in row
    )
    drawn = {LENGTHS: lengths_plot(found)} if found else {}
    picture = picture_of_rows((view or {}).get("rows", ()))
    return drawn if picture is None else {**drawn, ATTENTION: picture}


def lengths_plot(found: Sequence[Row]) -> str:
    """B-WER against the length of the list; the lines to the left are those without a list."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.set_xscale("log")
        counts = sorted({row["count"] for row in found if row["count"]})
        left = counts[0] / 4 if counts else 1
        for index, corpus in enumerate(dict.fromkeys(row["corpus"] for row in found)):
            colour = LIGHT[f"s{index % 8}"]
            rates = {row["count"]: row["b_wer"] for row in found if row["corpus"] == corpus}
            spread = 1 + 0.06 * index
            line = [(count, rates[count]) for count in sorted(rates) if count]
            for each in ([(left, rates[0])] if 0 in rates else [], line):
                places = [count * spread for count, _ in each]
                values = [100 * rate[0] for _, rate in each]
                ends = [
                    [100 * (rate[0] - rate[1]) for _, rate in each],
                    [100 * (rate[2] - rate[0]) for _, rate in each],
                ]
                label = corpus if each is line else None
                axes.errorbar(
                    places, values, yerr=ends, color=colour, marker=_MARKERS[index % len(_MARKERS)],
                    markersize=4, linewidth=1, elinewidth=0.6, label=label,
                )  # fmt: skip
        axes.set_xticks([left, *counts], ["none", *(f"{count:,}" for count in counts)])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("phrases of the list (logarithmic)")
        axes.set_ylabel("B-WER, %")
        axes.set_title("Word errors on listed phrases: lower is better")
        axes.grid(which="major")
        axes.legend(fontsize=8)

    return svg(draw, 4.2)
