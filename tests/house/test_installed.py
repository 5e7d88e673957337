"""The package without its checkout: what a wheel brings, laid out as CMakeLists.txt says, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgespeech.core import places
from edgespeech.core.files import sha256_file
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from helpers_install import bare_python, bring_engine

ROOT = project_root()
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
PROGRAM = """
import json, sys
from edgespeech.cli import main
from edgespeech.core.places import checkout
assert checkout() is None, checkout()
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["edgespeech", *words]
    print("$", *words, flush=True)
    try:
        main()
    except SystemExit as ended:
        codes.append(ended.code or 0)
print(codes)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as a wheel would install it."""
    folder = tmp_path_factory.mktemp("site")
    leave = shutil.ignore_patterns("__pycache__", "csrc")
    shutil.copytree(ROOT / "src" / "edgespeech", folder / "edgespeech", ignore=leave)
    models = re.search(r"foreach\(model (.*)\)", CMAKE)
    installed = re.findall(r"install\(DIRECTORY (\S+) DESTINATION (\S+)\)", CMAKE)
    assert models is not None
    assert len(installed) == 2
    for source, to in installed:
        for name in models[1].split() if "${model}" in source else [""]:
            path = ROOT / source.replace("${model}", name)
            assert path.is_dir()
            (folder / to).mkdir(parents=True, exist_ok=True)
            (folder / to / path.name).symlink_to(path)
    bring_engine(folder / "edgespeech")
    return folder


@pytest.fixture(scope="module")
def python(site: Path) -> Path:
    """An interpreter that finds that folder and what the package needs, but no editable install."""
    return bare_python(site / "venv", site)


def test_it_works_in_an_empty_folder(python: Path, tmp_path: Path) -> None:
    embedded = ROOT / "data_manifests" / "assistant_mini"
    lines = (embedded / "assistant_mini.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:2]]
    own = [{key: row[key] for key in ("audio_filepath", "duration", "text")} for row in rows]
    for row in own:
        file = embedded / row["audio_filepath"]
        row["audio_filepath"] = shutil.copy(file, tmp_path / file.name).name
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, own)) + "\n", encoding="utf-8")
    measure = ["evaluate", "--system", "edge-packed", "--manifest", "own.jsonl", "--out"]
    commands = [
        ["corpora"],
        ["systems"],
        ["transcribe", own[0]["audio_filepath"], "--system", "edge-packed"],
        [*measure, "one"],
        [*measure, "two"],
    ]
    environment = {**os.environ, "HOME": str(tmp_path), "EDGESPEECH_MIRROR": ""}
    for name in ("EDGESPEECH_WORK", "PYTHONPATH", "XDG_CACHE_HOME"):
        environment.pop(name, None)

    def run(commands: list[list[str]]) -> str:
        done = subprocess.run(
            [str(python), "-c", PROGRAM, json.dumps(commands)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        codes = json.loads(done.stdout.splitlines()[-1])
        assert codes == [0] * len(commands), done.stdout + done.stderr
        return done.stdout

    text = run(commands)
    assert "assistant_mini" in text
    assert "edge-packed" in text
    assert own[0]["text"].split()[0] in text.lower()
    records = [next((tmp_path / folder).glob("*.json")) for folder in ("one", "two")]
    provenance = json.loads(records[0].read_text())["provenance"]
    assert provenance["commit"] == "unknown"
    assert "2 utterances" in run([["compare", *map(str, records)]])


def test_the_wheel_brings_every_model_that_a_recogniser_loads() -> None:
    brought = re.search(r"foreach\(model (.*)\)", CMAKE)
    assert brought is not None
    shipped = {path.name for path in (ROOT / "results" / "models").iterdir()}
    others = {"compression-base", "whispers"}  # where experiments start from, and a detector of a page
    assert shipped - set(brought[1].split()) == others


def test_without_a_checkout_there_are_no_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(places, "checkout", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("EDGESPEECH_WORK", raising=False)
    monkeypatch.delenv("EDGESPEECH_MIRROR", raising=False)
    assert places.work_dir() == tmp_path / "edgespeech"
    assert places.mirror_root() is None
    assert places.manifests_dir() == places.DATA / "data_manifests"
    assert places.shipped_models() == places.DATA / "models"
    with pytest.raises(EdgeSpeechError, match="no EdgeSpeech checkout here or above"):
        places.results_dir()


def test_the_checkouts_copy_wins() -> None:
    assert sha256_file(places.manifests_dir() / "an4.yaml") == sha256_file(ROOT / "data_manifests/an4.yaml")
    assert places.manifests_dir() == ROOT / "data_manifests"
