"""A tiny corpus, each word a tone, that a tiny model can learn, and a run on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgespeech.audio.io import write_audio
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.core.files import sha256_file
from edgespeech.corpora.manifest import Utterance, write_manifest

WORDS = {"on": 400.0, "off": 700.0, "red": 1100.0, "blue": 1700.0}
SPANISH = {"sí": 2500.0, "no": 3100.0, "rojo": 3900.0, "año": 4900.0}


def write_chords(folder: Path, n: int = 16, known: Mapping[str, float] = WORDS, lang: str = "en") -> Path:
    """Write `n` utterances of one to three words, and return their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(0.3 * SAMPLE_RATE)) / SAMPLE_RATE
    random, utterances = np.random.default_rng(0), []
    for number in range(n):
        words = [list(known)[i] for i in random.integers(0, 4, 1 + number % 3)]
        tones = [0.2 * np.sin(2 * np.pi * known[w] * time) * np.hanning(time.size) for w in words]
        samples = np.pad(np.concatenate(tones), 1600).astype(np.float32)
        path = folder / f"c{number:02d}.flac"
        write_audio(path, samples)
        utterances.append(
            Utterance(
                id=path.stem,
                audio_filepath=path.name,
                duration=samples.size / SAMPLE_RATE,
                text=" ".join(words),
                sha256=sha256_file(path),
                split="train",
                lang=lang,
            )
        )
    write_manifest(folder / "chords.jsonl", utterances)
    return folder / "chords.jsonl"


def tiny_run(corpus: Path, *, steps: int, save_every: int) -> dict[str, Any]:
    """The content of a run's file: some steps of a model of one layer."""
    return {
        "name": "tiny",
        "seed": 5,
        "model": {"vocabulary": 32, "layers": 1, "hidden": 16, "joiner": 16, "context": 2, "dropout": 0.1},
        "speech": [{"corpus": str(corpus)}],
        "steps": steps,
        "batch_s": 6.0,
        "warmup_steps": 2,
        "save_every": save_every,
    }
