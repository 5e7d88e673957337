"""The checks of the measuring code: every claim is measured, and a check can see what it is there to see."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from helpers_replication import load_replication


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    return load_replication("checks")


def test_every_claim_is_measured(checks: ModuleType) -> None:
    record = checks.PAGE.newest()
    assert {row.claim for row in record.rows} == {claim.id for claim in checks.PAGE.claims()}


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
