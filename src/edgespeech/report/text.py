"""The one place where numbers become text, and lists become Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from edgespeech.records.records import Figure

Style = Literal["percent", "ms", "s", "bytes", "ratio"]
NONE = "\u2013"
_UNITS = ("B", "kB", "MB", "GB")


def number(value: float | None, style: Style) -> str:
    """A value as readers see it: `12.3 %`, `35 ms`, `0.61 s`, `74.0 MB`, `0.0803`; a dash for None, `∞`.

    Args:
        value: a share for `percent`, seconds for `ms` and `s`, bytes for `bytes`.
        style: how to show it.
    """
    if value is None:
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if style == "percent":
        return f"{100 * value:.1f} %"
    if style == "ms":
        return f"{1000 * value:.3g} ms" if abs(value) < 0.1 else f"{1000 * value:.0f} ms"
    if style == "s":
        return f"{value:.2f} s" if value == 0 or abs(value) >= 0.1 else number(value, "ms")
    if style == "ratio":
        return f"{value:.3g}"
    power = 0 if value == 0 else min(int(math.log10(abs(value)) // 3), len(_UNITS) - 1)
    power = max(power, 0)
    return f"{value / 1000**power:.{0 if power == 0 else 1}f} {_UNITS[power]}"


def style_of(unit: str) -> Style:
    """How to show a figure of this unit when nothing better is known of it."""
    return {"s": "s", "bytes": "bytes"}.get(unit, "ratio")  # type: ignore[return-value]


def figure(found: Figure | None, style: Style, *, interval: bool = True) -> str:
    """A figure as text, with its 95 % interval in brackets where it has one.

    A figure that could not use every value says how many it used.
    """
    if found is None:
        return NONE
    text = number(found.value, style)
    if interval and found.low is not None and found.high is not None:
        low, high = (number(end, style) for end in (found.low, found.high))
        unit = text.rpartition(" ")[2]
        if " " in text and low.endswith(f" {unit}") and high.endswith(f" {unit}"):
            low, high = low.removesuffix(f" {unit}"), high.removesuffix(f" {unit}")
        text += f" [{low}, {high}]"
    if found.used_share < 1:
        text += f" (of {100 * found.used_share:.0f} %)"
    return text


def escaped(text: str) -> str:
    """Text of a record as Markdown that shows it: no HTML, no link and no line of its own comes of it."""
    return text.replace("<", "&lt;").replace("](", "]\\(").replace("\n", " ")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table; columns whose cells all start with a digit, a dash or a sign are right-aligned."""
    right = [
        bool(rows) and all(row[i][:1] in f"0123456789-∞{NONE}" for row in rows) for i in range(len(head))
    ]
    lines = [
        "| " + " | ".join(head) + " |",
        "|" + "|".join("--:" if aligned else "---" for aligned in right) + "|",
    ]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines) + "\n"


class Footnotes:
    """Numbered notes below a table; the same text has one number."""

    def __init__(self) -> None:
        self._notes: dict[str, int] = {}

    def mark(self, *notes: str) -> str:
        """The marks to put behind a cell, as superscript numbers; empty without notes."""
        numbers = [self._notes.setdefault(note, len(self._notes) + 1) for note in notes]
        return f" <sup>{', '.join(map(str, numbers))}</sup>" if numbers else ""

    def text(self) -> tuple[str, ...]:
        """The notes in the order of their numbers."""
        return tuple(self._notes)
