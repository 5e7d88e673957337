from __future__ import annotations

import json
import lzma
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgespeech.errors import EdgeSpeechError
from edgespeech.records.records import (
    Condition,
    Figure,
    Record,
    load_record,
    load_records,
    load_rows,
    publish_record,
    sha256_json,
    without_paths,
    write_record,
)
from helpers_records import figure, provenance, publish, record, rows


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    said = rows(cloud=True)
    made = record(cloud=True, said=said)
    path = write_record(made, said, tmp_path)
    back = load_record(path)
    assert back.utterances_file == f"{made.stem}.hyps.jsonl"
    assert back.model_copy(update={"utterances_file": None, "utterances_sha256": None}) == made
    assert load_rows(tmp_path, back) == said
    assert load_records(tmp_path) == [back]


def test_published_rows_are_compressed_and_the_record_is_the_same(tmp_path: Path) -> None:
    said = rows(cloud=True)
    path = write_record(record(cloud=True, said=said), said, tmp_path / "made")
    for _ in range(2):  # the second time changes nothing
        publish_record(path, tmp_path / "there")
    made, there = load_record(path), load_record(tmp_path / "there" / path.name)
    assert there == made
    assert load_rows(tmp_path / "there", there) == said
    assert (tmp_path / "there" / path.name).read_bytes() == path.read_bytes()
    assert sorted(file.name for file in (tmp_path / "there").iterdir()) == [
        f"{made.stem}.hyps.jsonl.xz",
        path.name,
    ]


def test_what_is_published_is_not_replaced_and_damage_is_reported(tmp_path: Path) -> None:
    said = rows(cloud=False)
    path = write_record(record(said=said), said, tmp_path / "made")
    publish_record(path, tmp_path / "there")
    packed = next((tmp_path / "there").glob("*.xz"))
    packed.write_bytes(lzma.compress(lzma.decompress(packed.read_bytes()).replace(b"latte", b"mocha")))
    changed = packed.read_bytes()
    with pytest.raises(EdgeSpeechError, match="append-only"):
        publish_record(path, tmp_path / "there")
    assert packed.read_bytes() == changed
    with pytest.raises(EdgeSpeechError, match="sha256 is"):
        load_records(tmp_path / "there")
    packed.write_bytes(changed[:-20])
    with pytest.raises(EdgeSpeechError, match=rf"{packed.name}: cannot be read"):
        load_records(tmp_path / "there")


def test_infinity_is_the_string_inf(tmp_path: Path) -> None:
    made = publish(tmp_path, cloud=True)
    written = json.loads((tmp_path / f"{made.stem}.json").read_text())
    assert written["networks"]["wifi"]["latency"]["upl_p99"]["value"] == "inf"
    assert made.networks["wifi"].latency["upl_p99"].value == math.inf


def test_nan_is_refused() -> None:
    with pytest.raises(ValidationError, match="NaN"):
        figure(math.nan, "wer")


def test_an_interval_is_whole_and_ordered() -> None:
    with pytest.raises(ValidationError, match="together"):
        Figure(value=1, unit="s", n=1, low=0.5, definition="rtf")
    with pytest.raises(ValidationError, match="above"):
        Figure(value=1, unit="s", n=1, low=2, high=1, definition="rtf")


def test_writing_again_changes_nothing_and_other_content_is_refused(tmp_path: Path) -> None:
    said = rows(cloud=False)
    made = record(said=said)
    path = write_record(made, said, tmp_path)
    before = path.read_bytes()
    assert write_record(made, said, tmp_path) == path
    with pytest.raises(EdgeSpeechError, match="append-only"):
        write_record(made, [said[0].model_copy(update={"hyp_raw": "other"}), *said[1:]], tmp_path)
    with pytest.raises(EdgeSpeechError, match="append-only"):
        write_record(made.model_copy(update={"load_s": 9.0}), said, tmp_path)
    assert path.read_bytes() == before


def test_a_passed_record_has_a_row_for_every_utterance(tmp_path: Path) -> None:
    said = rows(cloud=False)
    with pytest.raises(EdgeSpeechError, match="rows is 19, expected one for each of 20"):
        write_record(record(said=said), said[1:], tmp_path)
    with pytest.raises(EdgeSpeechError, match="twice"):
        write_record(record(said=said), [said[1], *said[1:]], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_failed_and_skipped_say_why(tmp_path: Path) -> None:
    skipped = publish(tmp_path, status="skipped", reason="faster-whisper is not installed")
    assert load_records(tmp_path) == [skipped]
    assert load_rows(tmp_path, skipped) == []
    with pytest.raises(ValidationError, match="says why"):
        record(status="failed")


def test_unknown_fields_and_versions_are_named(tmp_path: Path) -> None:
    made = publish(tmp_path)
    path = tmp_path / f"{made.stem}.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, "wer": 0.1}))
    with pytest.raises(EdgeSpeechError, match=rf"{path.name}: unknown key 'wer', expected one of .*accuracy"):
        load_records(tmp_path)
    path.write_text(json.dumps({**good, "schema_version": 2}))
    with pytest.raises(EdgeSpeechError, match="schema_version is 2"):
        load_records(tmp_path)
    path.write_text("{")
    with pytest.raises(EdgeSpeechError, match="not JSON"):
        load_records(tmp_path)


def test_changed_or_missing_rows_are_found(tmp_path: Path) -> None:
    made = publish(tmp_path)
    hyps = tmp_path / f"{made.stem}.hyps.jsonl"
    text = hyps.read_text()
    hyps.write_text(text.replace("latte", "mocha"))
    with pytest.raises(EdgeSpeechError, match=f"sha256 is .*{made.utterances_sha256}"):
        load_records(tmp_path)
    hyps.unlink()
    with pytest.raises(EdgeSpeechError, match="a file beside the record"):
        load_records(tmp_path)


def test_a_renamed_record_is_refused(tmp_path: Path) -> None:
    made = publish(tmp_path)
    (tmp_path / f"{made.stem}.json").rename(tmp_path / "a.json")
    with pytest.raises(EdgeSpeechError, match=f"expected {made.stem}"):
        load_records(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["/home/me/model.bin", "no such file: '/srv/x/model.bin'", "C:\\models\\a", "path=/a/b", "~/models/a"],
)
def test_absolute_paths_never_enter_a_record(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="absolute path"):
        record(status="failed", reason=text)
    said = rows(cloud=False)
    said[3] = said[3].model_copy(update={"failure": text})
    with pytest.raises(EdgeSpeechError, match=r"jsonl:4: failure is .* without an absolute path"):
        write_record(record(said=said), said, tmp_path)
    cut = without_paths(text)
    assert record(status="failed", reason=cut).reason == cut


def test_what_is_no_path_stays() -> None:
    for text in (
        "https://example.org/a/b",
        "12 / 34 words",
        "50/20 Mbit/s",
        "and/or",
        "ws://127.0.0.1:80/a/b",
    ):
        assert without_paths(text) == text
        assert record(status="failed", reason=text).reason == text
    assert without_paths("cannot open '/srv/x/model.bin'") == "cannot open 'model.bin'"


def test_a_host_or_user_never_enters_a_record() -> None:
    made = record(status="failed", reason="x")
    dump = made.model_dump(mode="json")
    dump["system"]["config"] = {"server": {"hostname": "box"}}
    with pytest.raises(ValidationError, match="machine or a person"):
        Record.model_validate(dump)


def test_a_condition_is_whole() -> None:
    with pytest.raises(ValidationError, match="together"):
        Condition(noise="kitchen")
    assert Condition(noise="kitchen", snr_db=6, snr_rule="peak-frame").label == "kitchen 6 dB"
    assert Condition(context=True).label == "clean + context"
    band = Condition(band="telephone")
    assert (band.label, band.clean, Condition(context=True).clean) == ("telephone", False, True)
    stream = Condition(stream="wake_clean")
    assert (stream.label, stream.clean) == ("stream wake_clean", False)
    both = Condition(noise="kitchen", snr_db=6, snr_rule="mean", band="telephone", context=True)
    assert both.label == "kitchen 6 dB, telephone + context"


def test_run_ids_tell_runs_apart() -> None:
    said = rows(cloud=False)
    one = record(said=said)
    assert one.run_id == record(said=said).run_id
    others = [
        record(said=said, created="2026-01-02T03:04:06Z"),
        record(said=said, seed=1),
        record(said=said, system="other"),
        record(said=said, manifest="other"),
        record(said=said, condition=Condition(context=True)),
        record(said=said, machine=provenance(commit="f" * 40)),
    ]
    assert len({one.run_id, *(other.run_id for other in others)}) == len(others) + 1


def test_a_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert sha256_json({"a": 1, "b": math.inf}) == sha256_json({"b": math.inf, "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})
