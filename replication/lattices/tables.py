"""Tables and a plot of lattices' oracle errors and sizes, from a record's rows.

An arm has `corpus`, `beam`, `merge` (None: unmerged), `utterances`, `words`, `errors` (of the search's best), `best`
(of the lattice's best path), `oracle`, `n_best` (by length the oracle's errors), `evaluations`, `audio_s` and `arcs`.
A point has `kind` (`lattice` or `n-best`), `setting`, `bytes` (mean), `median`, `share` (of Opus, median), `words` and
`oracle` (errors). A rounding has `step_exponent`, `prediction`, `bytes`, `median`, `changed` (share of utterances),
`words` and `errors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgespeech.report.drawing import LIGHT, svg
from edgespeech.report.text import markdown_table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Row = Mapping[str, Any]


def merged_labels(merge: int | None) -> str:
    """The merging rule of an arm."""
    return "unmerged" if merge is None else f"{merge} label{'s' if merge > 1 else ''}"


def arms_table(arms: Sequence[Row]) -> str:
    """Every arm on every corpus: WER of the best path, oracles, and costs."""
    lists = list(arms[0]["n_best"])
    head = (
        "Corpus",
        "Beam",
        "States by",
        "WER",
        "WER, lattice's best",
        "Oracle WER",
        *(f"Oracle of {n} best" for n in lists),
        "Arcs per word",
        "Joiner evaluations a second",
    )
    lines = [
        (
            arm["corpus"],
            str(arm["beam"]),
            merged_labels(arm["merge"]),
            *(_rate(arm, key) for key in ("errors", "best", "oracle")),
            *(number(arm["n_best"][n] / arm["words"], "percent") for n in lists),
            f"{arm['arcs'] / arm['words']:.1f}",
            f"{arm['evaluations'] / arm['audio_s']:.0f}",
        )
        for arm in arms
    ]
    return markdown_table(head, lines)


def bytes_table(points: Sequence[Row], beside: Mapping[str, float]) -> str:
    """Oracle WER against bytes, of lattices and n-best lists, and the bytes of the audio.

    Args:
        points: for all corpora together.
        beside: mean bytes of an utterance's audio, by codec.
    """
    head = ("What is sent", "Bytes, mean", "Median", "Median, of Opus", "Oracle WER")
    lines = [
        (
            f"lattice, paths within {row['setting']:g} nats"
            if row["kind"] == "lattice"
            else f"n-best list of {row['setting']}",
            f"{row['bytes']:.0f}",
            f"{row['median']:.0f}",
            number(row["share"], "percent"),
            _rate(row, "oracle"),
        )
        for row in points
    ]
    audio = ", ".join(f"{name} {number(size, 'bytes')}" for name, size in beside.items())
    return f"{markdown_table(head, lines)}\nThe same utterances as audio, mean: {audio}.\n"


def rounding_table(rows: Sequence[Row]) -> str:
    """The effect of coarser scores on bytes and best path."""
    head = (
        "Step, nats",
        "Prediction scores",
        "Bytes, mean",
        "Median",
        "Another best path",
        "WER of the best path",
    )
    lines = [
        (
            f"{2.0 ** -row['step_exponent']:g}",
            "sent" if row["prediction"] else "left out",
            f"{row['bytes']:.0f}",
            f"{row['median']:.0f}",
            number(row["changed"], "percent"),
            _rate(row, "errors"),
        )
        for row in rows
    ]
    return markdown_table(head, lines)


def bytes_plot(points: Sequence[Row], beside: Mapping[str, float]) -> str:
    """Oracle WER against mean bytes: lattices, n-best lists, and audio for comparison.

    Returns:
        An SVG; the same rows give the same bytes.
    """

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for kind, colour, marker in (("lattice", "s0", "o"), ("n-best", "s1", "s")):
            line = sorted(
                (row["bytes"], 100 * row["oracle"] / row["words"]) for row in points if row["kind"] == kind
            )
            axes.plot(*zip(*line, strict=True), color=LIGHT[colour], marker=marker, markersize=4, label=kind)
        for name, size in beside.items():
            axes.axvline(size, color=LIGHT["muted"], linewidth=0.8, linestyle=":")
            axes.annotate(
                name,
                (size, 1),
                xycoords=("data", "axes fraction"),
                rotation=90,
                va="top",
                ha="right",
                fontsize=8,
            )
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("bytes an utterance, mean")
        axes.set_ylabel("oracle WER, %")
        axes.grid()
        axes.legend(fontsize=8)
        axes.set_title("The least errors among what is sent: further left and lower is better")

    return svg(draw, 4.2)


def _rate(row: Row, key: str) -> str:
    return number(row[key] / row["words"], "percent")
