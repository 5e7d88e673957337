from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edgespeech.contracts import Difference
from edgespeech.errors import EdgeSpeechError
from edgespeech.records.records import Condition, Subset, load_rows
from edgespeech.report.compare import compare_records, pair, records_comparable
from edgespeech.text.normalise import normalisers
from helpers_records import provenance, publish


def put(folder: Path, **fields: Any) -> Path:
    made = publish(folder, n=60, **fields)
    return folder / f"{made.stem}.json"


def test_a_worse_system_is_worse_and_the_difference_is_paired(tmp_path: Path) -> None:
    a = put(tmp_path, system="good", error=0.05, seed=1)
    b = put(tmp_path, system="bad", error=0.4, seed=2)
    found = compare_records(a, b)
    by_metric = {row.metric: row for row in found.rows}
    assert list(by_metric) == [
        "WER basic",
        "WER whisper-en",
        "not accepted",
        "UPL wifi, median",
        "UPL lte, median",
    ]
    wer = by_metric["WER basic"]
    assert wer.verdict is Difference.BETTER
    assert wer.a == found.a.accuracy["basic"].wer.value
    assert wer.difference == pytest.approx(wer.a - wer.b)
    assert wer.low <= wer.difference <= wer.high < 0
    assert wer.method == "bootstrap over 5 speakers, 2000 resamples"
    back = {row.metric: row for row in compare_records(b, a).rows}["WER basic"]
    assert back.verdict is Difference.WORSE
    assert back.difference == pytest.approx(-wer.difference)
    text = found.to_text()
    assert "A: good.toy_test" in text
    assert "| WER basic |" in text
    assert "A - B is the median of the utterances' paired differences" in text


def test_a_record_ties_with_itself(tmp_path: Path) -> None:
    a = put(tmp_path, system="good")
    found = compare_records(a, a)
    assert {row.verdict for row in found.rows} == {Difference.TIE}
    assert {row.difference for row in found.rows} == {0.0}


def test_latencies_of_two_machines_are_not_compared(tmp_path: Path) -> None:
    a = put(tmp_path, system="here")
    b = put(tmp_path, system="there", machine=provenance(cpu_model="Another CPU"))
    found = compare_records(a, b)
    assert not [row for row in found.rows if row.metric.startswith("UPL")]
    assert "never compared between machines" in found.to_text()
    assert "paired differences" not in found.to_text()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"manifest": "other"}, "other manifests of toy_test"),
        ({"corpus": "other_test"}, "other corpora: toy_test and other_test"),
        ({"subset": Subset(n=60, seed=3)}, "other subsets of toy_test: all and 60 by seed 3"),
        ({"condition": Condition(noise="kitchen", snr_db=6, snr_rule="mean")}, "other conditions"),
        ({"status": "skipped", "reason": "no weights"}, "skipped: no weights"),
    ],
)
def test_other_data_are_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    a = put(tmp_path, system="one")
    b = put(tmp_path, system="two", **change)
    with pytest.raises(EdgeSpeechError, match=f"must not be compared: .*{reason}"):
        compare_records(a, b)


@pytest.mark.parametrize(
    "content", ["# Results", '{"id": "u0"}\n{"id": "u1"}', '{"technique": "qat"}', "[]", "\xff"]
)
def test_a_file_that_is_no_record_is_called_that(tmp_path: Path, content: str) -> None:
    other = tmp_path / "other.json"
    other.write_text(content, encoding="latin-1")
    with pytest.raises(
        EdgeSpeechError, match=r"other\.json: not a record of a run, expected .*evaluate"
    ) as refused:
        compare_records(put(tmp_path, system="good"), other)
    assert "\n" not in str(refused.value)


def test_a_damaged_or_missing_record_has_a_message_of_its_own(tmp_path: Path) -> None:
    good = put(tmp_path, system="good")
    with pytest.raises(EdgeSpeechError, match=r"none\.json") as refused:
        compare_records(good, tmp_path / "none.json")
    assert "not a record" not in str(refused.value)
    good.write_text(good.read_text().replace('"system"', '"sistem"'))
    with pytest.raises(EdgeSpeechError, match="system is missing"):
        compare_records(good, good)


def test_other_normalisers_are_refused(tmp_path: Path) -> None:
    a = publish(tmp_path)
    fewer = a.model_copy(update={"accuracy": {"basic": a.accuracy["basic"]}})
    assert records_comparable(a, fewer) == "other normalisers: basic, whisper-en and basic"


def test_other_versions_of_a_normaliser_are_scored_again_under_one_and_it_says_so(tmp_path: Path) -> None:
    a, b = put(tmp_path), put(tmp_path, normaliser="v2", system="b")
    known = normalisers()["basic"]
    compared = compare_records(a, b)
    assert compared.rows == compare_records(a, put(tmp_path / "today", system="b")).rows
    assert f"WER basic is of version {known.version}; the records have 1." in compared.to_text()


def test_other_noise_segments_are_refused_and_context_is_not(tmp_path: Path) -> None:
    noisy = Condition(noise="kitchen", snr_db=6, snr_rule="mean")
    a, b = publish(tmp_path, condition=noisy), publish(tmp_path, condition=noisy, seed=1)
    assert records_comparable(a, b) == "other noise segments: seed 0 and 1"
    plain, prompted = publish(tmp_path), publish(tmp_path, condition=Condition(context=True))
    assert records_comparable(plain, prompted) is None


def test_a_subset_is_comparable_utterance_by_utterance(tmp_path: Path) -> None:
    whole, part = publish(tmp_path, n=20), publish(tmp_path, n=8, subset=Subset(n=8, seed=0))
    assert records_comparable(part, whole, whole=False) is None
    pairs = pair(load_rows(tmp_path, part), load_rows(tmp_path, whole))
    assert [a.id for a, _ in pairs] == [f"u{n:03d}" for n in range(8)]


def test_another_reference_is_found(tmp_path: Path) -> None:
    rows = load_rows(tmp_path, publish(tmp_path))
    changed = [rows[0].model_copy(update={"ref": "other words"}), *rows[1:]]
    with pytest.raises(EdgeSpeechError, match="u000: reference is 'other words'"):
        pair(rows, changed)


def test_a_pipe_is_no_record(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EdgeSpeechError, match="is a pipe or a device, expected a file"):
        compare_records(tmp_path / "pipe", tmp_path / "pipe")
