from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_recogniser_ends_the_utterance_after_its_speech() -> None:
    said, *events = run("write_a_recogniser.py").splitlines()
    eos_s = float(said.split(" at ")[1].removesuffix(" s"))
    stamps = {line.split()[2]: float(line.split()[0]) for line in events}
    assert set(stamps) == {"partial", "endpoint", "final"}
    assert eos_s < stamps["endpoint"] <= stamps["final"] < eos_s + 2


def test_evaluating_prints_wer_and_latency() -> None:
    text = run("evaluate_a_recogniser.py", "edge-packed", "3")
    assert "edge-packed: WER 0." in text
    assert text.count("median user-perceived latency") == 2
    assert text.count("said ") == 3


def test_comparing_says_which_is_better() -> None:
    text = run("compare_two_records.py")
    assert "A: edge-packed.coffee_dev" in text
    assert "WER whisper-en: edge-packed is " in text


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_notebook_runs_from_top_to_bottom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    monkeypatch.chdir(EXAMPLES)
    notebook = json.loads((EXAMPLES / "figures.ipynb").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for index, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile("".join(cell["source"]), f"cell {index}", "exec"), names)
    assert "<- shown" in capsys.readouterr().out
