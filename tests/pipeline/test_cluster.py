"""The pipeline on two made nodes with a shared folder, one of which dies in the middle of a step."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from edgespeech.core.places import project_root
from helpers_install import bare_python, bring_engine
from pipeline.toy_technique import DEADLY, STEPS, value

HERE = Path(__file__).parent
CLUSTER = HERE / "made_cluster.py"
FACTORS, SEEDS = [3, 5], [1, 2]
CONFIG = {"seed": 0, "factors": FACTORS, "seeds": SEEDS}
CLAIM = {
    "id": "toy.value", "short": "value", "text": "What an arm comes to.", "kind": "observation", "unit": "ratio",
}  # fmt: skip
BLOCKS = "".join(f"<!-- table:{name} -->\n<!-- /table -->\n\n" for name in ("finding", "toy", "rows"))
PATIENCE_S = 600.0
"""A busy machine takes many times as long as an idle one."""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """What nodes share: a checkout with one technique, which nothing but its folder names, and the work folder."""
    folder = tmp_path / "shared"
    root = folder / "checkout"
    technique = root / "replication" / "toy"
    technique.mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project]\nname = "edgespeech"\n')
    (root / "data_manifests").symlink_to(project_root() / "data_manifests")
    shutil.copytree(
        project_root() / "src" / "edgespeech", root / "src" / "edgespeech",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    bring_engine(root / "src" / "edgespeech")
    bare_python(folder / "python", root / "src")
    shutil.copy(HERE / "toy_technique.py", technique / "experiment.py")
    (technique / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (technique / "claim.yaml").write_text(yaml.safe_dump([CLAIM]))
    (technique / "README.md").write_text(f"# Toy\n\n{BLOCKS}")
    profile = {
        "executor": "cluster-generic",
        "cluster-generic-submit-cmd": f"{python(folder)} {CLUSTER} submit {folder}",
        "cluster-generic-status-cmd": f"{python(folder)} {CLUSTER} status {folder}",
        "seconds-between-status-checks": 1,
    }
    (folder / "profile").mkdir()
    (folder / "profile" / "config.yaml").write_text(yaml.safe_dump(profile))
    (folder / "work").mkdir()
    return folder


def environment(shared: Path, home: Path) -> dict[str, str]:
    """Nothing of the work folder: a node has that from the description of the pipeline."""
    home.mkdir(exist_ok=True)
    own = {name: text for name, text in os.environ.items() if not name.startswith("EDGESPEECH_")}
    return own | {"HOME": str(home), "TMPDIR": str(home)}


def python(shared: Path) -> Path:
    """What runs the copy of the package: an editable install of the other one would come before a search path."""
    return shared / "python" / "bin" / "python"


@pytest.fixture
def nodes(shared: Path, tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Two nodes, each in its own folder, whose processes die together."""
    made = {}
    for name in ("a", "b"):
        own = environment(shared, tmp_path / name) | {"NODE": name}
        made[name] = subprocess.Popen(
            [python(shared), str(CLUSTER), "node", str(shared), name],
            env=own, cwd=tmp_path / name, start_new_session=True,
        )  # fmt: skip
    yield made
    for process in made.values():
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def replicate(shared: Path, tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    own = environment(shared, tmp_path / "head") | {
        "EDGESPEECH_WORK": str(shared / "work"),
        "EDGESPEECH_MIRROR": "",
    }
    command = [str(python(shared)), "-m", "edgespeech.cli", "replicate", "toy", "--jobs", "2", *words]
    return subprocess.Popen(
        command, env=own, cwd=shared / "checkout", text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.timeout(2 * PATIENCE_S)
def test_a_node_that_dies_changes_nothing(
    shared: Path, nodes: dict[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    head = replicate(shared, tmp_path, "--cluster", str(shared / "profile"))
    waits, deadline = shared / "work" / "waits", time.monotonic() + PATIENCE_S
    while not waits.exists() and head.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if waits.exists():
        os.killpg(nodes["a"].pid, signal.SIGKILL)
        nodes["a"].wait()
    else:
        os.killpg(head.pid, signal.SIGKILL)
    printed, _ = head.communicate(timeout=PATIENCE_S)
    assert head.returncode == 0, printed
    assert waits.exists()

    (path,) = (shared / "checkout" / "results" / "toy").glob("*.json")
    rows = {
        row["measured"]["condition"]: row["measured"]["value"] for row in json.loads(path.read_text())["rows"]
    }
    assert rows == {f"times_{factor}_seed{seed}": value(factor, seed) for factor in FACTORS for seed in SEEDS}
    readme = shared / "checkout" / "replication" / "toy" / "README.md"
    assert path.stem in readme.read_text()

    log = [line.split() for line in (shared / "work" / "log.txt").read_text().splitlines()]
    taken = {name: [(int(at), node) for other, at, node in log if other == name] for name in rows}
    died = [name for name in taken if {node for _, node in taken[name]} == {"a", "b"}]
    assert len(died) == 1
    assert taken[died[0]] == [(at, "a" if at <= DEADLY else "b") for at in range(1, STEPS + 1)]
    assert all([at for at, _ in found] == list(range(1, STEPS + 1)) for found in taken.values())

    before = {path: readme.stat().st_mtime_ns}
    again = replicate(shared, tmp_path)
    printed, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, printed
    assert "toy: " in printed
    assert {path: readme.stat().st_mtime_ns} == before
    assert len((shared / "work" / "log.txt").read_text().splitlines()) == len(log)
