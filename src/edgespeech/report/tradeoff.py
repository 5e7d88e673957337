"""Plots of what accuracy costs: WER against user-perceived latency and against bytes on disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from edgespeech.records.records import Record
from edgespeech.report.drawing import LIGHT, Look, svg
from edgespeech.report.front import CORPUS, front_records, machines_remark
from edgespeech.report.table import NETWORK, NORMALISER, has_latency
from edgespeech.report.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in points."""


class _Mark(NamedTuple):
    """A disc's centre and radius, and the boxes that it and its interval fill; in points."""

    x: float
    y: float
    radius: float
    boxes: tuple[_Box, ...]


_HEIGHT = 4.4
_AREA_PER_BYTE = 1500 / 150e6
"""Square points per byte: a model of 150 MB is a disc 44 points wide. Discs have at least the area `_LEAST_AREA`."""
_LEAST_AREA = 30.0


def tradeoff_plots(
    records: Sequence[Record], looks: Mapping[str, Look], corpus: str = CORPUS
) -> dict[str, str]:
    """WER against latency and against size on one corpus, by the plots' names; without data there is no plot.

    Args:
        records: all records.
        looks: colours by system.
        corpus: the corpus.
    """
    shown = front_records(records, corpus)
    drawn = {}
    waiting = [record for record in shown if has_latency(record)]
    if waiting:
        drawn["wer_upl"] = _scatter(
            waiting,
            looks,
            across=lambda record: record.networks[NETWORK].latency["upl_p50"].value,
            size=lambda record: max(_LEAST_AREA, _AREA_PER_BYTE * record.system.model_bytes),
            label=f"median user-perceived latency over {NETWORK}, s" + _machines(waiting),
            title=f"Word errors against waiting, {corpus}: lower left is better (area: bytes on disk)",
        )
    sized = [record for record in shown if record.system.model_bytes > 0]
    if sized:
        drawn["wer_bytes"] = _scatter(
            sized,
            looks,
            across=lambda record: record.system.model_bytes / 1e6,
            size=lambda record: 40.0,
            label="model on disk, MB",
            title=f"Word errors against size, {corpus}: lower left is better",
        )
    return drawn


def _scatter(
    records: Sequence[Record],
    looks: Mapping[str, Look],
    *,
    across: Callable[[Record], float],
    size: Callable[[Record], float],
    label: str,
    title: str,
) -> str:
    points = [(across(record), record) for record in records]
    logarithmic = all(x > 0 for x, _ in points)

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        if logarithmic:
            axes.set_xscale("log")
            low, high = min(x for x, _ in points), max(x for x, _ in points)
            axes.set_xlim(low / 2, high * 2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
        top = max(
            100 * (r.accuracy[NORMALISER].wer.high or r.accuracy[NORMALISER].wer.value) for r in records
        )
        axes.set_ylim(0, 1.15 * top or 1)
        for x, record in points:
            look, found = looks[record.system.name], record.accuracy[NORMALISER].wer
            if found.low is not None and found.high is not None:
                ends = [100 * found.low, 100 * found.high]
                axes.plot([x, x], ends, color=look.colour, linewidth=1.0, alpha=0.7, zorder=2)
            axes.scatter(
                [x],
                [100 * found.value],
                s=size(record),
                color=look.colour,
                edgecolor=LIGHT["page"],
                linewidth=0.7,
                zorder=3 + 1 / size(record),  # a small disc is never under a large one
            )
        canvas.draw_without_rendering()
        marks = [_mark(axes, x, record, size(record)) for x, record in points]
        taken = [box for mark in marks for box in mark.boxes]
        for (x, record), mark in zip(points, marks, strict=True):
            text = f"{record.system.name}, {number(record.system.model_bytes, 'bytes')}"
            side, right, up = _free(taken, mark, len(text))
            axes.annotate(
                text,
                (x, 100 * record.accuracy[NORMALISER].wer.value),
                xytext=(right, up),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=8.5,
                color=looks[record.system.name].colour,
                zorder=4,
            )
        axes.set_xlabel(label)
        axes.set_ylabel(f"word error rate, % ({NORMALISER}); bars: 95 %")
        axes.set_title(title)
        axes.grid(which="major")

    return svg(draw, _HEIGHT)


def _machines(records: Sequence[Record]) -> str:
    """A line below the axis where latencies come from several machines."""
    remark = machines_remark(records)
    return "" if remark is None else "\n" + "\n".join(f"measured: {group}" for group in remark.split("; "))


def _mark(axes: Axes, x: float, record: Record, area: float) -> _Mark:
    """Where a disc and its interval lie, in points of the canvas."""
    found = record.accuracy[NORMALISER].wer
    dpi = axes.get_figure(root=True).dpi  # type: ignore[union-attr]  # drawn axes have a figure

    def at(y: float) -> tuple[float, float]:
        left, bottom = axes.transData.transform((x, 100 * y)) * 72 / dpi
        return float(left), float(bottom)

    (across, up), radius = at(found.value), math.sqrt(area / math.pi)
    disc = (across - radius, up - radius, across + radius, up + radius)
    low, high = (at(found.value if end is None else end)[1] for end in (found.low, found.high))
    return _Mark(across, up, radius, (disc, (across - 1, low, across + 1, high)))


def _free(taken: list[_Box], mark: _Mark, letters: int) -> tuple[str, float, float]:
    """A label's alignment and offset in points: beside its disc, clear of all discs, intervals and labels before."""
    width, height, gap = 4.6 * letters, 11.0, mark.radius + 4
    steps = [0.0] + [sign * height * step / 2 for step in range(1, 24) for sign in (1, -1)]
    for up in steps:
        for side, left in (("left", gap), ("right", -gap - width)):
            x, y = mark.x + left, mark.y + up
            box = (x, y - height / 2, x + width, y + height / 2)
            if x > 0 and all(box[2] < b[0] or box[0] > b[2] or box[3] < b[1] or box[1] > b[3] for b in taken):
                taken.append(box)
                return side, gap if side == "left" else -gap, up
    return "left", gap, 0.0
