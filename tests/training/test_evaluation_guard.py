"""Audio that is for evaluation only is refused for training by its content, whatever the manifest is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgespeech.audio.io import write_audio
from edgespeech.corpora.fetch import evaluation_audio
from edgespeech.errors import EdgeSpeechError
from edgespeech.training.speech import trainable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A mirror with one corpus for evaluation, of one recording; its folder is returned."""
    here = tmp_path / "mirror" / "guarded"
    here.mkdir(parents=True)
    write_audio(here / "a.wav", np.full(16000, 0.25, np.float32))
    line = {"audio_filepath": "a.wav", "duration": 1.0, "text": "word", "sha256": sha256(here / "a.wav")}
    (here / "m.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "corpora").mkdir()
    described = {
        "name": "guarded", "title": "x", "kind": "speech", "licence": "none", "citation": "none", "homepage": "none",
        "sources": [{"mirror": {"folder": "guarded"}}],
        "splits": {"guarded_test": {"manifest": "m.jsonl", "evaluation_only": True}},
    }  # fmt: skip
    (tmp_path / "corpora" / "guarded.yaml").write_text(yaml.safe_dump(described))
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    evaluation_audio.cache_clear()
    yield here
    evaluation_audio.cache_clear()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(folder: Path, **changes: Any) -> str:
    line = {"id": "mine", "audio_filepath": "b.wav", "duration": 1.0, "text": "other words", **changes}
    path = folder / "mine.jsonl"
    path.write_text(json.dumps(line) + "\n")
    return str(path)


@pytest.mark.parametrize("with_hash", [True, False])
def test_a_copy_of_evaluation_audio_is_refused(folder: Path, tmp_path: Path, with_hash: bool) -> None:
    copy = tmp_path / "b.wav"
    copy.write_bytes((folder / "a.wav").read_bytes())
    changes = {"sha256": sha256(copy)} if with_hash else {}
    with pytest.raises(EdgeSpeechError, match="utterance mine is audio of the evaluation split guarded_test"):
        trainable(written(tmp_path, **changes))


def test_other_audio_is_trained_on(folder: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "b.wav", np.full(16000, 0.2, np.float32))
    assert len(trainable(written(tmp_path)).utterances) == 1
