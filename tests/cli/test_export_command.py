"""`edgespeech export`, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgespeech.cli import app
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import save_model
from helpers_packed import tiny


def test_both_precisions_and_the_words_are_written(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    trained = tiny()
    save_model(tmp_path / "model", trained.model, trained.tokeniser, trained.provenance)
    done = CliRunner().invoke(app, ["export", str(tmp_path / "model"), "--out", str(tmp_path / "onnx")])
    assert done.exit_code == 0, done.output
    parts = {f"{part}{width}.onnx" for part in ("encoder", "decoder", "joiner") for width in ("", ".int8")}
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == parts | {"tokens.txt"}


def test_a_model_that_is_not_there_is_reported(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path / "none"), "--out", str(tmp_path / "onnx")])
    assert isinstance(done.exception, EdgeSpeechError)
    assert "not a readable model" in str(done.exception)
    assert not (tmp_path / "onnx").exists()
