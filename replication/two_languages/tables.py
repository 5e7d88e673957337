"""Tables and the picture of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgespeech.harness.checks import NO_RECORD, View
from edgespeech.report.drawing import LIGHT, svg
from edgespeech.report.text import NONE, markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Row = dict[str, Any]
_MARKERS = {"test": "o", "switched": "s", "real": "^", "world": "D"}


def _rows(record: View | None, key: str) -> list[Any]:
    return [row[key] for row in (record or {}).get("rows", ()) if key in row]


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f}"


def arms_block(record: View | None) -> str:
    """Word error rates, and languages named at the end, of every network on every test."""
    rows = [row for row in (record or {}).get("rows", ()) if "measured" in row]
    rates = {row["detail"]: row["measured"] for row in rows if row.get("claim") == "two_languages.wer"}
    named = {row["detail"]: row["measured"] for row in rows if row.get("claim") == "two_languages.named"}
    if record is None or not (rates or named):
        return NO_RECORD if record is None else "No network is trained yet.\n"
    arms: Mapping[str, Any] = record["config"]["arms"]
    tests = sorted({detail.split(", ")[1] for detail in rates})
    parts = sorted({detail.split(", ")[1] for detail in named})
    head = ("Network", "About", *(f"WER, {one}" for one in tests), *(f"named, {one}" for one in parts))
    table = [
        (
            f"`{arm}`",
            told["about"],
            *(_percent(rates.get(f"{arm}, {one}")) for one in tests),
            *(_percent(named.get(f"{arm}, {one}, end")) for one in parts),
        )
        for arm, told in arms.items()
    ]
    return "Per cent; languages named at the end of the utterance.\n\n" + markdown_table(head, table)


def languages_block(record: View | None) -> str:
    """Every language of Common Voice: clips, share named right, and what it is taken for."""
    found = _rows(record, "languages")
    if not found:
        return NO_RECORD if record is None else "The identifier of all languages is not trained yet.\n"
    rows = [
        (code, str(told["n"]), _percent(told["right"]), told["for"] or NONE)
        for code, told in sorted(found[0].items(), key=lambda item: (-item[1]["right"], item[0]))
    ]
    table = markdown_table(("Language", "Clips", "Named right, %", "Most often taken for"), rows)
    return f"<details><summary>{len(rows)} languages</summary>\n\n{table}\n</details>\n"


def plots(record: View | None) -> dict[str, str]:
    """Languages named right against the seconds heard."""
    curves = _rows(record, "curve")
    return {"seconds.svg": seconds_plot(curves)} if curves else {}


def seconds_plot(curves: Sequence[Row]) -> str:
    """The share of utterances whose language is named right, against the seconds of speech heard."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        kinds = list(dict.fromkeys((one["arm"], one["part"]) for one in curves))
        arms = list(dict.fromkeys(arm for arm, _ in kinds))
        latest = max((one["time"] for one in curves if one["time"] is not None), default=1.0)
        for arm, part in kinds:
            own = [one for one in curves if (one["arm"], one["part"]) == (arm, part)]
            axes.plot(
                [latest + 0.5 if one["time"] is None else one["time"] for one in own],
                [100 * one["share"] for one in own],
                color=LIGHT[f"s{arms.index(arm) % 8}"],
                marker=_MARKERS.get(part, "o"),
                label=f"{arm}, {part}",
            )
        axes.set_xlabel(f"seconds of speech heard; the last point is the end, drawn at {latest + 0.5:g}")
        axes.set_ylabel("language named right, %")
        axes.grid(which="major")
        axes.legend(loc="lower right", ncols=2)

    return svg(draw, 4.0)
