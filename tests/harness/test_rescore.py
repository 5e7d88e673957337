from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.harness import rescore
from edgespeech.harness.rescore import current_records, verify_record
from edgespeech.records.records import load_records, write_record
from edgespeech.text.normalise import normalisers
from helpers_metrics import add_family
from helpers_records import figure, publish, record, rows


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


def test_what_was_scored_again_is_not_scored_a_third_time_unless_something_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    publish(tmp_path / "records", normaliser="v0")
    (first,) = current_records(tmp_path / "records")
    scored: list[Any] = []

    def again() -> int:
        scored.clear()
        rescore._rescored.cache_clear()  # as in the next process
        assert current_records(tmp_path / "records") == [first]
        return len(scored)

    with monkeypatch.context() as changed:
        changed.setattr(rescore, "_score", partial(_counting, scored, rescore._score))
        assert again() == 0
        (kept,) = (tmp_path / "work" / "rescored").iterdir()
        kept.write_text(kept.read_text()[:100])
        assert again() == 1
        assert again() == 0
        changed.setattr(rescore, "_scoring_code", lambda families: "other code")
        assert again() == 1
        (path,) = (tmp_path / "records").glob("*.json")
        verify_record(path)
        assert len(scored) == 2
        hyps = path.with_suffix(".hyps.jsonl")
        hyps.write_text(hyps.read_text().replace("tea", "pea"))
        rescore._rescored.cache_clear()
        with pytest.raises(EdgeSpeechError, match="sha256"):
            current_records(tmp_path / "records")


def _counting(calls: list[Any], score: Callable[..., Any], *words: Any) -> Any:
    calls.append(words)
    return score(*words)


def test_a_record_of_today_stays_as_it_is(tmp_path: Path) -> None:
    publish(tmp_path)
    assert current_records(tmp_path) == load_records(tmp_path)


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_a_run_without_rows_has_nothing_to_score(tmp_path: Path, status: str) -> None:
    publish(tmp_path, status=status, reason="why")
    assert current_records(tmp_path) == load_records(tmp_path)


def test_metrics_that_came_or_went_since_change_no_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = rows(cloud=False)
    stored = record(said=said, normaliser="v0")
    gone = figure(0.5, "gone", unit="ratio")
    old = {"long_words": figure(0.9, "long_words", unit="ratio"), "gone": gone}
    accuracy = {name: row.model_copy(update={"further": old}) for name, row in stored.accuracy.items()}
    (tmp_path / "records").mkdir()
    path = write_record(stored.model_copy(update={"accuracy": accuracy}), said, tmp_path / "records")
    add_family(monkeypatch, tmp_path, "rescored_family", id_="long_words", extra="words=True")
    add_family(monkeypatch, tmp_path, "younger_family", id_="younger", extra="words=True")
    (shown,) = current_records(tmp_path / "records")
    for name, row in shown.accuracy.items():
        assert row.further.keys() == {"long_words", "gone"}
        assert row.further["gone"] == gone
        words = " ".join(normalisers()[name].all([one.hyp_raw for one in said])).split()
        assert row.further["long_words"].value == sum(len(word) > 4 for word in words) / len(words)
    assert not any("younger" in text for text in verify_record(path).wrong)
