"""Whoever wrote a YAML file, reading it costs little, and what is wrong is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgespeech.core.yaml_files import MAX_DEPTH, load_yaml
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.plan import load_plan
from edgespeech.report.reference import load_references
from edgespeech.text.grammar_rules import load_rules
from edgespeech.training.config import load_train_config
from edgespeech.training.fusion import load_fusion_config

BOMB = b"a0: &a0 [x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 30)
)
WRONG = {
    "alias bomb": BOMB,
    "alias bomb of keys": b"a: &a {b: c}\n" + b"".join(b"k%d: &k%d {x: *a, y: [*a, *a]}\n" % (n, n) for n in range(9))
    + BOMB,
    "alias of itself": b"a: &a [*a]\n",
    "alias of its mapping": b"a: &a {b: *a}\n",
    "nested lists": b"[" * 5000 + b"]" * 5000,
    "nested mappings": b"{a: " * 3000 + b"1" + b"}" * 3000,
    "nested blocks": b"".join(b" " * n + b"a:\n" for n in range(500)),
    "nested dashes": b"- " * 2000 + b"x",
    "endless integer": b"a: " + b"1" * 100_000,
    "endless hexadecimal": b"a: 0x" + b"f" * 100_000,
    "endless base 60": b"a: 1" + b":1" * 50_000,
    "not UTF-8": b"a: \xff\xfe\n",
    "UTF-16": "a: b".encode("utf-16"),
    "a zero byte": b"a: \0\n",
    "a tab": b"a:\n\t- b\n",
    "an unknown tag": b"a: !!python/object/apply:os.system [ls]\n",
    "a date that is none": b"a: 2026-99-99\n",
    "binary that is none": b"a: !!binary [1]\n",
    "a list as a key": b"? [a]\n: b\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "a key twice": b"a: 1\nb: 2\na: 3\n",
    "half a character": b'a: "\\ud800"\n',
    "not closed": b"a: [1, 2\n",
}  # fmt: skip
LOADERS: dict[str, Callable[[Path], Any]] = {
    "load_yaml": load_yaml,
    "plan": load_plan,
    "grammar": load_rules,
    "train": load_train_config,
    "fusion": load_fusion_config,
    "references": lambda path: load_references(path.parent),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("name", WRONG)
def test_a_hostile_file_is_one_line(tmp_path: Path, name: str, loader: str) -> None:
    path = tmp_path / "it.yaml"
    path.write_bytes(WRONG[name])
    with pytest.raises(EdgeSpeechError, match=r"it\.yaml: ") as found:
        LOADERS[loader](path)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 010", r"'010' is another number in YAML 1\.1 than in 1\.2"),
        ("seed: -0_7", r"'-0_7' is another number"),
        ("seconds: 1:30", r"'1:30' is another number"),
        ("at: 12:30:45", r"'12:30:45' is another number"),
        ("share: 1:30.5", r"'1:30\.5' has a colon"),
        ("{1: a, 0x1: b}", r"key '0x1' is duplicate"),
        ("{no: a, off: b}", r"key 'off' is duplicate"),
        ("{1: a, 1.0: b}", r"key '1\.0' is duplicate"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: {x: 2}", r"key '<<' is duplicate"),
    ],
)
def test_what_two_readers_take_for_two_things_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "it.yaml").write_text(text)
    with pytest.raises(EdgeSpeechError, match=message):
        load_yaml(tmp_path / "it.yaml")


def test_numbers_that_all_readers_take_for_one_are_read(tmp_path: Path) -> None:
    path = tmp_path / "it.yaml"
    path.write_text("[0, -0, 0x0F, 0.5, 07.5, 10, '010', '1:30']\n")
    assert load_yaml(path) == [0, 0, 15, 0.5, 7.5, 10, "010", "1:30"]
    path.write_text("base: &base {a: 1, b: 2}\nit: {<<: *base, b: 3}\nall: {<<: [{a: 1}, {a: 2, c: 3}]}\n")
    assert load_yaml(path) == {"base": {"a": 1, "b": 2}, "it": {"a": 1, "b": 3}, "all": {"a": 1, "c": 3}}


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.yaml"
    path.write_text("a: 1\n" * 100)
    monkeypatch.setattr("edgespeech.core.yaml_files.MAX_BYTES", 100)
    with pytest.raises(EdgeSpeechError, match="larger than 100 bytes"):
        load_yaml(path)


def test_what_people_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "it.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: &x [1, 0x10, 1_000, 2.5, no]\nb: *x\nc: {<<: {d: 1}, e: caf\xc3\xa9}\n")
    first = [1, 16, 1000, 2.5, False]
    assert load_yaml(path) == {"a": first, "b": first, "c": {"d": 1, "e": "caf\u00e9"}}
    path.write_bytes(b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1))
    load_yaml(path)
    with pytest.raises(OSError, match="No such file"):
        load_yaml(tmp_path / "gone.yaml")
