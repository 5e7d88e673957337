"""The checks' page says what its newest record says; what the record holds is validated, not trusted."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from edgespeech.data.files import project_root

HERE = project_root() / "replication" / "checks"


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("checks_replicate", HERE / "replicate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record_of(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "created": "2026-01-01T00:00:00Z", "commit": "a" * 40, "dirty": False, "cpu_model": "a processor", "cores": 2,
        "rows": list(rows),
    }  # fmt: skip


CLAIMS = [{"id": "checks.x", "statement": "x holds", "low": 0.9, "high": 1.1}]


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(0.9, "reproduced"), (1.1, "reproduced"), (0.89, "not reproduced"), (1.11, "not reproduced")],
)
def test_the_verdict_follows_from_claim_and_measurement(
    checks: ModuleType, measured: float, verdict: str
) -> None:
    row = {"claim": "checks.x", "detail": "a detail", "measured": measured, "n": 3}
    assert f"| 3 | {verdict} |" in checks.table(record_of(row), CLAIMS)


def test_a_check_that_could_not_run_says_why(checks: ModuleType) -> None:
    text = checks.table(record_of({"claim": "checks.x", "skipped": "no weights"}), CLAIMS)
    assert "not run: no weights" in text


def test_the_page_is_rendered_from_its_newest_record(checks: ModuleType) -> None:
    record = json.loads(checks.newest().read_text(encoding="utf-8"))
    readme: Path = HERE / "README.md"
    assert checks.render(readme, record) == readme.read_text(encoding="utf-8")


def test_every_claim_is_measured(checks: ModuleType) -> None:
    claims = {claim["id"] for claim in yaml.safe_load((HERE / "claim.yaml").read_text(encoding="utf-8"))}
    record = json.loads(checks.newest().read_text(encoding="utf-8"))
    assert {row["claim"] for row in record["rows"] if "measured" in row} == claims


def test_coverage_of_a_too_narrow_interval_is_seen(
    checks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"experiments": 60, "speakers": 20, "utterances_per_speaker": 4}
    honest = checks.simulated_coverage(config, 0, clustered=True)
    real = checks.bootstrap_ratio

    def by_utterance(errors: Any, words: Any, groups: Any, **more: Any) -> Any:
        return real(errors, words, [None] * len(groups), **more)

    monkeypatch.setattr(checks, "bootstrap_ratio", by_utterance)
    assert checks.simulated_coverage(config, 0, clustered=True) < honest - 0.1
