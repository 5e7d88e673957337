from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgespeech.contracts import Verdict
from edgespeech.records.records import Condition, Subset
from edgespeech.report.replication import Replicated, outcome, replicate_verdicts, replication_table
from helpers_records import publish


def put(folder: Path, **fields: Any) -> Path:
    made = publish(folder, **fields)
    return folder / f"{made.stem}.json"


def by_metric(found: list[Replicated]) -> dict[str, Replicated]:
    return {row.metric: row for row in found}


def test_the_same_words_on_a_subset_are_reproduced(tmp_path: Path) -> None:
    published = tmp_path / "published"
    put(published, n=60)
    here = put(tmp_path / "here", n=12, subset=Subset(n=12, seed=0), profile="quick")
    found = by_metric(replicate_verdicts([here], published))
    assert {row.verdict for row in found.values()} == {Verdict.REPRODUCED}
    paired = found["WER whisper-en"].paired
    assert paired is not None
    assert (paired.n, paired.a, paired.difference) == (12, paired.b, 0.0)
    assert found["not accepted"].whole is not None
    table = replication_table([here], published)
    assert "(n = 60)" in table
    assert "(n = 12)" in table
    assert "| reproduced |" in table


def test_other_words_are_not_reproduced_and_the_interval_is_printed(tmp_path: Path) -> None:
    published = tmp_path / "published"
    put(published, n=60, error=0.05)
    here = put(tmp_path / "here", n=60, error=0.5, seed=9)
    row = by_metric(replicate_verdicts([here], published))["WER whisper-en"]
    assert row.verdict is Verdict.NOT_REPRODUCED
    assert row.paired is not None
    assert 0 < row.paired.low < row.paired.difference
    assert f"[{100 * row.paired.low:.1f} %, {100 * row.paired.high:.1f} %]" in replication_table(
        [here], published
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "skipped", "reason": "no weights here"}, "no weights here"),
        ({"manifest": "another"}, "other manifests of toy_test"),
        ({"condition": Condition(context=True)}, "not in this profile"),
        ({"n": 1}, "1 utterances in both"),
    ],
)
def test_what_was_not_run_says_why(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    published = tmp_path / "published"
    put(published)
    here = put(tmp_path / "here", **change)
    (row,) = replicate_verdicts([here], published)
    assert row.verdict is Verdict.NOT_RUN
    assert row.reason.startswith(reason)
    assert f"not run: {reason}" in replication_table([here], published)


def test_nothing_published_yet(tmp_path: Path) -> None:
    assert replication_table([put(tmp_path / "here")], tmp_path / "none") == "Nothing is published yet.\n"


def test_the_outcome_is_one_line_a_row_that_ran_and_one_line_for_the_rest(tmp_path: Path) -> None:
    published = tmp_path / "published"
    for name in ("same", "worse", "gone"):
        put(published, system=name, n=60, error=0.05)
    put(published, system="same", condition=Condition(band="telephone"), n=60)
    missing = "toy: no source gives toy_test. Tried:\n  mirror toy: no mirror here"
    here = [
        put(tmp_path / "here", system="same", n=20, error=0.05),
        put(tmp_path / "here", system="worse", n=60, error=0.5, seed=9),
        put(tmp_path / "here", system="gone", status="skipped", reason=missing),
        put(tmp_path / "here", system="new", n=20),
        put(tmp_path / "here", system="new", corpus="other", status="skipped", reason=missing),
    ]
    text = outcome(here, published, "Profile quick: little.")
    table, left_out, not_run, count = text.split("\n\n")
    rows = {line.split(" | ")[0].strip("| "): line for line in table.splitlines()[2:]}
    assert list(rows) == ["same", "worse", "new"]
    assert rows["same"].endswith("| reproduced |")
    assert rows["worse"].endswith("| not reproduced: WER whisper-en, not accepted |")
    assert rows["new"].endswith("| nothing published |")
    assert left_out == "Profile quick: little."
    assert not_run == "Not run: 2 rows, toy: no source gives toy_test; 1 rows, not in this profile."
    assert count == "1 rows reproduced, 1 not, 3 not run\n"


def test_an_outcome_without_anything_published_compares_nothing(tmp_path: Path) -> None:
    text = outcome([put(tmp_path / "here")], None)
    assert "| nothing published |" in text
    assert text.endswith("\n0 rows reproduced, 0 not, 0 not run\n")
