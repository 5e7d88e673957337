"""One of each thing that the house takes, added to a copy of the tree: new files, and no file that was there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from edgespeech.core.places import MODEL_VARIABLE, project_root
from edgespeech.model.checkpoint import save_model
from helpers_install import bare_python, bring_engine
from helpers_packed import tiny

ROOT = project_root()
ADDED = ROOT / "examples" / "adding"
COPIED = ("src/edgespeech", "data_manifests", "replication", "examples/adding")


def commands() -> list[str]:
    """What the page for contributors says, line by line."""
    text = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(cp -R examples/adding.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(block).splitlines()


def git(tree: Path, *words: str) -> str:
    options = [
        "-c",
        "user.name=somebody",
        "-c",
        "user.email=somebody@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    done = subprocess.run(
        ["git", "-C", str(tree), *options, *words], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with the files of this one that a measurement reads, but no results."""
    folder = tmp_path / "tree"
    leave = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for name in ("pyproject.toml", "CMakeLists.txt", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    bring_engine(folder / "src" / "edgespeech")
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "As it was")
    return folder


@pytest.fixture
def environment(tree: Path, tmp_path: Path) -> dict[str, str]:
    """With `edgespeech` of the copy, and a tiny model in place of the one that arms start from."""
    trained = tiny()
    save_model(tmp_path / "model", trained.model, trained.tokeniser, trained.provenance)
    python = bare_python(tmp_path / "venv", tree / "src")
    program = python.with_name("edgespeech")
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} -m edgespeech.cli "$@"\n')
    program.chmod(0o755)
    cleared = {
        name: text for name, text in os.environ.items() if name not in ("EDGESPEECH_WORK", "PYTHONPATH")
    }
    return {
        **cleared,
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        MODEL_VARIABLE: str(tmp_path / "model"),
        "OMP_NUM_THREADS": "1",
    }


def test_one_of_each_is_added_without_touching_a_file(tree: Path, environment: dict[str, str]) -> None:
    for command in commands():
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=tree, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    (path,) = (tree / ".work" / "parrot").glob("*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["status"] == "passed"
    assert (record["system"]["name"], record["corpus"]["name"]) == ("parrot", "first_orders")
    assert record["corpus"]["n_utterances"] == 3
    assert len(record["accuracy"]) >= 3
    for row in record["accuracy"].values():
        assert row["further"]["ser"]["value"] == 1.0
    assert list(record["networks"]) == ["pigeon"]
    assert record["networks"]["pigeon"]["latency"]["first_to_final_p50"]["value"] > 1

    page = (tree / "replication" / "toy" / "README.md").read_text(encoding="utf-8")
    (made,) = (tree / "results" / "toy").glob("*.json")
    assert made.stem in page
    arms = page.partition("<!-- table:arms -->")[2].partition("<!-- /table -->")[0]
    assert re.findall(r"^\| (\w+) \|", arms, re.MULTILINE) == ["Arm", "fp32", "rounded_8"]
    assert "rounded_8 against fp32" in page
    assert page.count("No record yet") == 0

    changed = git(tree, "status", "--porcelain", "--untracked-files=all").splitlines()
    assert {line[:2] for line in changed} == {"??"}
    files = {file.relative_to(ADDED).as_posix() for file in ADDED.rglob("*.*") if file.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert {line[3:] for line in changed} == {
        *files,
        f"results/toy/{made.name}",
        "replication/toy/pareto.svg",
    }
