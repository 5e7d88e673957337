"""Records and rows that somebody else made, packed, cut or edited."""

from __future__ import annotations

import json
import lzma
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.rescore import verify_record
from edgespeech.records import records as records_module
from edgespeech.records.provenance import git_state
from edgespeech.records.records import Record, load_record, load_records, load_rows
from edgespeech.report.table import Cell, Table
from edgespeech.report.text import escaped
from helpers_records import publish


def edited(folder: Path, record: Record, change: dict[str, Any]) -> Path:
    """The record with other values, as a person edits them: by dotted path."""
    path = folder / f"{record.stem}.json"
    content = json.loads(path.read_text())
    for name, value in change.items():
        *above, last = name.split("/")
        where = content
        for part in above:
            where = where[part]
        where[last] = value
    path.write_text(json.dumps(content))
    return path


def test_what_a_harness_wrote_is_its_rows(tmp_path: Path) -> None:
    record = publish(tmp_path, n=20)
    found = verify_record(tmp_path / f"{record.stem}.json")
    # Rates and times of the made record are given, and not of its rows.
    given = ("word errors", "chunk_p", "rtf", "wifi: upl_p", "lte: upl_p")
    assert [line for line in found.wrong if not line.startswith(given)] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"accuracy/basic/wer/value": 0.001, "accuracy/basic/wer/low": 0.0},
            "WER basic is 0.001, its counts say",
        ),
        ({"accuracy/whisper-en/substitutions": 0}, "WER whisper-en is"),
        ({"accuracy/basic/hits": 1}, "WER basic is"),
        ({"corpus/n_failed": 3}, "n_failed is 3"),
        ({"corpus/audio_s": 9999.0}, "audio_s is 9999.0, the rows say"),
        ({"corpus/ref_words": 7}, "ref_words is 7"),
        ({"acceptance/value": 1.0, "acceptance/high": 1.0}, "acceptance is 1.0, the rows say"),
    ],
)
def test_a_figure_edited_by_hand_is_found(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = edited(tmp_path, publish(tmp_path, n=20), change)
    assert any(line.startswith(message) for line in verify_record(path).wrong), verify_record(path).wrong


def test_rows_edited_by_hand_are_found(tmp_path: Path) -> None:
    record = publish(tmp_path, n=5)
    assert record.utterances_file is not None
    rows = tmp_path / record.utterances_file
    rows.write_text(rows.read_text().replace("u001", "u999"))
    with pytest.raises(EdgeSpeechError, match="sha256 is"):
        load_record(tmp_path / f"{record.stem}.json")


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"seed": ' + b"1" * 10_000 + b"}",
        b"\xff\xfe",
        b"",
        b"Mac OS X",
        b'{"schema_version": 2}',
        b"null",
        b"[]",
        b'{"status": "passed", "status": "failed"}',
    ],
    ids=lambda content: ascii(content[:12]),
)
def test_a_record_that_is_none_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "it.json").write_bytes(content)
    with pytest.raises(EdgeSpeechError, match=r"it\.json"):
        load_records(tmp_path)


@pytest.mark.parametrize("name", ["._x.json", ".hidden.json", ".DS_Store.json"])
def test_what_systems_hide_in_a_folder_is_no_record(tmp_path: Path, name: str) -> None:
    record = publish(tmp_path)
    (tmp_path / name).write_bytes(b"Mac OS X")
    assert load_records(tmp_path) == [record]


def packed(folder: Path, content: bytes) -> Record:
    """A record whose rows are packed, with this in place of them."""
    record = publish(folder, n=3)
    assert record.utterances_file is not None
    (folder / record.utterances_file).unlink()
    (folder / f"{record.utterances_file}.xz").write_bytes(content)
    return record


def test_packed_rows_that_are_endless_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "MAX_ROWS_BYTES", 100_000_000)
    record = packed(tmp_path, lzma.compress(b"\0" * 150_000_000, preset=1))
    with pytest.raises(EdgeSpeechError, match="size in bytes, unpacked is 'over 100000000'"):
        load_rows(tmp_path, record)


@pytest.mark.parametrize(
    "content",
    [b"", b"no xz", lzma.compress(b"{}")[:-5], lzma.compress(b"{}") + b"x", lzma.compress(b"\xff\xff")],
)
def test_packed_rows_that_are_damaged_are_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(EdgeSpeechError, match=r"\.xz: cannot be read"):
        load_rows(tmp_path, packed(tmp_path, content))


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "<img src=x onerror=y>", "a](http://evil.example)", "two\nlines"]
)
def test_what_a_record_says_is_text_in_markdown(text: str) -> None:
    shown = escaped(text)
    assert "<" not in shown
    assert "](" not in shown
    assert "\n" not in shown
    table = Table(name="a", title="A", head=("x",), rows=((Cell(text),),), notes=(text,))
    assert "<script" not in table.markdown()
    assert "<img" not in table.markdown()


def test_a_copy_in_somebody_else_s_repository_has_no_commit(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.email=a@b.c", "-c", "user.name=n"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "unzipped").mkdir()
    assert git_state(tmp_path / "unzipped") == ("unknown", True)
    commit, dirty = git_state(tmp_path)
    assert (len(commit), dirty) == (40, False)  # git does not see an empty folder
