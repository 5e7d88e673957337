"""Tables and plots of compression arms, from rows of a record.

Rows of arms are those of `edgespeech.arms.figures.arm_rows`, with `cold` and `warm` (see
`edgespeech.arms.peer_bench.chunk_figures`) if chunks were timed. Plots are SVG, identical for identical rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgespeech.report.drawing import LIGHT, svg
from edgespeech.report.text import NONE, markdown_table, number
from edgespeech.search.settings import SearchSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Row = dict[str, Any]
_POOLED = "pooled"
_MARKERS = "os^DvPX"
_SIGNS = {"better": "better", "worse": "worse", "tie": "tie"}
GREYS = 16
"""Shades of a picture of a matrix."""


def search_of(config: Mapping[str, Any]) -> SearchSettings:
    """The search settings of a page's claims: its first beam, with the language models of the files, if any."""
    fused = bool(config.get("fusion", False))
    return SearchSettings(beam=config["beams"][0], language_model=fused, final_s=None, chunk_s=None)


def arms_table(rows: Sequence[Row], config: Mapping[str, Any]) -> str:
    """The table of all arms, with the reason for those that did not run.

    Args:
        rows: of the arms.
        config: of the record: `control`, `beams` and `fusion`.
    """
    control = config["control"]
    ran = _ran(rows)
    corpora = list(dict.fromkeys(corpus for row in ran for corpus in row["wer"]))
    others = list(dict.fromkeys(beam for row in ran for beam in row["wer_other"]))
    head = (
        "Arm",
        *(f"WER {corpus}" for corpus in corpora),
        f"Less {control}'s, points [95 %]",
        "Verdict",
        *(f"WER {_POOLED}, beam {beam}" for beam in others),
        "File",
        "Bits a weight",
        "Zeros",
        "Weights read a chunk",
        "Chunk cold, mean / P99, ms",
        "Chunk warm, mean / P99, ms",
        "Heard",
    )
    lines = []
    for row in rows:
        if "skipped" in row:
            lines.append((row["name"], *[NONE] * (len(head) - 2), f"not run: {row['skipped']}"))
            continue
        lines.append(
            (
                row["name"],
                *(_rate(row["wer"].get(corpus)) for corpus in corpora),
                _difference(row["wer"][_POOLED]),
                _SIGNS.get(row["wer"][_POOLED].get("verdict", ""), NONE),
                *(number(row["wer_other"].get(beam), "percent") for beam in others),
                number(row["file_bytes"], "bytes"),
                f"{row['bits_per_weight']:.2f}",
                number(row["zeros"], "percent"),
                number(row["chunk_bytes"], "bytes"),
                *(_times(row.get(key)) for key in ("cold", "warm")),
                "here" if row["measured"] else "as published",
            )
        )
    timed = next((row for row in ran if "cold" in row), None)
    n = "" if timed is None else f" Chunks: {timed['cold']['n']} cold, {timed['warm']['n']} warm."
    return (
        f"{markdown_table(head, lines)}\nIn brackets: 95 % intervals by bootstrap; differences are paired, on all "
        f"corpora together, and negative where the arm is better than {control} of the same seed.{n} "
        f"Search: {search_of(config).describe()}.\n"
    )


def sensitivity_table(rows: Sequence[Row]) -> str:
    """The table of the loss added by each matrix alone.

    Args:
        rows: for each matrix and option `matrix`, `bits`, `sparsity`, `loss`, and `base`, the loss without compression.
    """
    options = list(dict.fromkeys(_option(row) for row in rows))
    matrices = list(dict.fromkeys(row["matrix"] for row in rows))
    added = {(row["matrix"], _option(row)): row["loss"] - row["base"] for row in rows}
    lines = [(matrix, *(_signed(added.get((matrix, option))) for option in options)) for matrix in matrices]
    base = rows[0]["base"]
    return (
        f"{markdown_table(('Matrix', *options), lines)}\nTransducer loss added, in nats a label, to that of the model "
        f"in single precision, {base:.4f}, on {rows[0]['utterances']} utterances of tuning material.\n"
    )


def curve_plot(rows: Sequence[Row], control: str, axis: str) -> str:
    """WER of all corpora against bits or sparsity, one line per family, with intervals; for the first seed.

    Args:
        rows: of arms.
        control: drawn as a horizontal line.
        axis: `bits` or `sparsity`.
    """
    level = next((row for row in _ran(rows) if row["name"] == control), None)
    families = _families(rows)

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        if level is not None:
            rate = level["wer"][_POOLED]
            axes.axhline(100 * rate["wer"], color=LIGHT["muted"], linewidth=1.2, label=control)
            if "low" in rate:
                axes.axhspan(100 * rate["low"], 100 * rate["high"], color=LIGHT["grid"], alpha=0.5)
        for index, (family, points) in enumerate(families.items()):
            shift = 0.04 * (index - len(families) / 2) * (1 if axis == "bits" else 3)
            x = [(point if axis == "bits" else 100 * point) + shift for point, _ in points]
            rates = [row["wer"][_POOLED] for _, row in points]
            _errorbars(axes, x, rates, index, family)
        if axis == "bits":
            axes.invert_xaxis()
        axes.set_xlabel("bits of a weight" if axis == "bits" else "weights that are zero, %")
        axes.set_ylabel("word error rate, %")
        axes.set_title("Word errors of all corpora together: lower is better (bars: 95 % intervals)")
        axes.grid(axis="y")
        if level is not None or families:
            canvas.legend(loc="outside lower center", ncols=4, fontsize=8)

    return svg(draw, 4.2)


def pareto_plot(rows: Sequence[Row]) -> str:
    """WER of all corpora against bytes of the file, of weights read in a chunk, and against the time of a chunk."""
    families: dict[str, list[Row]] = {}
    for row in _ran(rows):
        if row["seed"] == min(other["seed"] for other in _ran(rows)):
            families.setdefault(row["family"], []).append(row)
    panels: dict[str, Callable[[Row], float]] = {
        "file, MB": lambda row: _scaled(row["file_bytes"], 1e-6),
        "weights read a chunk, MB": lambda row: _scaled(row["chunk_bytes"], 1e-6),
        "chunk cold, mean, ms": lambda row: _scaled(row.get("cold", {}).get("mean_s"), 1e3),
        "chunk warm, mean, ms": lambda row: _scaled(row.get("warm", {}).get("mean_s"), 1e3),
    }

    def draw(canvas: Canvas) -> None:
        for panel, (label, value) in zip(
            canvas.subplots(2, 2, sharey=True).flat, panels.items(), strict=True
        ):
            for index, (family, own) in enumerate(families.items()):
                _errorbars(
                    panel, [value(row) for row in own], [row["wer"][_POOLED] for row in own], index, family
                )
            panel.set_xlabel(label)
            panel.set_ylabel("WER, %")
            panel.grid()
        canvas.suptitle(
            "Word errors against bytes and time: further down and left is better", x=0.01, ha="left"
        )
        handles, labels = panel.get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)

    return svg(draw, 6.4)


def distances_plot(rows: Sequence[Row]) -> str:
    """Histograms of weights and of their distances from the nearest level, for each run.

    Args:
        rows: of each run `name`, `distances` (counts of |distance| in equal bins from 0 to half a step) and `weights`
            (counts in equal bins over `-span` to `span` steps).
    """

    def draw(canvas: Canvas) -> None:
        grid = canvas.subplots(len(rows), 2, squeeze=False)
        for (left, right), row in zip(grid, rows, strict=True):
            places = np.linspace(-row["span"], row["span"], len(row["weights"]) + 1)
            left.stairs(row["weights"], places, fill=True, color=LIGHT["s0"])
            left.set_title(row["name"])
            shares = np.array(row["distances"]) / max(1, sum(row["distances"]))
            right.stairs(100 * shares, np.linspace(0, 0.5, len(shares) + 1), fill=True, color=LIGHT["s1"])
            right.set_title(f"{row['name']}: mean {row['mean']:.3f} of a step")
            left.set_ylabel("weights")
            right.set_ylabel("share, %")
        grid[-1][0].set_xlabel("weight, in steps")
        grid[-1][1].set_xlabel("distance to the nearest level, in steps (0.25: no matter where)")

    return svg(draw, 0.6 + 1.7 * len(rows))


def shades(values: np.ndarray[Any, Any], side: int) -> list[str]:
    """The top left corner of a matrix as lines of hexadecimal digits: 0 for a weight of zero, f for the largest.

    Args:
        values: with shape `(rows, cols)`.
        side: number of rows and columns.
    """
    corner = np.abs(values[:side, :side])
    largest = float(corner.max()) or 1.0
    grey = np.ceil(corner / largest * (GREYS - 1)).astype(int)
    return ["".join(f"{shade:x}" for shade in line) for line in grey]


def zeros_plot(pictures: Sequence[Row]) -> str:
    """A weight matrix during sparsification.

    Args:
        pictures: of each step `step`, `zeros` (share of the whole matrix) and `shades`.
    """

    def draw(canvas: Canvas) -> None:
        grid = canvas.subplots(1, len(pictures), squeeze=False)[0]
        for axes, picture in zip(grid, pictures, strict=True):
            values = [[int(shade, GREYS) for shade in line] for line in picture["shades"]]
            axes.imshow(values, cmap="Greys", vmin=0, vmax=GREYS - 1, interpolation="nearest")
            axes.set_title(f"step {picture['step']}\n{100 * picture['zeros']:.0f} % zeros", fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])

    return svg(draw, 2.2)


def layout_table(chosen: Mapping[str, Mapping[str, float]]) -> str:
    """The table of bits and zeros of each matrix, as chosen by a search."""
    lines = [(name, str(one["bits"]), number(one["sparsity"], "percent")) for name, one in chosen.items()]
    return markdown_table(("Matrix", "Bits", "Zeros"), lines)


def _ran(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "skipped" not in row]


def _families(rows: Sequence[Row]) -> dict[str, list[tuple[float, Row]]]:
    """Points and rows of each family with points, for its first seed."""
    found: dict[str, list[tuple[float, Row]]] = {}
    for row in _ran(rows):
        if row["point"] is not None and "_seed" not in row["name"]:
            found.setdefault(row["family"], []).append((row["point"], row))
    return {family: sorted(points, key=lambda point: point[0]) for family, points in found.items()}


def _errorbars(
    axes: Axes, x: Sequence[float], rates: Sequence[Mapping[str, float]], index: int, label: str
) -> None:
    """Word error rates with their intervals, joined by a line if there are several."""
    y = [100 * rate["wer"] for rate in rates]
    ends = [
        [100 * (rate["wer"] - rate.get("low", rate["wer"])) for rate in rates],
        [100 * (rate.get("high", rate["wer"]) - rate["wer"]) for rate in rates],
    ]
    axes.errorbar(
        x,
        y,
        yerr=np.maximum(ends, 0),
        color=LIGHT[f"s{index % 8}"],
        marker=_MARKERS[index % len(_MARKERS)],
        linestyle="--" if index >= 8 else "-",
        capsize=2,
        markersize=4.5,
        linewidth=1.1,
        label=label,
    )


def _rate(rate: Mapping[str, float] | None) -> str:
    if rate is None:
        return NONE
    text = number(rate["wer"], "percent")
    return text if "low" not in rate else f"{text} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def _difference(rate: Mapping[str, float]) -> str:
    if "difference" not in rate:
        return NONE
    value, low, high = (100 * rate[key] for key in ("difference", "lower", "upper"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _times(found: Mapping[str, float] | None) -> str:
    return NONE if found is None else f"{1e3 * found['mean_s']:.3f} / {1e3 * found['p99_s']:.3f}"


def _option(row: Row) -> str:
    bits = "fp32" if row["bits"] == 32 else f"{row['bits']} bits"
    return bits if not row["sparsity"] else f"{bits}, {100 * row['sparsity']:.0f} % zeros"


def _signed(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _scaled(value: float | None, factor: float) -> float:
    return math.nan if value is None else value * factor
