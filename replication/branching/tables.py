"""The page's table of arms and its plots, from a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgespeech.arms.figures import kept
from edgespeech.harness.checks import NO_RECORD, Row, View
from edgespeech.metrics.word_errors import POOLED
from edgespeech.report.drawing import LIGHT, svg
from edgespeech.report.text import NONE, markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

CURVE = "cost.svg"
PICTURE = "decisions.svg"
_GREYS = 16


def arms_block(record: View | None) -> str:
    """The table of arms, the shares of slow frames in noise, and the curve."""
    rows = kept(record, "branch_arms")
    if record is None or rows is None:
        return NO_RECORD
    corpora = list(next((row["wer"] for row in rows if "wer" in row), {}))
    head = ("Arm", "Seed", "MACs of all slow", "Slow frames", *(f"WER {name}" for name in corpora), "")
    table = markdown_table(head, [_cells(row, corpora) for row in rows])
    shares = [row["noise_share"] for row in record["rows"] if "noise_share" in row]
    noise = ", ".join(f"{one['condition']} {100 * one['slow']:.1f} %" for one in shares)
    parts = [table, "Greedy search by torch; in brackets: 95 % intervals by bootstrap.\n"]
    if noise:
        parts.append(f"Slow frames of {record['config']['headline']}: {noise}.\n")
    if _points(rows):
        parts.append(f"![word errors against cost]({CURVE})\n")
    return "\n".join(parts)


def picture_block(record: View | None) -> str:
    """The picture of decisions."""
    if kept(record, "picture") is None:
        return NO_RECORD
    return f"![decisions over a spectrogram]({PICTURE})\n"


def plots(record: View | None) -> dict[str, str]:
    """The page's plots, by file name."""
    rows, picture = kept(record, "branch_arms"), kept(record, "picture")
    drawn = {}
    if rows is not None and _points(rows):
        drawn[CURVE] = curve_plot(_points(rows))
    if picture is not None:
        drawn[PICTURE] = picture_plot(picture)
    return drawn


def curve_plot(points: dict[str, list[tuple[float, float]]]) -> str:
    """Pooled word errors against cost, each arm with its seeds."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for number, (name, own) in enumerate(points.items()):
            axes.plot(
                *zip(*own, strict=True),
                marker="os^DvPX"[number % 7],
                color=LIGHT[f"s{number % 8}"],
                linestyle="none",
                label=name,
            )
        axes.set_xlabel("MACs of a frame, % of the slow branch's")
        axes.set_ylabel("word error rate, all corpora, %")
        axes.set_title("Word errors against cost: lower left is better")
        axes.grid()
        canvas.legend(loc="outside lower center", ncols=4, fontsize=8)

    return svg(draw, 4.6)


def picture_plot(picture: Row) -> str:
    """A spectrogram, and below it which branch ran.

    Args:
        picture: `shades` (see `decided.shades`), `slow` of each frame, and `frame_s`.
    """
    values = [[int(shade, _GREYS) for shade in band] for band in picture["shades"]]
    slow = picture["slow"]
    ends = (0.0, len(slow) * picture["frame_s"])

    def draw(canvas: Canvas) -> None:
        above, below = canvas.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        extent = (*ends, 0.0, float(len(values)))
        above.imshow(
            values, cmap="Greys", vmin=0, vmax=_GREYS - 1, aspect="auto", origin="lower",
            interpolation="nearest", extent=extent,
        )  # fmt: skip
        above.set_yticks([])
        above.set_ylabel("mel bands")
        above.set_title("Where the slow branch runs")
        edges = [place * picture["frame_s"] for place in range(len(slow) + 1)]
        below.stairs(slow, edges, fill=True, color=LIGHT["s1"])
        below.set_ylim(0, 1.05)
        below.set_yticks([0, 1], ["fast", "slow"])
        below.set_xlim(*ends)
        below.set_xlabel("seconds")

    return svg(draw, 3.2)


def _points(rows: list[Row]) -> dict[str, list[tuple[float, float]]]:
    """Cost and word errors of the arms that were measured, in per cent."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if "wer" in row:
            point = (100 * row["cost"], 100 * row["wer"][POOLED]["wer"])
            found.setdefault(row["name"], []).append(point)
    return found


def _cells(row: Row, corpora: list[str]) -> tuple[str, ...]:
    if "wer" not in row:
        empty = (NONE,) * (2 + len(corpora))
        return (row["name"], str(row["seed"]), *empty, f"not run: {row['skipped']}")
    return (
        row["name"],
        str(row["seed"]),
        f"{100 * row['cost']:.1f} %",
        f"{100 * row['slow']:.1f} %",
        *(_rate(row["wer"][name]) for name in corpora),
        row.get("warning", ""),
    )


def _rate(found: dict[str, Any]) -> str:
    text = f"{100 * found['wer']:.1f} %"
    return f"{text} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]" if "low" in found else text
