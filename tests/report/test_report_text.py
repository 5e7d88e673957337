from __future__ import annotations

import math

import pytest

from edgespeech.report.text import NONE, Footnotes, Style, figure, markdown_table, number
from helpers_records import figure as make


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (None, "percent", NONE),
        (0.1234, "percent", "12.3 %"),
        (0.0, "percent", "0.0 %"),
        (0.0349, "ms", "34.9 ms"),
        (0.3491, "ms", "349 ms"),
        (1.005, "ms", "1005 ms"),
        (0.61, "s", "0.61 s"),
        (0.0412, "s", "41.2 ms"),
        (0.0, "s", "0.00 s"),
        (-0.25, "s", "-0.25 s"),
        (math.inf, "s", "∞"),
        (-math.inf, "s", "-∞"),
        (0, "bytes", "0 B"),
        (999, "bytes", "999 B"),
        (1000, "bytes", "1.0 kB"),
        (74_123_456, "bytes", "74.1 MB"),
        (2.5e12, "bytes", "2500.0 GB"),
        (0.08031, "ratio", "0.0803"),
        (0.000123, "ratio", "0.000123"),
    ],
)
def test_numbers(value: float | None, style: Style, text: str) -> None:
    assert number(value, style) == text


def test_a_figure_prints_its_interval_and_how_much_it_used() -> None:
    found = make(0.2, "wer", unit="ratio")
    assert figure(found, "percent") == "20.0 % [18.0, 22.0]"
    assert figure(found, "percent", interval=False) == "20.0 %"
    assert figure(found.model_copy(update={"used_share": 0.9}), "percent") == "20.0 % [18.0, 22.0] (of 90 %)"
    assert figure(make(math.inf, "upl_p99"), "s") == "∞"
    assert figure(found.model_copy(update={"value": 1.0, "low": 0.05, "high": math.inf}), "s") == (
        "1.00 s [50 ms, ∞]"
    )
    assert figure(None, "s") == NONE


def test_a_table_aligns_figures_and_survives_any_text() -> None:
    text = markdown_table(["a", "n"], [["x|y\nz", "12"], ["w", NONE]])
    assert text == f"| a | n |\n|---|--:|\n| x\\|y z | 12 |\n| w | {NONE} |\n"


def test_footnotes_are_numbered_once() -> None:
    notes = Footnotes()
    assert notes.mark("one", "two") == " <sup>1, 2</sup>"
    assert notes.mark("two") == " <sup>2</sup>"
    assert notes.mark() == ""
    assert notes.text() == ("one", "two")
