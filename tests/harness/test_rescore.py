from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech.harness.rescore import current_records
from edgespeech.records.records import load_records
from edgespeech.text.normalise import normalisers
from helpers_records import publish


def test_an_old_version_is_scored_again_from_raw_hypotheses(tmp_path: Path) -> None:
    publish(tmp_path, normaliser="v0")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (stored,), (shown,) = load_records(tmp_path), current_records(tmp_path)
    for name, row in shown.accuracy.items():
        assert (row.normaliser_version, row.normaliser_sha256) == (
            normalisers()[name].version,
            normalisers()[name].sha256,
        )
        assert row.ref_words == row.hits + row.substitutions + row.deletions
    assert shown.model_copy(update={"accuracy": stored.accuracy}) == stored
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_record_of_today_stays_as_it_is(tmp_path: Path) -> None:
    publish(tmp_path)
    assert current_records(tmp_path) == load_records(tmp_path)


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_a_run_without_rows_has_nothing_to_score(tmp_path: Path, status: str) -> None:
    publish(tmp_path, status=status, reason="why")
    assert current_records(tmp_path) == load_records(tmp_path)
