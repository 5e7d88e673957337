"""Tables and the picture of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgespeech.harness.checks import NO_RECORD, View
from edgespeech.report.drawing import LIGHT, svg
from edgespeech.report.text import NONE, markdown_table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Row = dict[str, Any]
_MARKERS = "os^DvPX<>"


def arms_in(record: View | None) -> list[Row]:
    """The data of every arm that a record has."""
    return [row["arm"] for row in (record or {}).get("rows", ()) if "arm" in row]


def share(value: float | None) -> str:
    """A share in per cent."""
    return NONE if value is None else f"{100 * value:.1f}"


def arms_block(record: View | None) -> str:
    """One row an arm: bytes and accuracy of intents on every set."""
    arms = arms_in(record)
    if not arms:
        return NO_RECORD
    sets = list(arms[0]["sets"])
    head = ("Arm", "Word vectors", "Seeds", "Bytes", *sets, "F1 of slots, mean")
    rows = [
        (
            f"`{one['name']}`",
            one["about"],
            str(one["seeds"]),
            f"{one['bytes']:,}",
            *(share(one["sets"][name]["intent"]) for name in sets),
            share(_mean([told["f1"] for told in one["sets"].values() if told["f1"] is not None])),
        )
        for one in arms
    ]
    return "Intent accuracy, per cent, by test set.\n\n" + markdown_table(head, rows)


def published_block(record: View | None) -> str:
    """Ours beside what others published on the same test splits."""
    arms = {one["name"]: one for one in arms_in(record)}
    config = (record or {}).get("config", {})
    if not arms:
        return NO_RECORD
    rows = []
    for label, others in config["published"].items():
        rows += [
            (label, told["system"], share(told["intent"]), share(told["f1"]), told["source"])
            for told in others
        ]
        for name in (config["reference"], config["ours"]):
            if name in arms:
                mine = arms[name]["sets"][label]
                bytes_ = number(arms[name]["bytes"], "bytes")
                rows.append(
                    (label, f"`{name}`, {bytes_}", share(mine["intent"]), share(mine["f1"]), "this page")
                )
    return markdown_table(("Set", "System", "Intent accuracy, %", "F1 of slots, %", "Source"), rows)


def plots(record: View | None) -> dict[str, str]:
    """Accuracy against bytes."""
    arms = arms_in(record)
    return {"accuracy.svg": accuracy_plot(arms)} if arms else {}


def accuracy_plot(arms: Sequence[Row]) -> str:
    """Mean intent accuracy of the public sets against the bytes of the file; lines from the worst to the best run."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.set_xscale("log")
        for index, one in enumerate(arms):
            colour = LIGHT[f"s{index % 8}"]
            runs = [100 * value for value in one["public"]]
            mean, kilobytes = sum(runs) / len(runs), one["bytes"] / 1000
            axes.plot([kilobytes] * 2, [min(runs), max(runs)], color=colour, linewidth=1.2)
            axes.scatter(
                [kilobytes], [mean], color=colour, marker=_MARKERS[index % len(_MARKERS)], label=one["name"]
            )
        axes.set_xlabel("file, kB (logarithmic)")
        axes.set_ylabel("intent accuracy, mean of the public sets, %")
        axes.set_title("Understanding against size: upper left is better")
        axes.grid(which="major")
        axes.legend(loc="lower right", ncols=2)

    return svg(draw, 4.0)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
