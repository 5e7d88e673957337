"""The DAG on fixtures: two jobs at once, nothing to do the second time, and on after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from edgespeech.audio.io import write_audio
from edgespeech.cli import app
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.pipeline.dag import Where
from edgespeech.pipeline.targets import HEADLINE, Wanted, replicate
from edgespeech.steps.store import VARIABLE
from stranger import make_package

N_UTTERANCES = 3


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A corpus, a network and a recogniser that only this test knows, each one file (or folder) on a path."""
    mirror, corpora, networks, package = (tmp_path / n for n in ("mirror", "corpora", "networks", "package"))
    for folder in (mirror / "tiny", corpora, networks, package):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for n in range(N_UTTERANCES):
        write_audio(
            mirror / "tiny" / f"{n}.flac", (0.1 * rng.standard_normal(SAMPLE_RATE)).astype(np.float32)
        )
        lines.append(
            json.dumps({"id": f"u{n}", "audio_filepath": f"{n}.flac", "duration": 1.0, "text": "hello world"})
        )
    manifest = ("\n".join(lines) + "\n").encode()
    (mirror / "tiny" / "tiny.jsonl").write_bytes(manifest)
    description = {
        "name": "tiny",
        "title": "three noises",
        "kind": "speech",
        "licence": "none",
        "citation": "none",
        "homepage": "none",
        "sources": [{"mirror": {"folder": "tiny"}}],
        "splits": {
            "tiny": {
                "manifest": "tiny.jsonl",
                "sha256": hashlib.sha256(manifest).hexdigest(),
                "utterances": N_UTTERANCES,
                "audio_s": float(N_UTTERANCES),
                "evaluation_only": True,
            }
        },
    }
    (corpora / "tiny.yaml").write_text(yaml.safe_dump(description))
    (networks / "pigeon.yaml").write_text(
        "pigeon: {rtt_s: 9.0, jitter_s: 0.0, up_bps: 1000, down_bps: 1000}\n"
    )
    plan = {
        "seed": 0, "threads": 1, "cloud_speedup": 10.0, "networks": ["wifi", "pigeon"], "exclude": [],
        "rows": [
            {"corpora": ["tiny"], "systems": ["null", "stranger"]},
            {"corpora": ["tiny"], "systems": ["stranger"], "subset": {"quick": 2}},
        ],
    }  # fmt: skip
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    return {
        **os.environ,
        "EDGESPEECH_MIRROR": str(mirror),
        "EDGESPEECH_CORPORA": str(corpora),
        "EDGESPEECH_PROFILES": str(networks),
        "PYTHONPATH": str(make_package(package)),
    }


@pytest.fixture
def here(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for this process; the steps' processes have it from here."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(environment["PYTHONPATH"])
    monkeypatch.delitem(sys.modules, "strangers_package", raising=False)  # another test's
    monkeypatch.setenv(VARIABLE, "")  # so that what the pipeline sets goes with the test


def records(tmp_path: Path) -> set[str]:
    """File names of the records; a run that was measured again has another one."""
    return {path.name for path in (tmp_path / "work").glob("made/evaluate/*/*.json")}


@pytest.mark.usefixtures("here")
def test_rows_are_skipped_then_measured_then_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> str:
        wanted = Wanted(names=[HEADLINE], profile="quick", plan=tmp_path / "plan.yaml")
        text, failure = replicate(wanted, Where(jobs=2), work=tmp_path / "work")
        assert not failure
        return text

    with monkeypatch.context() as patched:
        patched.setenv("EDGESPEECH_MIRROR", "")
        table = run()
    assert "3 rows, tiny: no source gives tiny" in table
    assert "0 rows reproduced, 0 not, " in table
    skipped = records(tmp_path)
    assert len(skipped) == 3
    # Once the corpus is there, the rows are measured.
    table = run()
    assert "no source gives tiny" not in table
    assert "stranger" in table
    first = records(tmp_path)
    assert len(first) == 3
    assert not skipped & first
    read = [
        json.loads(path.read_text()) for path in (tmp_path / "work").glob("made/evaluate/*/stranger.*.json")
    ]
    assert {record["accuracy"]["basic"]["wer"]["value"] for record in read} == {0.0}
    assert sorted(record["corpus"]["n_utterances"] for record in read) == [2, 3]
    assert all(list(record["networks"]) == ["wifi", "pigeon"] for record in read)
    # Two have nothing to do. The third was killed after its record was written and before that was noted.
    next((tmp_path / "work").glob("made/evaluate/*.json")).unlink()
    run()
    assert records(tmp_path) == first


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("command", "name"), [("corpora", "tiny"), ("networks", "pigeon"), ("systems", "stranger")]
)
def test_what_one_file_adds_is_listed(command: str, name: str) -> None:
    done = CliRunner().invoke(app, [command])
    assert done.exit_code == 0
    assert any(line.startswith(name) for line in done.output.splitlines())


def test_a_kill_in_the_middle_loses_nothing_that_was_done(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    command = [
        *(sys.executable, "-m", "edgespeech.cli", "replicate", "--plan", str(tmp_path / "plan.yaml")),
        *("--work", os.path.relpath(tmp_path / "work"), "--jobs", "2"),
    ]
    log = tmp_path / "killed.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + 600
    while not records(tmp_path) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, log.read_text()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = records(tmp_path)
    assert before
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stranger" in done.stdout
    after = records(tmp_path)
    assert len(after) == 3
    assert before <= after
