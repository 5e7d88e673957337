"""Tables and a plot of updates, from a record's rows; see `experiment.py` for their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgespeech.report.drawing import LIGHT, svg
from edgespeech.report.text import NONE, markdown_table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Row = Mapping[str, Any]


def exact_table(rows: Sequence[Row]) -> str:
    """Bytes of exact updates, and their share of the new file."""
    names = list(rows[0]["baselines"])
    lines = []
    for row in rows:
        whole = row["baselines"]["whole file"]
        every = [row["update"], *(row["baselines"].get(name) for name in names)]
        cells = (NONE if size is None else f"{size:,} ({number(size / whole, 'percent')})" for size in every)
        lines.append((row["about"], *cells))
    return markdown_table(("From old to new", "Exact update", *names), lines)


def untrained_table(rows: Sequence[Row]) -> str:
    """WER after deltas that were not trained."""
    corpora = list(rows[0]["wer"])
    lines = [
        (
            row["name"],
            f"{row['bytes']:,}",
            number(row["left"], "percent"),
            *(number(row["wer"][corpus], "percent") for corpus in corpora),
        )
        for row in rows
    ]
    return markdown_table(("Update", "Bytes", "Change of weights left", *corpora), lines)


def network_table(rows: Sequence[Row]) -> str:
    """Median seconds until the last byte is there, and bytes on the wire relative to the file."""
    ways = list(rows[0]["seconds"])
    lines = [
        (
            row["network"],
            row["what"],
            f"{row['bytes']:,}",
            *(NONE if row["seconds"][way] is None else f"{row['seconds'][way]:.2f}" for way in ways),
            *(f"{row['sent'][way] / row['bytes']:.2f}" for way in ways),
        )
        for row in rows
    ]
    head = (
        "Network", "What", "Bytes",
        *(f"Seconds, {way}" for way in ways),
        *(f"Bytes sent per byte, {way}" for way in ways),
    )  # fmt: skip
    return markdown_table(head, lines)


def bytes_plot(rows: Sequence[Row]) -> str:
    """Exact updates beside the baselines, in shares of the new file.

    Returns:
        An SVG; the same rows give the same bytes.
    """
    names = [name for name in rows[0]["baselines"] if name != "whole file"]

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        height = 0.8 / (len(names) + 1)
        for place, name in enumerate(("exact update", *names)):
            shares = [
                100
                * (row["update"] if not place else row["baselines"].get(name, 0))
                / row["baselines"]["whole file"]
                for row in rows
            ]
            axes.barh(
                [y + place * height for y in range(len(rows))],
                shares,
                height=height,
                color=LIGHT[f"s{place}"],
                label=name,
            )
        axes.set_yticks(
            [y + 0.4 - height / 2 for y in range(len(rows))], [row["about"] for row in rows], fontsize=8
        )
        axes.invert_yaxis()
        axes.set_xlabel("bytes, % of the new file")
        axes.grid(axis="x")
        axes.legend(fontsize=8)
        axes.set_title("What is sent so that the device has the new file, bit for bit")

    return svg(draw, 4.2)
