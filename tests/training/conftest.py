"""A tiny corpus: words as chords, so that a tiny model can learn them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgespeech.training.config import TrainConfig
from helpers_chords import tiny_run, write_chords


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A manifest of 16 utterances of one to three words."""
    return write_chords(tmp_path / "chords")


@pytest.fixture
def settings(corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., TrainConfig]:
    """Makes a run's configuration over the tiny corpus, with changes."""
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))

    def make(**changes: Any) -> TrainConfig:
        values = tiny_run(corpus, steps=8, save_every=3)
        return TrainConfig.model_validate(values | changes)

    return make
