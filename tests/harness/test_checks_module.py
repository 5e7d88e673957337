"""A replication's page: what its table says, what is skipped, and that nothing of a page but its blocks changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import NO_RECORD, Page, measure, parser, render, run, table

CLAIMS = """\
- {id: demo.both, statement: both ends, low: 0.9, high: 1.1}
- {id: demo.same, statement: one value, low: 1.0, high: 1.0}
- {id: demo.least, statement: at least, low: 0.8}
- {id: demo.most, statement: at most, high: 5.0e+6}
- {id: demo.open, statement: as it is}
"""
README = """\
# Demo

<!-- table:demo -->
old
<!-- /table -->

Between them.

<!-- table:more -->
<!-- /table -->

The end.
"""


def good(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    yield {"claim": "demo.both", "detail": config["profile"], "measured": float(seed), "n": 3}


def half(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    del config, seed
    yield {"claim": "demo.open", "detail": "first", "measured": 0.5, "n": 2}
    raise EdgeSpeechError("/some/folder/model: is\n  not here | at all")


def more(record: dict[str, Any] | None) -> str:
    return f"{len(record['rows']) if record else 'no'} rows\n"


@pytest.fixture
def page(tmp_path: Path) -> Page:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "claim.yaml").write_text(CLAIMS)
    (folder / "config.yaml").write_text("seed: 1\n")
    (folder / "README.md").write_text(README)
    return Page(folder=folder, records=tmp_path / "records", checks=(good, half), blocks={"more": more})


def record_of(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "created": "2026-01-01T00:00:00Z", "commit": "a" * 40, "dirty": False, "cpu_model": "a processor", "cores": 2,
        "rows": list(rows),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "measured", "cells"),
    [
        ("both", 0.9, "both ends (d) | 0.9 to 1.1 | 0.9 | 3 | reproduced"),
        ("both", 1.1, "both ends (d) | 0.9 to 1.1 | 1.1 | 3 | reproduced"),
        ("both", 0.89, "both ends (d) | 0.9 to 1.1 | 0.89 | 3 | not reproduced"),
        ("both", 1.11, "both ends (d) | 0.9 to 1.1 | 1.11 | 3 | not reproduced"),
        ("both", float("nan"), "both ends (d) | 0.9 to 1.1 | nan | 3 | not reproduced"),
        ("same", 1.0, "one value (d) | 1 | 1 | 3 | reproduced"),
        ("least", 0.8, "at least (d) | at least 0.8 | 0.8 | 3 | reproduced"),
        ("least", 0.79, "at least (d) | at least 0.8 | 0.79 | 3 | not reproduced"),
        ("most", 5_000_000, "at most (d) | at most 5,000,000 | 5,000,000 | 3 | reproduced"),
        ("most", 5_000_001, "at most (d) | at most 5,000,000 | 5,000,001 | 3 | not reproduced"),
        ("open", 0.123456, "as it is (d) | \N{EN DASH} | 0.1235 | 3 | \N{EN DASH}"),
    ],
)
def test_the_verdict_follows_from_claim_and_measurement(
    page: Page, claim: str, measured: float, cells: str
) -> None:
    record = record_of({"claim": f"demo.{claim}", "detail": "d", "measured": measured, "n": 3})
    (page.records).mkdir()
    (page.records / "1.json").write_text(json.dumps(record))
    assert f"\n| {cells} |\n" in render(page, page.newest())


def test_a_skipped_row_keeps_its_claim_and_says_why() -> None:
    claims = [{"id": "demo.x", "statement": "x holds", "low": 1}]
    text = table(record_of({"claim": "demo.x", "detail": "there", "skipped": "no weights"}), claims)
    assert "| x holds (there) | at least 1 |  |  | not run: no weights |" in text


def test_a_row_without_a_claim_is_not_judged() -> None:
    text = table(record_of({"claim": "demo.y", "detail": "d", "measured": 1.0, "n": 1}), [])
    assert "| demo.y (d) |  |  |  | not run: no claim |" in text


def test_what_was_measured_before_an_error_is_kept(page: Page) -> None:
    record = measure(page, "full")
    assert record["config"] == {"seed": 1, "profile": "full"}
    assert record["rows"] == [
        {"claim": "demo.both", "detail": "full", "measured": 1.0, "n": 3},
        {"claim": "demo.open", "detail": "first", "measured": 0.5, "n": 2},
        {"claim": "demo.half", "skipped": "model: is\n  not here | at all"},
    ]
    assert "| demo.half |  |  |  | not run: model: is not here / at all |\n" in table(record, [])


def test_a_bug_is_no_skipped_check(page: Page) -> None:
    def broken(config: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
        yield {"claim": config["nothing"], "n": seed}

    with pytest.raises(KeyError):
        measure(Page(folder=page.folder, records=page.records, checks=(broken,)))


def test_only_the_blocks_of_a_page_change(page: Page) -> None:
    run(page)
    text = page.readme.read_text()
    assert text.startswith("# Demo\n\n<!-- table:demo -->\n\n| check | claimed |")
    assert "cores.\n\n<!-- /table -->\n\nBetween them.\n\n<!-- table:more -->\n\n3 rows\n" in text
    assert text.endswith("<!-- /table -->\n\nThe end.\n")
    assert "old" not in text
    run(page, render_only=True)
    assert page.readme.read_text() == text
    assert len(list(page.records.iterdir())) == 1


def test_the_newest_record_is_shown(page: Page) -> None:
    page.records.mkdir()
    for name in ("20260102T000000Z", "20260101T000000Z"):
        (page.records / f"{name}.json").write_text(json.dumps({"name": name}))
    assert page.newest() == {"name": "20260102T000000Z"}


def test_without_a_record_the_page_says_so(page: Page) -> None:
    assert page.newest() is None
    text = render(page, None)
    assert f"<!-- table:demo -->\n\n{NO_RECORD}\n<!-- /table -->" in text
    assert "no rows\n" in text


@pytest.mark.parametrize(
    "broken",
    [README.replace("table:more", "table:less"), "<!-- table:demo -->\n"],
    ids=["no such block", "no end"],
)
def test_a_page_without_its_block_is_refused(page: Page, broken: str) -> None:
    page.readme.write_text(broken)
    with pytest.raises(EdgeSpeechError, match=r"demo/README.md: block is"):
        render(page, None)


def test_the_options() -> None:
    made = parser("About.\n\nMore.")
    assert made.description == "About."
    given = made.parse_args(["--render"])
    assert (given.render, given.profile) == (True, "quick")
    with pytest.raises(SystemExit):
        made.parse_args(["--profile", "huge"])
