"""A technique's page: its finding, its table of claims, its rows, and that nothing else of it changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import NO_RECORD, Page, measure
from edgespeech.records.claims import Bar, Claim, Claims, Measured, judge
from edgespeech.records.pages import PageRecord, write_page
from edgespeech.report.page import (
    Judged,
    bar_text,
    claims_table,
    finding,
    render,
    rows_table,
    run,
    value_text,
)

CLAIMS = """\
- id: demo.paper
  short: no loss
  text: It loses nothing.
  kind: paper
  source: "A paper, abstract"
  reported: -0.036
  reported_unit: relative
  unit: points
  bar: {direction: at_most, value: 0, margin: 0.005}
- {id: demo.bytes, short: bytes, text: It is small., kind: target, unit: bytes,
   bar: {direction: at_most, value: 5.0e+6}, exact: true}
- {id: demo.slow, short: speed, text: It is fast., kind: target, unit: s, bar: {direction: at_most, value: 0.5}}
- {id: demo.open, short: open, text: As it is., kind: observation, unit: ratio}
"""
README = """\
# Demo

<!-- table:finding -->
<!-- /table -->

<!-- table:demo -->
old
<!-- /table -->

Between them.

<!-- table:more -->
<!-- /table -->

<!-- table:rows -->
<!-- /table -->

The end.
"""


def check(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    del config
    ends = {"low": -0.02, "high": 0.004, "resampled": ("speakers",)}
    yield {"claim": "demo.paper", "detail": "set a", "measured": -0.01, "n": 1300, **ends}
    yield {"claim": "demo.paper", "detail": "set b", "measured": 0.02, "low": 0.01, "high": 0.03, "n": 3}
    yield {"claim": "demo.bytes", "measured": 1_234_567, "n": 1}
    yield {"claim": "demo.slow", "detail": "cold", "measured": 0.25, "n": seed, "picture": [1]}
    yield {"claim": "demo.open", "measured": 0.123456, "n": 2}


def more(record: dict[str, Any] | None) -> str:
    return f"{len(record['rows']) if record else 'no'} rows\n"


@pytest.fixture
def page(tmp_path: Path) -> Page:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "claim.yaml").write_text(CLAIMS)
    (folder / "config.yaml").write_text("seed: 1\n")
    (folder / "README.md").write_text(README)
    return Page(folder=folder, records=tmp_path / "results" / "demo", checks=(check,), blocks={"more": more})


def test_only_the_blocks_of_a_page_change(page: Page) -> None:
    run(page)
    text = page.readme.read_text()
    assert text.startswith("# Demo\n\n<!-- table:finding -->\n\n")
    assert "Between them.\n\n<!-- table:more -->\n\n5 rows\n" in text
    assert text.endswith("<!-- /table -->\n\nThe end.\n")
    assert "\nold\n" not in text
    run(page, render_only=True)
    assert page.readme.read_text() == text
    assert len(list(page.records.iterdir())) == 1


def test_the_page_says_what_holds_and_why_the_rest_is_open(page: Page) -> None:
    run(page)
    text = page.readme.read_text()
    assert (
        "<!-- table:finding -->\n\n**It loses nothing: mixed (1 reproduced, 1 not reproduced).** Measured: "
        "-1.00 [-2.00, 0.40] points (set a) to 2.00 [1.00, 3.00] points (set b); the bar: at most 0.00 points "
        "(margin 0.50).\n\n"
        "1 paper claim: 1 mixed; 2 own targets: 1 met, 1 undecided. Holds under every condition: bytes; "
        "no loss: mixed (1 reproduced, 1 not reproduced). Undecided: speed (no interval in the record).\n"
    ) in text
    assert (
        "| It loses nothing. *(paper, A paper, abstract)* | -3.6 % | at most 0.00 points (margin 0.50) | "
        "set a: -1.00 [-2.00, 0.40] points<br>set b: 2.00 [1.00, 3.00] points | mixed (1 reproduced, "
        "1 not reproduced) |"
    ) in text
    assert "| It is small. *(target)* |" in text
    assert "| at most 5,000,000 bytes | 1,234,567 bytes | met |" in text
    assert "| cold: 0.25 s | undecided: no interval in the record |" in text
    assert (
        "| paper | set a | -1.00 [-2.00, 0.40] points | at most 0.00 points (margin 0.50) | 1,300 |" in text
    )
    assert "As it is." not in text.partition("table:rows")[0]  # an observation is among the rows alone
    assert "<details><summary>Every measured row (5)</summary>" in text
    assert "by profile `quick`, no utterances, at commit" in text
    assert "Stale" not in text


def test_a_page_whose_code_has_changed_is_marked_stale(page: Page) -> None:
    run(page)
    (page.folder / "replicate.py").write_text("CHANGED = True\n")
    assert "**Stale: the code that measures has changed since.**" in render(page, page.newest())


def test_without_a_record_the_page_says_so(page: Page) -> None:
    assert page.newest() is None
    text = render(page, None)
    assert text.count(f"-->\n\n{NO_RECORD}\n<!-- /table -->") == 3
    assert "no rows\n" in text


@pytest.mark.parametrize(
    "broken",
    [
        README.replace("table:more", "table:less"),
        "<!-- table:finding -->\n",
        README.replace("table:rows", "x"),
    ],
    ids=["no such block", "no end", "no rows"],
)
def test_a_page_without_its_block_is_refused(page: Page, broken: str) -> None:
    page.readme.write_text(broken)
    with pytest.raises(EdgeSpeechError, match=r"demo/README.md: block is"):
        render(page, None)


def test_a_record_of_another_page_is_refused(page: Page) -> None:
    path = write_page(measure(page), page.records)
    (page.folder / "claim.yaml").write_text(
        "- {id: demo.z, short: z, text: Z., kind: observation, unit: s}\n"
    )
    assert path.is_file()
    with pytest.raises(EdgeSpeechError, match=r"claim is 'demo\.paper', expected one of demo\.z"):
        render(page, page.newest())


def claim(**changes: Any) -> Claim:
    fields = {"id": "demo.x", "short": "x", "text": "X.", "kind": "target", "unit": "share"}
    return Claim.model_validate({**fields, "bar": {"direction": "at_most", "value": 0.5}, **changes})


def of(one: Claim, *measured: Measured) -> Judged:
    return Judged(one, tuple((each, judge(one, each)) for each in measured))


@pytest.mark.parametrize(
    ("unit", "measured", "text"),
    [
        ("share", {"value": 0.857, "low": 0.813, "high": 0.897}, "85.7 [81.3, 89.7] %"),
        ("points", {"value": -0.00871, "low": -0.0212, "high": 0.0033}, "-0.87 [-2.12, 0.33] points"),
        ("s", {"value": 0.39, "low": float("-inf"), "high": 1.26}, "0.39 [-∞, 1.26] s"),
        ("ratio", {"value": 2.51683}, "2.517"),
        ("parameters", {"value": 4593312}, "4,593,312 parameters"),
        ("s", {"not_run": "no model"}, "\N{EN DASH}"),
    ],
)
def test_values_stand_with_their_intervals_and_units(unit: Any, measured: dict[str, Any], text: str) -> None:
    assert value_text(Measured(**measured), unit) == text


@pytest.mark.parametrize(
    ("bar", "text"),
    [
        ({"direction": "below", "value": 0}, "below 0.00 points"),
        ({"direction": "at_least", "value": 0.2}, "at least 20.00 points"),
        ({"direction": "equal", "value": 1, "margin": 0.1}, "exactly 100.00 points (margin 10.00)"),
        ({"direction": "between", "value": [0.1, 0.2]}, "10.00 to 20.00 points"),
    ],
)
def test_bars_in_words(bar: dict[str, Any], text: str) -> None:
    assert bar_text(Bar.model_validate(bar), "points") == text
    assert "1e-09" not in text


def test_the_first_table_is_short() -> None:
    found = [of(claim(id=f"demo.c{n}", short=f"c{n}"), Measured(value=0.4, n=1)) for n in range(14)]
    table = claims_table(found)
    assert table.count("*(target)*") == 12
    assert "Further targets among the rows below: c12, c13." in table
    many = claims_table([of(claim(), *[Measured(value=0.4, n=1, condition=f"d{n}") for n in range(6)])])
    assert "d3: 40.0 %<br>… 2 more below" in many


def test_the_finding_begins_with_a_paper_claim_that_was_measured_else_a_target() -> None:
    target = of(claim(), Measured(value=0.4, n=1))
    text = finding([target])
    assert text.startswith("**")
    assert "Measured: 40.0 %; the bar: at most 50.0 %.\n\n1 own target: 1 " in text
    assert finding([of(claim(), Measured(not_run="no weights"))]).startswith("1 own target: 1 not run.")


def test_claims_are_counted_alike_in_the_finding_and_in_the_table() -> None:
    ends = [
        Measured(value=v, low=v, high=v, n=1, condition=f"d{v}", resampled=("utterances",))
        for v in (0.4, 0.6)
    ]
    found = [of(claim(id=f"demo.c{n}"), *ends[: n + 1]) for n in range(2)]
    table = claims_table(found)
    assert "2 own targets: 1 met, 1 mixed." in finding(found)
    assert [table.count(f"| {word}") for word in ("met |", "mixed (1 met, 1 missed) |")] == [1, 1]


def test_a_row_that_was_not_run_says_why() -> None:
    one = of(claim(), Measured(condition="there", not_run="no weights"))
    assert "| there | \N{EN DASH} | at most 50.0 % |" in rows_table([one])
    assert "| not run: no weights |" in rows_table([one])
    assert "there: not run" in claims_table([one])
    assert "Not run: x." in finding([one])


def test_every_verdict_is_in_order(page: Page) -> None:
    record: PageRecord = measure(page)
    assert [name for name, _, _ in record.judged(page.claims())] == [
        "demo.paper", "demo.paper", "demo.bytes", "demo.slow", "demo.open",
    ]  # fmt: skip
    assert len(Claims(page.claims(), "x")) == 4
