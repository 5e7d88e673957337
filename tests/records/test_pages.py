"""Page records: written once, guarded, read again; and every committed one is readable, the earliest too."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edgespeech.contracts import Verdict
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.records.claims import Claim, Claims, Measured, load_claims
from edgespeech.records.code import sha256_of
from edgespeech.records.pages import (
    CODE_DIGITS,
    UNHASHED,
    Machine,
    NotRun,
    PageRecord,
    PageRow,
    load_page,
    newest,
    row_of,
    write_page,
)
from edgespeech.records.used import note_manifest, note_model, note_subset, noting

ROOT = project_root()
TECHNIQUES = sorted(path.parent.name for path in (ROOT / "replication").glob("*/claim.yaml"))


def claim(name: str, unit: str = "share", **changes: Any) -> Claim:
    fields = {"id": name, "short": "s", "text": "t", "kind": "target", "unit": unit}
    return Claim.model_validate({**fields, "bar": {"direction": "at_most", "value": 0.5}, **changes})


CLAIMS = Claims([claim("demo.x"), claim("demo.y")], "demo/claim.yaml")


def record(*rows: PageRow, **changes: Any) -> PageRecord:
    fields: dict[str, Any] = {
        "technique": "demo", "created": "2026-01-02T03:04:05Z", "profile": "quick", "utterances": {"a": 4},
        "code_sha256": "0" * 64, "manifests": {"a": "1" * 64}, "models": {}, "commit": "c" * 40, "dirty": False,
        "machine": Machine(cpu_model="a processor", cores=2, python="3.11"), "versions": {"numpy": "2.4"},
        "config": {"seed": 1, "profile": "quick"}, "rows": rows,
    }  # fmt: skip
    return PageRecord(**fields | changes)


ROW = PageRow(claim="demo.x", measured=Measured(condition="d", value=0.4, low=-math.inf, high=0.45, n=4))


def test_a_record_is_read_as_it_was_written_and_never_replaced(tmp_path: Path) -> None:
    made, folder = record(ROW, PageRow(data={"table": [1, 2]})), tmp_path / "demo"
    path = write_page(made, folder)
    assert path.name == "20260102T030405Z.json"
    assert load_page(path, CLAIMS) == made
    assert newest(folder, CLAIMS) == made
    write_page(made, folder)
    with pytest.raises(EdgeSpeechError, match="append-only"):
        write_page(record(), folder)
    assert newest(tmp_path / "none", CLAIMS) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": None}, "names its profile"),
        ({"utterances": None}, "its utterances"),
        ({"code_sha256": None}, "the hash of its code"),
        ({"config": {"hostname": "box"}}, "machine or a person"),
        ({"config": {"file": "/home/somebody/x.wav"}}, "absolute path"),
        ({"not_run": (NotRun(part="p", reason="no file at /srv/data/x"),)}, "absolute path"),
        ({"created": "yesterday"}, "pattern"),
        ({"extra": 1}, "Extra inputs"),
        ({"rows": ({"claim": "demo.x"},)}, "come together"),
    ],
)
def test_a_record_that_is_not_honest_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        record(**changes)


def test_a_row_of_an_unknown_claim_is_an_error(tmp_path: Path) -> None:
    path = write_page(record(ROW), tmp_path / "demo")
    with pytest.raises(EdgeSpeechError, match=r"claim is 'demo\.x', expected one of demo\.z"):
        load_page(path, Claims([claim("demo.z")], "demo/claim.yaml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "content|dictionary|object"),
        ('{"schema_version": 1, "unknown": 2}', "is missing"),
        ('{"rows": []}', "config is missing|created is missing"),
    ],
)
def test_a_file_that_is_no_record_says_so(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "demo" / "20260102T030405Z.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(EdgeSpeechError, match=message) as caught:
        load_page(path, CLAIMS)
    assert "demo/20260102T030405Z.json" in str(caught.value)


def test_a_record_lies_in_its_own_folder_under_its_own_name(tmp_path: Path) -> None:
    path = write_page(record(), tmp_path / "other")
    with pytest.raises(EdgeSpeechError, match="technique is 'demo', expected"):
        load_page(path, Claims([], "other/claim.yaml"))
    path = write_page(record(), tmp_path / "demo").rename(tmp_path / "demo" / "20260101T000000Z.json")
    with pytest.raises(EdgeSpeechError, match="file name"):
        load_page(path, CLAIMS)


def test_a_claim_without_a_row_is_not_run_for_the_reason_that_is_known() -> None:
    judged = record(ROW, not_run=(NotRun(part="live", reason="no server"),)).judged(CLAIMS)
    assert [(name, judgement.verdict, judgement.reason) for name, _, judgement in judged] == [
        ("demo.x", Verdict.MET, ""),
        ("demo.y", Verdict.NOT_RUN, "live: no server"),
    ]


def test_a_record_of_other_code_or_another_configuration_is_stale() -> None:
    code = {f"{name}.py": f"{number}" * 64 for number, name in enumerate("abcde")}
    other = {**code, "a.py": "f" * 64}
    made = record(code_sha256=sha256_of(code))
    assert made.stale(code, {"seed": 1}) is None
    assert made.stale(other, {"seed": 1}) == "the code that measures has changed since"
    assert "configuration" in (made.stale(code, {"seed": 2}) or "")
    assert record(schema_version=0, code_sha256=None).stale(code, {"seed": 1}) == UNHASHED
    short = {name: found[:CODE_DIGITS] for name, found in code.items()}
    named = record(code_sha256=sha256_of(code), code=short)
    assert named.stale(code, {"seed": 1}) is None
    assert named.stale(other, {"seed": 1}) == "of 5 files that measure, these have changed since: `a.py`"
    rewritten = {name: "e" + found[1:] for name, found in code.items()}
    assert (named.stale(rewritten, {"seed": 1}) or "").endswith("`a.py`, `b.py`, `c.py` and 2 more")


def test_rows_of_checks_become_rows_of_records() -> None:
    told = {"claim": "demo.x", "detail": "d", "measured": 1, "low": 0, "high": 2, "n": 3, "seeds": 3,
            "resampled": ("seeds", "speakers"), "picture": [1]}  # fmt: skip
    row = row_of(told, "check")
    assert isinstance(row, PageRow)
    assert row.measured == Measured(
        condition="d", value=1, low=0, high=2, n=3, seeds=3, resampled=("seeds", "speakers")
    )
    assert row.data == {"picture": [1]}
    assert row_of({"arms": []}, "check") == PageRow(data={"arms": []})
    assert row_of({"part": "p", "skipped": "why"}, "check") == NotRun(part="p", reason="why")
    with pytest.raises(EdgeSpeechError, match=r"check: demo\.x"):
        row_of({"claim": "demo.x", "n": 1}, "check")
    with pytest.raises(EdgeSpeechError, match=r"nan|NaN"):
        row_of({"claim": "demo.x", "measured": math.nan, "n": 1}, "check")


def test_what_is_read_is_noted_while_somebody_listens() -> None:
    note_manifest("before", "0" * 64, 9)
    with noting() as used:
        note_manifest("a", "1" * 64, 9)
        note_manifest("b", "2" * 64, 7)
        note_subset("a", 3)
        note_subset("a", 2)
        note_model("m", lambda: "3" * 64)
    note_model("after", lambda: pytest.fail("hashed in vain"))
    assert used.manifests == {"a": "1" * 64, "b": "2" * 64}
    assert used.utterances == {"a": 3, "b": 7}
    assert used.models == {"m": "3" * 64}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_committed_record_is_readable(name: str) -> None:
    claims = load_claims(ROOT / "replication" / name / "claim.yaml")
    files = sorted((ROOT / "results" / name).glob("*.json"))
    assert files
    for path in files:
        made = load_page(path, claims)
        before = json.loads(path.read_text(encoding="utf-8"))
        assert made.created == before["created"]
        assert made.judged(claims)


def earlier(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "created": "2026-01-01T00:00:00Z", "commit": "a" * 40, "dirty": False, "config": {"profile": "full"},
        "versions": {}, "cpu_model": "a processor", "cores": 2, "python": "3.11", "rows": list(rows),
    }  # fmt: skip


COMPARED = {"difference": -0.01, "low": -0.02, "high": 0.005, "relative": -0.1, "seeds": 3, "n": 60}


@pytest.mark.parametrize(
    ("unit", "row", "wanted"),
    [
        ("points", {"detail": "a against b, pooled, 3 seed(s): -1.00 points, 95 % -2.00 to 0.50: tie",
                    "measured": 0.005, "n": 60, "compared": COMPARED},
         Measured(condition="a against b, pooled", value=-0.01, low=-0.02, high=0.005, n=60, seeds=3)),
        ("relative", {"detail": "a against b, pooled, 1 seed(s): -1.00 points, 95 % -2.00 to 0.50: tie",
                      "measured": -0.1, "n": 60, "compared": COMPARED},
         Measured(condition="a against b, pooled", value=-0.1, n=60)),
        ("points", {"detail": "beam 4; -2.96 points, 95 % -4.82 to -1.33", "measured": 0.39, "n": 60},
         Measured(condition="beam 4", value=-0.0296, low=-0.0482, high=-0.0133, n=60)),
        ("relative", {"detail": "beam 4; -2.96 points, 95 % -4.82 to -1.33", "measured": 0.39, "n": 60},
         Measured(condition="beam 4", value=0.39, n=60)),
        ("points", {"detail": "beam 4; difference -0.20 points", "measured": -0.019, "n": 60},
         Measured(condition="beam 4", value=-0.002, n=60)),
        ("points", {"detail": "c: 77.0 % accepted against 79.7 %; difference 95 % -2.0 to 7.3 points: tie",
                    "measured": -0.02, "n": 300},
         Measured(condition="c: 77.0 % accepted against 79.7 %", value=0.027, low=-0.02, high=0.073, n=300)),
        ("s", {"detail": "learned, x; 95 % -inf to 1.26", "measured": 0.39, "n": 60},
         Measured(condition="learned, x", value=0.39, low=-math.inf, high=1.26, n=60)),
        ("share", {"detail": "x, clean; 95 % 0.0781 to 0.147", "measured": 0.11, "n": 130},
         Measured(condition="x, clean", value=0.11, low=0.0781, high=0.147, n=130)),
        ("points", {"detail": "x, greedy; 95 % -6e-05 to 0.0055", "measured": 0.001, "n": 130},
         Measured(condition="x, greedy", value=0.001, low=-6e-05, high=0.0055, n=130)),
        ("share", {"detail": "x", "measured": 0.1, "n": 1}, Measured(condition="x", value=0.1, n=1)),
        ("share", {"detail": "x", "skipped": "no model"}, Measured(condition="x", not_run="no model")),
    ],
)  # fmt: skip
def test_an_earlier_row_has_the_same_values(
    tmp_path: Path, unit: str, row: dict[str, Any], wanted: Measured
) -> None:
    path = tmp_path / "demo" / "20260101T000000Z.json"
    path.parent.mkdir()
    path.write_text(json.dumps(earlier({"claim": "demo.x", **row})))
    (found,) = load_page(path, Claims([claim("demo.x", unit)], "demo/claim.yaml")).rows
    assert found.measured is not None
    for name, value in wanted:
        got = getattr(found.measured, name)
        assert got == (pytest.approx(value) if isinstance(value, float) else value), name


def test_an_earlier_row_of_an_unknown_claim_is_an_error_unless_it_was_not_run(tmp_path: Path) -> None:
    path = tmp_path / "demo" / "20260101T000000Z.json"
    path.parent.mkdir()
    path.write_text(json.dumps(earlier({"claim": "demo.part", "skipped": "no model"})))
    assert load_page(path, CLAIMS).not_run == (NotRun(part="demo.part", reason="no model"),)
    path.write_text(json.dumps(earlier({"claim": "demo.mispelt", "measured": 1.0, "n": 1})))
    with pytest.raises(EdgeSpeechError, match=r"claim is 'demo\.mispelt'"):
        load_page(path, CLAIMS)
