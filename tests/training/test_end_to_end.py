"""From speech to a published table: train a few steps, recognise through the runner, record, render."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgespeech.core.places import MODEL_VARIABLE
from edgespeech.harness.evaluate import Settings, evaluate_run
from edgespeech.harness.plan import Run
from edgespeech.records.records import write_record
from edgespeech.report.render import render
from edgespeech.training.config import TrainConfig
from edgespeech.training.loop import train


def test_a_model_trained_here_is_measured_and_published(
    settings: Callable[..., TrainConfig], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    # Nothing but the chords themselves, so that seconds of learning do.
    gentle: dict[str, Any] = {
        "speed_prob": 0.0,
        "room_prob": 0.0,
        "noise_prob": 0.0,
        "eq_prob": 0.0,
        "band_limit_prob": 0.0,
    }
    gentle |= {"pitch_prob": 0.0, "time_masks": 0, "frequency_masks": 0, "level_db": [-20.0, -20.0]}
    gentle |= {
        "silence_before_s": [0.1, 0.1],
        "silence_after_s": [0.1, 0.1],
        "floor_prob": 0.0,
        "clip_prob": 0.0,
    }
    small = {"vocabulary": 32, "layers": 1, "hidden": 48, "joiner": 48, "context": 2, "dropout": 0.0}
    config = settings(
        model=small,
        steps=500,
        learning_rate=0.008,
        warmup_steps=20,
        batch_s=60.0,
        augment=gentle,
        average=0.9,
    )
    model = train(config, tmp_path / "run", quiet=True)

    monkeypatch.setenv(MODEL_VARIABLE, str(model))
    run = Run(
        system="edge-fp32",
        corpus=str(corpus),
        noise=None,
        snr_db=None,
        snr_rule=None,
        context=None,
        subset=None,
    )
    how = Settings(
        seed=0, threads=1, cloud_speedup=10.0, networks=("wifi",), profile="full", concurrent_jobs=1
    )
    record, rows = evaluate_run(run, how)
    write_record(record, rows, tmp_path / "records")
    assert record.status == "passed"
    right = sum(row.hyp_raw == row.ref for row in rows)
    assert right >= len(rows) // 2

    readme = tmp_path / "README.md"
    readme.write_text("<!-- table:headline -->\n<!-- /table -->\n")
    render(tmp_path / "records", tmp_path / "results", [readme], check=False)
    assert "edge-fp32" in readme.read_text()
