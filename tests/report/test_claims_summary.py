from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech.contracts import Verdict
from edgespeech.pipeline import summary
from edgespeech.records.claims import Bar, Claim, Claims, Kind, Measured, judge
from edgespeech.report import page
from edgespeech.report.claims_summary import claims_summary
from edgespeech.report.page import Judged

BAR = Bar(direction="below", value=0.0)
INSIDE, OUTSIDE, ACROSS = ((-2.0, -1.0), (1.0, 2.0), (-1.0, 1.0))


def claim(name: str, source: str = "own bar") -> Claim:
    kind = Kind.TARGET if source == "own bar" else Kind.PAPER
    return Claim(id=f"t.{name}", short=name, text=name, kind=kind, source=source, unit="points", bar=BAR)


def judged(one: Claim, *ends: tuple[float, float]) -> Judged:
    measured = [Measured(value=(low + high) / 2, low=low, high=high, n=9) for low, high in ends]
    return Judged(one, tuple((found, judge(one, found)) for found in measured))


def test_claims_are_counted_by_their_verdict() -> None:
    found = {
        "t": [
            judged(claim("holds", "A 2020, abstract: x"), INSIDE),
            judged(claim("fails", "A 2020, abstract: y"), OUTSIDE, OUTSIDE),
            judged(claim("open", "B 2021: z"), ACROSS),
            judged(claim("differs", "B 2021: z"), INSIDE, OUTSIDE),
            judged(claim("met"), INSIDE),
        ],
        "u": [judged(claim("missed"), OUTSIDE), judged(claim("absent"))],
    }
    text = claims_summary(found)
    assert "**4 claims of 2 papers: 1 reproduced, 1 not reproduced, 1 undecided, 1 mixed.**" in text
    assert "3 targets of our own: 1 met, 1 missed, 0 undecided, 1 not run." in text
    assert "* Reproduced: holds (`t`).\n" in text
    assert "* Not reproduced: fails (`t`).\n" in text
    assert "* Mixed: differs (`t`).\n" in text
    assert claims_summary({}) == "No claim yet.\n"


def test_without_a_record_nothing_was_run() -> None:
    (one,) = page.judged(Claims([claim("a")], "t/claim.yaml"), None)
    assert one.measured == ()
    assert f"1 {Verdict.NOT_RUN}" in claims_summary({"t": [one]})


def test_the_claims_of_the_repository_are_read_from_their_newest_records() -> None:
    text = summary.claims_text()
    assert " papers: " in text
    assert "No claim yet" not in text


def test_a_checkout_without_replications_has_no_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "project_root", lambda: tmp_path)
    assert summary.claims_text() == "No claim yet.\n"
