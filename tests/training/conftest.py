"""A tiny corpus: words as chords, so that a tiny model can learn them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgespeech.audio.io import write_audio
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.core.files import sha256_file
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.training.config import TrainConfig

WORDS = {"on": 400.0, "off": 700.0, "red": 1100.0, "blue": 1700.0}


def chord(words: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    time = np.arange(round(0.3 * SAMPLE_RATE)) / SAMPLE_RATE
    tones = [0.2 * np.sin(2 * np.pi * WORDS[w] * time) * np.hanning(time.size) for w in words]
    return np.pad(np.concatenate(tones), 1600).astype(np.float32)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A manifest of 16 utterances of one to three words."""
    random = np.random.default_rng(0)
    utterances = []
    (tmp_path / "chords").mkdir()
    for number in range(16):
        words = [list(WORDS)[i] for i in random.integers(0, 4, 1 + number % 3)]
        name = f"c{number:02d}.flac"
        samples = chord(words)
        write_audio(tmp_path / "chords" / name, samples)
        utterances.append(
            Utterance(
                id=f"c{number:02d}",
                audio_filepath=name,
                duration=samples.size / SAMPLE_RATE,
                text=" ".join(words),
                sha256=sha256_file(tmp_path / "chords" / name),
                split="train",
            )
        )
    path = tmp_path / "chords" / "chords.jsonl"
    write_manifest(path, utterances)
    return path


@pytest.fixture
def settings(corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., TrainConfig]:
    """Makes a run's configuration over the tiny corpus, with changes."""
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))

    def make(**changes: Any) -> TrainConfig:
        values: dict[str, Any] = {
            "name": "tiny",
            "seed": 5,
            "model": {
                "vocabulary": 32,
                "layers": 1,
                "hidden": 16,
                "joiner": 16,
                "context": 2,
                "dropout": 0.1,
            },
            "speech": [{"corpus": str(corpus)}],
            "steps": 8,
            "batch_s": 6.0,
            "warmup_steps": 2,
            "save_every": 3,
        }
        return TrainConfig.model_validate(values | changes)

    return make
