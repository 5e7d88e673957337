"""Tables and plots of end-pointing, from points and curves in a record's rows.

A row of a scorer on a set has `scorer`, `set`, `curve` (see `curve`), `at` (its point at the rate of the comparison,
missing if no threshold satisfies it), `tuned` (its point at the threshold from the tuning set) and `wer`; a row of
a dual policy has `policy`, `set`, `dual`, `pareto` and perhaps an `example` of a reset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from replication.endpointing.curves import MOST_CUT, Point
from replication.endpointing.material import search_of

from edgespeech.report.drawing import LIGHT, svg
from edgespeech.report.text import NONE, markdown_table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Row = dict[str, Any]
_MARKERS = "os^DvPX"
_MOST_S = 2.5


def points_table(record: Mapping[str, Any] | None) -> str:
    """Every scorer on every set at the rate of the comparison, and at the threshold from the tuning set."""
    rows = _scored(record)
    if record is None or not rows:
        return "No record yet.\n"
    head = (
        "Set",
        "Scorer",
        "n",
        "Cut off",
        "EP50",
        "EP90",
        "EP99",
        "WER",
        "Tuned elsewhere: cut off",
        "EP50",
        "EP90",
    )
    lines = []
    for row in rows:
        at, tuned = row.get("at"), row.get("tuned")
        lines.append(
            (
                row["set"],
                row["scorer"],
                str(row["n"]),
                *_cells(at, ("ep50_s", "ep90_s", "ep99_s")),
                number(row.get("wer"), "percent"),
                *_cells(tuned, ("ep50_s", "ep90_s")),
            )
        )
    rate = number(record["config"]["cut_off_rate"], "percent")
    return (
        f"{markdown_table(head, lines)}\nEach scorer at the lowest threshold that cuts off at most {rate} of the set; "
        "on the right at the one that does so on the tuning set. Latencies over utterances that are not cut off, in "
        "seconds after the end of speech, at the end of the chunk; ∞: the end-point never came. The recogniser "
        f"searched: {search_of(record['config']).describe()}.\n"
    )


def dual_table(record: Mapping[str, Any] | None) -> str:
    """Every dual policy on every set."""
    rows = [row for row in (record or {}).get("rows", ()) if "dual" in row]
    if not rows:
        return "No record yet.\n"
    head = (
        "Set",
        "Speculative, final",
        "n",
        "Have a speculative result",
        "Confirmed",
        "Resets an utterance",
        "Advance, median",
        "UPL P50, final alone",
        "UPL P50",
        "Cut off",
        "WER",
    )
    lines = []
    for row in rows:
        found = row["dual"]
        lines.append(
            (
                row["set"],
                row["policy"],
                str(row["n"]),
                number(found["published"], "percent"),
                number(found["confirmed"], "percent"),
                f"{found['resets']:.3f}",
                f"{found['advance_s']:.2f}",
                *(_seconds(found[key]) for key in ("upl_p50_single_s", "upl_p50_s")),
                number(found["cut_off_rate"], "percent"),
                number(found["wer"], "percent"),
            )
        )
    return f"{markdown_table(head, lines)}\n![confirmed results against how early they are](dual.svg)\n"


def example_table(record: Mapping[str, Any] | None) -> str:
    """The first utterance with a reset."""
    found = next((row for row in (record or {}).get("rows", ()) if "example" in row), None)
    if found is None:
        return "No utterance of the record has a reset.\n"
    lines = [(_seconds(t_s), kind, text) for t_s, kind, text in found["example"]["events"]]
    return (
        f"{markdown_table(('s of audio', 'Event', 'Text'), lines)}\n"
        f"{found['set']}, {found['policy']}: {found['example']['id']}.\n"
    )


def plots(record: Mapping[str, Any]) -> dict[str, str]:
    """The curves of all scorers on all sets (`curves`) and of the dual policies (`dual`): name to SVG."""
    found = {"curves": _curves(_scored(record)), "dual": _pareto(record["rows"])}
    return {name: drawn for name, drawn in found.items() if drawn is not None}


def _scored(record: Mapping[str, Any] | None) -> list[Row]:
    return [row for row in (record or {}).get("rows", ()) if "curve" in row]


def _cells(found: Point | None, names: Sequence[str]) -> list[str]:
    if found is None:
        return [NONE] * (1 + len(names))
    return [number(found["cut_off_rate"], "percent"), *(_seconds(found[name]) for name in names)]


def _seconds(value: float | None) -> str:
    return "∞" if value is None or math.isinf(value) else f"{value:.2f}"


def _curves(rows: Sequence[Row]) -> str | None:
    sets = list(dict.fromkeys(row["set"] for row in rows))
    names = list(dict.fromkeys(row["scorer"] for row in rows))
    if not sets:
        return None

    def draw(canvas: Canvas) -> None:
        grid = canvas.subplots(len(sets), 2, sharex=True, sharey=True, squeeze=False)
        for line, set_name in zip(grid, sets, strict=True):
            for axes, key in zip(line, ("ep50_s", "ep90_s"), strict=True):
                for row in (row for row in rows if row["set"] == set_name):
                    known = [one for one in row["curve"] if one[key] is not None]
                    index = names.index(row["scorer"])
                    axes.plot(
                        [100 * one["cut_off_rate"] for one in known],
                        [one[key] for one in known],
                        color=LIGHT[f"s{index % 8}"],
                        marker=_MARKERS[index % len(_MARKERS)],
                        markersize=3,
                        linewidth=1.2,
                        label=row["scorer"],
                    )
                axes.set_title(f"{set_name}, {'median' if key == 'ep50_s' else 'P90'}")
                axes.set_xlim(0, 100 * MOST_CUT)
                axes.set_ylim(0, _MOST_S)
                axes.grid()
            line[0].set_ylabel("s after the end of speech")
        for axes in grid[-1]:
            axes.set_xlabel("utterances cut off, %")
        handles = {t: h for axes in grid.flat for h, t in zip(*axes.get_legend_handles_labels(), strict=True)}
        canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8)
        canvas.suptitle("Early cut-offs against latency: further down and left is better", x=0.01, ha="left")

    return svg(draw, 1.2 + 2.2 * len(sets))


def _pareto(rows: Sequence[Row]) -> str | None:
    shown = [row for row in rows if "pareto" in row]
    sets = list(dict.fromkeys(row["set"] for row in shown))
    names = list(dict.fromkeys(row["policy"] for row in shown))
    if not sets:
        return None

    def draw(canvas: Canvas) -> None:
        columns = min(2, len(sets))
        grid = canvas.subplots(
            math.ceil(len(sets) / columns), columns, sharex=True, sharey=True, squeeze=False
        )
        for axes in grid.flat[len(sets) :]:
            axes.set_axis_off()
        for axes, set_name in zip(grid.flat, sets, strict=False):
            for row in (row for row in shown if row["set"] == set_name):
                look = LIGHT[f"s{names.index(row['policy']) % 8}"]
                axes.plot(
                    [1000 * one["advance_s"] for one in row["pareto"]],
                    [100 * one["confirmed"] for one in row["pareto"]],
                    color=look,
                    linewidth=1.2,
                    label=row["policy"],
                )
                axes.plot(
                    1000 * row["dual"]["advance_s"],
                    100 * row["dual"]["confirmed"],
                    _MARKERS[names.index(row["policy"]) % len(_MARKERS)],
                    color=look,
                )
            axes.set_title(set_name)
            axes.set_ylim(50, 101)
            axes.grid()
            axes.set_xlabel("ahead of the final result, median, ms")
        for line in grid:
            line[0].set_ylabel("confirmed, %")
        handles = {t: h for axes in grid.flat for h, t in zip(*axes.get_legend_handles_labels(), strict=True)}
        canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, fontsize=8)
        canvas.suptitle(
            "Speculative results: further up and right is better; marks: the threshold from the tuning set",
            x=0.01,
            ha="left",
        )

    return svg(draw, 1.2 + 2.4 * math.ceil(len(sets) / 2))
