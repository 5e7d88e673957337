"""Lists of phrases as people write them: everything that is wrong is named with its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgespeech.corpora.phrases import MAX_BYTES, PhraseList, load_list, load_phrases
from edgespeech.errors import EdgeSpeechError


def written(folder: Path, data: bytes | str) -> str:
    path = folder / "list.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def test_a_list_by_its_name() -> None:
    assert "extra large" in load_phrases("coffee")
    with pytest.raises(EdgeSpeechError, match="--context: list is 'nosuch', expected a text file"):
        load_list("nosuch")


@pytest.mark.parametrize(
    "data",
    [
        b"Ann Lee\nBo\n",
        b"\xef\xbb\xbfAnn Lee\nBo\n",
        b"Ann Lee\r\nBo\r\n",
        b"# friends\n\nAnn   Lee  \n   \n  Bo",
    ],
    ids=["plain", "BOM", "CRLF", "comments and spaces"],
)
def test_ways_to_write_the_same_list(tmp_path: Path, data: bytes) -> None:
    assert load_list(written(tmp_path, data)) == PhraseList(("Ann Lee", "Bo"))


def test_duplicates_are_left_out_and_counted(tmp_path: Path) -> None:
    found = load_list(written(tmp_path, "Ann\nBo\nAnn\nAnn\n"))
    assert found.phrases == ("Ann", "Bo")
    assert found.remarks == ("2 context phrases are in the list twice (line 3, ...)",)


def test_weights_are_optional(tmp_path: Path) -> None:
    assert load_list(written(tmp_path, "Ann\t2\nBo\n")) == PhraseList(("Ann", "Bo"), (2.0, 1.0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Ann\nB\xff\n", "line 2: byte is '0xff', expected UTF-8"),
        (b"Ann\n\t2\n", "line 2: phrase is .*, expected words before the tab"),
        (b"Ann\t-1\n", "line 1: weight is '-1', expected a number of at least 0"),
        (b"Ann\nBo\tinf\n", "line 2: weight is 'inf'"),
        (b"Ann\nBo\tnan\n", "line 2: weight is 'nan'"),
        (b"Ann\nBo\ttwo\n", "line 2: weight is 'two'"),
        (b"Ann\nB\x00o\n", "line 2: phrase is .*, expected no control characters"),
        (b"", "number of phrases is 0, expected 1 to 200000"),
        (b"# nobody\n\n", "number of phrases is 0, expected 1 to 200000"),
        (b"x" * (MAX_BYTES + 1), "size in bytes is 'over 16000000'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        load_list(written(tmp_path, data))


def test_a_million_phrases_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "\n".join(map(str, range(1_000_000))))
    with pytest.raises(EdgeSpeechError, match="number of phrases is 1000000, expected 1 to 200000"):
        load_list(path)


def test_what_is_no_file_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "/dev/null"):
        with pytest.raises(
            EdgeSpeechError, match=f"--context: list is '{name}', expected a text file: this is a"
        ):
            load_list(name)
    with pytest.raises(EdgeSpeechError, match=r"list is 'manifest', .*there is no manifest here"):
        load_list("manifest")
    Path("manifest").write_text("latte\n", encoding="utf-8")
    assert load_list("manifest").phrases == ("latte",)
