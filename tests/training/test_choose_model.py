"""Choosing between models: on tuning speech alone, with a record that says by how much."""

import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from edgespeech.core.labels import BLANK, SPACE
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import WEIGHTS, save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.training.config import TrainConfig

Make = Callable[..., TrainConfig]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = project_root() / "replication" / "rnnt" / "choose_model.py"
    spec = util.spec_from_file_location("choose_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "choose_model", module)
    spec.loader.exec_module(module)
    return module


def saved(folder: Path, *, talks: bool = False) -> Path:
    """A model that says nothing, or the same word again and again."""
    tokeniser = Tokeniser.train(["on off red blue"], 32)
    label = next(n for n, piece in enumerate(tokeniser.pieces) if piece.startswith(SPACE)) if talks else BLANK
    model = Transducer(ModelConfig(vocabulary=32, layers=1, hidden=16, joiner=16))
    with torch.no_grad():
        model.joiner.bias[label] = 100.0
    save_model(folder, model, tokeniser, {"run": folder.name})
    return folder


def test_the_lowest_error_rate_is_chosen_and_the_record_has_all(
    script: ModuleType, settings: Make, corpus: Path, tmp_path: Path
) -> None:
    settings()
    folders = [saved(tmp_path / "talks", talks=True), saved(tmp_path / "silent")]
    record = script.choose("label", folders, [str(corpus)], 10)
    talks, silent = record["models"]
    assert record["chosen"] == "silent"
    assert record["utterances"] == {"chords": 10}
    assert silent["rates"]["chords"] == {"wer": 1.0, "low": 1.0, "high": 1.0}
    assert talks["minus_chosen"]["wer"] == pytest.approx(talks["pooled"]["wer"] - 1.0)
    assert 0 < talks["minus_chosen"]["low"] <= talks["minus_chosen"]["wer"] <= talks["minus_chosen"]["high"]
    assert silent["minus_chosen"]["wer"] == 0
    assert talks["weights_sha256"] != silent["weights_sha256"]
    assert str(tmp_path) not in str(record)


def test_no_test_is_used(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="assistant_mini: is for evaluation only"):
        script.choose("label", [saved(tmp_path / "silent")], ["assistant_mini"], 10)


def test_a_missing_model_is_named(script: ModuleType, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=WEIGHTS):
        script.choose("steps", [tmp_path / "nothing"], [str(corpus)], 10)
