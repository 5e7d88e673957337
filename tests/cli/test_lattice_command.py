"""`edgespeech lattice`: from audio to a file, to words and to a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from edgespeech.audio.io import write_audio
from edgespeech.cli import app
from edgespeech.core.labels import BLANK
from edgespeech.model.checkpoint import save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model that says something, half a second of noise, and a vocabulary."""
    torch.manual_seed(0)
    model = Transducer(ModelConfig(vocabulary=40, layers=1, hidden=16, joiner=16))
    with torch.no_grad():
        model.joiner.weight *= 10
        model.joiner.bias[BLANK] += 3
    tokeniser = Tokeniser.train(["turn on the light", "play some music"] * 3, 40)
    save_model(tmp_path / "model", model, tokeniser, {})
    noise = np.random.default_rng(0).standard_normal(8_000)
    write_audio(tmp_path / "a.flac", (0.1 * noise).astype(np.float32))
    (tmp_path / "words.txt").write_text("turn\non\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["out.lattice", "out.txt"])
def test_from_audio_to_a_picture(folder: Path, name: str) -> None:
    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, ["lattice", *map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    words = ("--words", folder / "words.txt")
    out = folder / name
    told = run("make", folder / "a.flac", out, "--model", folder / "model", "--beam", 3, "--width", 3, *words)
    assert told.startswith(f"{out}: {out.stat().st_size} bytes")
    shown = run("show", out, "--n-best", 2, *words)
    arcs = int(shown.split()[2])
    assert arcs > 1
    run("draw", out, folder / "out.svg", *words)
    assert (folder / "out.svg").read_text(encoding="utf-8").count("<path") == arcs
