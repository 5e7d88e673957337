"""The hash of the code that measures: behaviour changes it, words and places do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech.records.code import differing, measuring_files, sha256_of

FILES = {
    "replication/demo/replicate.py": "from edgespeech.harness.runner import drive\n\n\ndef check():\n    drive()\n",
    "edgespeech/harness/runner.py": "def drive():\n    from edgespeech.packed import run\n    return run\n",
    "edgespeech/packed/__init__.py": "from edgespeech.report import table\nX = 1\n",
    "edgespeech/packed/run.py": "import edgespeech.engine.native\n",
    "edgespeech/engine/native.py": "SPEED = 1\n",
    "edgespeech/engine/csrc/kernel.hpp": "int x = 1;\n",
    "edgespeech/report/table.py": "WIDTH = 1\n",
    "edgespeech/other.py": "Y = 1\n",
    "CMakeLists.txt": "add(x)\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def hashed(tree: Path) -> str:
    return sha256_of(files(tree))


def files(tree: Path) -> dict[str, str]:
    entries = (tree / "replication" / "demo").glob("*.py")
    return measuring_files(entries, tree / "edgespeech", tree / "CMakeLists.txt")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "replication/demo/replicate.py",
            "from edgespeech.harness.runner import drive\n\n\ndef check():\n    drive(2)\n",
        ),
        ("edgespeech/packed/__init__.py", "X = 2\n"),
        ("edgespeech/engine/native.py", "SPEED = 2\n"),
        ("edgespeech/engine/csrc/kernel.hpp", "int x = 2;\n"),
        ("CMakeLists.txt", "add(y)\n"),
    ],
)
def test_a_change_of_what_measures_changes_the_hash(tree: Path, name: str, text: str) -> None:
    before = hashed(tree)
    (tree / name).write_text(text)
    assert hashed(tree) != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("edgespeech/other.py", "Y = 2\n"),
        ("edgespeech/report/table.py", "WIDTH = 2\n"),
        ("edgespeech/packed/__init__.py", '"""Said anew."""\n\nX  =  1  # one\n'),
        ("edgespeech/engine/native.py", "SPEED = 1\n\n'''A string that nobody takes.'''\n"),
        ("edgespeech/engine/csrc/kernel.hpp", "// what x is\nint  x = 1;  /* one */\n"),
    ],
)
def test_words_form_and_what_only_renders_do_not(tree: Path, name: str, text: str) -> None:
    before = hashed(tree)
    (tree / name).write_text(text)
    assert hashed(tree) == before


ERROR = """from edgespeech.errors import bad
def check(x):
    if x:
        raise ValueError(f"{x} is wrong")
    if not x:
        raise bad("file", "x", x, "a number")
"""


def test_the_wording_of_an_error_does_not_count_and_its_condition_does(tree: Path) -> None:
    module = tree / "edgespeech" / "engine" / "native.py"
    module.write_text(ERROR)
    before = hashed(tree)
    module.write_text(ERROR.replace(" is wrong", ": a number is expected").replace('"a number"', '"digits"'))
    assert hashed(tree) == before
    for old, new in (("if x", "if x > 1"), ("ValueError", "TypeError"), ("{x}", "{x!r}")):
        module.write_text(ERROR.replace(old, new))
        assert hashed(tree) != before


@pytest.mark.parametrize("text", ['char x[] = "a  //b";\n', 'char x[] = "a //b";\n', "int x = 1; int y;\n"])
def test_texts_of_cpp_count_as_they_are(tree: Path, text: str) -> None:
    kernel = tree / "edgespeech" / "engine" / "csrc" / "kernel.hpp"
    hashes = set()
    for one in ('char x[] = "a /**/b";\n', text):
        kernel.write_text(one)
        hashes.add(hashed(tree))
    assert len(hashes) == 2


def test_a_module_that_moves_has_the_hash_that_it_had(tree: Path) -> None:
    before = hashed(tree)
    moved = tree / "edgespeech" / "core" / "running.py"
    moved.parent.mkdir()
    (tree / "edgespeech" / "harness" / "runner.py").rename(moved)
    replicate = tree / "replication" / "demo" / "replicate.py"
    replicate.write_text(replicate.read_text().replace("harness.runner", "core.running"))
    assert hashed(tree) == before


def test_discovered_recognisers_count(tree: Path) -> None:
    (tree / "edgespeech" / "harness" / "discovery.py").write_text("A = 1\n")
    (tree / "edgespeech" / "systems").mkdir()
    system = tree / "edgespeech" / "systems" / "one.py"
    system.write_text("BEAM = 4\n")
    before = hashed(tree)
    system.write_text("BEAM = 8\n")
    assert hashed(tree) == before  # nothing discovers it
    runner = tree / "edgespeech" / "harness" / "runner.py"
    runner.write_text("from edgespeech.harness import discovery\n" + runner.read_text())
    before = hashed(tree)
    system.write_text("BEAM = 16\n")
    assert hashed(tree) != before


def test_the_files_that_differ_are_named_and_moved_ones_are_not(tree: Path) -> None:
    before = {name: found[:12] for name, found in files(tree).items()}
    assert set(before) == {name for name in FILES if "report" not in name and "other" not in name} - {
        "replication/demo/replicate.py"
    } | {"demo/replicate.py"}
    assert differing(before, files(tree)) == []
    (tree / "edgespeech/engine/native.py").write_text("SPEED = 2\n")
    (tree / "edgespeech/engine/csrc/kernel.hpp").rename(tree / "edgespeech/engine/csrc/moved.hpp")
    assert differing(before, files(tree)) == ["edgespeech/engine/native.py"]
    (tree / "replication/demo/more.py").write_text("NEW = 1\n")
    assert differing(before, files(tree)) == ["demo/more.py", "edgespeech/engine/native.py"]
