"""Manifests as strangers write them: each odd line is refused with one message, or read as what it says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgespeech.audio.io import write_audio
from edgespeech.corpora.manifest import Manifest, load_manifest
from edgespeech.errors import EdgeSpeechError

LINE = {"id": "u0", "audio_filepath": "a.wav", "duration": 1.0, "text": "hello"}


def line(**changes: Any) -> str:
    return json.dumps({**LINE, **changes}, ensure_ascii=False) + "\n"


def read(folder: Path, content: str) -> Manifest:
    write_audio(folder / "a.wav", np.zeros(16_000, np.float32))
    path = folder / "m.jsonl"
    path.write_text(content, encoding="utf-8", newline="")
    return load_manifest(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            '{"id":"u0","audio_filepath":"a.wav","duration":1.0,"text":"a","text":"b"}',
            "key is 'text', expected once",
        ),
        (
            '{"id":"u0","audio_filepath":"a.wav","duration":1.0,"text":"a","x":{"y":1,"y":2}}',
            "key is 'y', expected",
        ),
        (line(id="caf\u00e9") + line(id="cafe\u0301"), "expected another id: line 1 has this one"),
        (line(id="u0 "), "expected one line, without white space around it"),
        (line(id="u\n0"), "expected one line, without white space around it"),
        (line(id="u\u202e0"), "marks of direction"),
        (line(id="u\x000"), "no control character such as"),
        (line(id="x" * 1001), "length of id is 1001, expected at most 1000"),
        (line(text="a\x00b"), r"text is 'a\\x00b', expected no control character"),
        (line(text="\x1b[31mred"), "no control character such as"),
        (line(speaker="\x1b[31m"), "speaker is .*, expected no control character such as"),
        (line(kind="a\x00b"), "kind is .*, expected no control character such as"),
        (line(context=["call", "\x07"]), "context is .*, expected no control character such as"),
        (line(mine={"x": ["\u009b2J"]}), "mine is .*, expected no control character such as"),
        (line(**{"a\x1b": 1}), "expected no control character such as"),
        (line(mine=0).replace(": 0", ": " + "1" * 4301), "not JSON"),
        (line(duration=float("nan")), "duration is nan, expected a finite number"),
        (line(duration=-0.0), "duration is -0.0, expected greater than 0"),
        (line(duration="1.0"), "duration is '1.0', expected a valid number"),
        (line(duration=True), "duration is True, expected a valid number"),
        (line(duration=10**400), "duration is .*, expected a valid number"),
        (line(offset=float("inf")), "offset is inf, expected a finite number"),
        (line(audio_filepath="http://x/a.wav"), "expected an existing file"),
        (line(audio_filepath="a\x00.wav"), "expected no control character"),
        (line(audio_filepath="."), "expected an existing file"),
        (line(audio_filepath=".", id=None), r"audio_filepath is '\.', expected an existing file"),
        (line(audio_filepath="", id=None), "audio_filepath is ''"),
        (line().replace("\n", "\r") + line(), "not JSON"),
        (f"[{line()}]", "not JSON|expected an object"),
        (line() + "\0\0\0", ":2: not JSON"),
    ],
)
def test_an_odd_line_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(EdgeSpeechError, match=problem):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        line().replace("\n", "\r\n") + line(id="u1"),
        "\ufeff" + line() + "\n \n" + line(id="u1"),
        line(id="A") + line(id="a"),
        line(text="two\u2028lines") + line(id="u1"),
        line(id="\u0645\u06cc\u200c\u062e") + line(id="u1"),  # a joiner of Persian
        line(audio_filepath="../{}/a.wav") + line(id="u1"),
    ],
)
def test_what_is_odd_and_clear_is_read(tmp_path: Path, content: str) -> None:
    assert len(read(tmp_path, content.replace("{}", tmp_path.name)).utterances) == 2


@pytest.mark.parametrize("name", ["m\udcff", "m\nn", "m\x1b[31m", " m", "m\u202e"])
def test_a_name_that_cannot_be_printed_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    """It is the corpus's name in the record and in tables."""
    path = tmp_path / f"{name}.jsonl"
    write_audio(tmp_path / "a.wav", np.zeros(16_000, np.float32))
    path.write_text(line())
    with pytest.raises(EdgeSpeechError, match=r"file name is ' ?m.*', expected"):
        load_manifest(path)
    assert load_manifest(path, "named").name == "named"


def test_a_pipe_is_no_manifest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.jsonl")
    for path in (tmp_path / "m.jsonl", tmp_path):
        with pytest.raises(EdgeSpeechError, match="is a folder, a pipe or a device, expected a file"):
            load_manifest(path)
    with pytest.raises(EdgeSpeechError, match="could not be read"):
        load_manifest(Path("a\0b.jsonl"))


def test_identity_is_that_of_the_audio_too(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (read(tmp_path / name, line()) for name in ("a", "b"))
    assert first.sha256 == second.sha256
    assert first.identity() == second.identity() != first.sha256
    write_audio(tmp_path / "b" / "a.wav", np.full(16_000, 0.5, np.float32))
    assert first.identity() != second.identity()
    hashed = read(tmp_path / "a", line(sha256="0" * 64))
    assert hashed.identity() == hashed.sha256
    (tmp_path / "b" / "a.wav").unlink()
    assert second.identity() == second.sha256  # its utterances fail, each with a message of its own


def test_hashes_are_those_of_the_present_content(tmp_path: Path) -> None:
    """So a file that is exchanged between the checks and the run is another file, whatever its times are."""
    made = read(tmp_path, line() + line(id="u1", sha256="0" * 64))
    hashed = made.hashed()
    assert hashed.utterances[1].sha256 == "0" * 64
    assert len(hashed.read(hashed.utterances[0])) == 16_000
    times = (tmp_path / "a.wav").stat()
    write_audio(tmp_path / "a.wav", np.full(16_000, 0.5, np.float32))
    os.utime(tmp_path / "a.wav", ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(EdgeSpeechError, match="it is another file"):
        hashed.read(hashed.utterances[0])
    assert made.hashed().utterances[0].sha256 != hashed.utterances[0].sha256
    (tmp_path / "a.wav").unlink()
    assert made.hashed().utterances[0].sha256 is None  # its utterance fails, with a message of its own
