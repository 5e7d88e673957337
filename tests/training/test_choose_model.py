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
from edgespeech.model.checkpoint import WEIGHTS, load_model, save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.training.config import TrainConfig
from edgespeech.training.loop import train

Make = Callable[..., TrainConfig]


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = util.spec_from_file_location(name, project_root() / "replication" / "rnnt" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("choose_model", monkeypatch)


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
    assert silent["rates"]["chords"] == {"wer": 1.0, "n": 10, "low": 1.0, "high": 1.0}
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


def test_a_snapshot_is_a_start_for_training_and_never_overwritten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Make
) -> None:
    script = load("snapshot", monkeypatch)
    models = [saved(tmp_path / "talks", talks=True), saved(tmp_path / "silent")]
    size = script.snapshot(models, [0.25, 0.75], tmp_path / "kept")
    kept, (one, two) = load_model(tmp_path / "kept"), (load_model(folder) for folder in models)
    assert size == sum(path.stat().st_size for path in (tmp_path / "kept").iterdir())
    assert kept.provenance["mean_of"] == "talks 0.25, silent 0.75"
    mixed = 0.25 * one.model.joiner.weight + 0.75 * two.model.joiner.weight
    torch.testing.assert_close(kept.model.joiner.weight, mixed, atol=1e-3, rtol=1e-3)
    shape = {**settings().model, "vocabulary": 32, "context": 4}
    train(settings(init=str(tmp_path / "kept"), model=shape, steps=2), tmp_path / "run", quiet=True)
    with pytest.raises(EdgeSpeechError, match=r"name is 'kept'.*never overwritten"):
        script.snapshot(models, None, tmp_path / "kept")
