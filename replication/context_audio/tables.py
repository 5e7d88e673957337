"""The page's table of arms, and its picture of the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgespeech.harness.checks import NO_RECORD, View
from edgespeech.report.drawing import LIGHT, svg
from edgespeech.report.text import NONE, markdown_table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

GRADIENT = "gradient.svg"
"""The picture."""


def arms_block(record: View | None) -> str:
    """Word error rates by way and set: the mean over the training seeds, and the lowest and highest of them."""
    rows = _kept(record, "heard")
    if record is None or not rows:
        return NO_RECORD
    sets = list(record["config"]["sets"])
    lines = []
    for way, settings in record["config"]["ways"].items():
        own = [row for row in rows if row["way"] == way]
        cells = [_cell([row["wer"] for row in own if row["set"] == name]) for name in sets]
        seeds = len({row["seed"] for row in own})
        lines.append((way, settings["arm"], "yes" if settings["lead_in"] else "no", *cells, str(seeds)))
    counts = {row["set"]: row["wer"]["n"] for row in rows}
    told = ", ".join(f"{name} {counts[name]}" for name in sets if name in counts)
    head = ("Way", "Arm", "Lead-in", *(f"WER {name}" for name in sets), "Seeds")
    return (
        f"{markdown_table(head, lines)}\nWER: mean over seeds, the lowest and highest in brackets. Utterances: {told}. "
        f"Search: beam {record['config']['beam']}, no language model.\n"
    )


def gradient_block(record: View | None) -> str:
    """The picture of the gradient."""
    rows = _gradients(record)
    return NO_RECORD if not rows else f"![the loss's gradient before and in the utterance]({GRADIENT})\n"


def plots(record: View | None) -> dict[str, str]:
    """The page's pictures, by file name."""
    rows = _gradients(record)
    return {GRADIENT: gradient_plot(rows)} if rows else {}


def gradient_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """The share of the gradient's norm in each frame, around the utterance's first sample; one line a way.

    Args:
        rows: of each way `way`, `frame_s`, `before` (frames before the utterance) and `shares`.
    """

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for index, row in enumerate(rows):
            shares = np.array(row["shares"], np.float64)
            seconds = row["frame_s"] * (np.arange(len(shares)) + 0.5 - row["before"])
            shown = np.where(shares > 0, 100 * shares, np.nan)
            axes.plot(seconds, shown, color=LIGHT[f"s{index % 8}"], linewidth=1.2, label=row["way"])
        axes.axvline(0, color=LIGHT["muted"], linewidth=1.0, linestyle="--")
        axes.set_yscale("log")
        axes.set_xlabel("seconds from the utterance's first sample; the lead-in is left of 0")
        axes.set_ylabel("share of the gradient, %")
        axes.set_title("Where the loss looks: the norm of its gradient in each frame of 40 ms")
        axes.grid(axis="y")
        canvas.legend(loc="outside lower center", ncols=4, fontsize=8)

    return svg(draw, 3.6)


def _gradients(record: View | None) -> list[Mapping[str, Any]]:
    rows = [] if record is None else record["rows"]
    return [row["gradient"] for row in rows if "gradient" in row]


def _kept(record: View | None, key: str) -> Any:
    rows = [] if record is None else record["rows"]
    return next((row[key] for row in rows if key in row), None)


def _cell(rates: Sequence[Mapping[str, float]]) -> str:
    if not rates:
        return NONE
    values = [rate["wer"] for rate in rates]
    mean = number(sum(values) / len(values), "percent")
    return mean if len(values) == 1 else f"{mean} [{100 * min(values):.1f}, {100 * max(values):.1f}]"
