"""Choosing between models: on tuning speech alone, with a record that says by how much."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from edgespeech.audio.features import Features
from edgespeech.core.labels import BLANK, SPACE
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import WEIGHTS, Trained, load_model, save_model
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
    record = script.choose("label", [script.candidate(str(f)) for f in folders], [str(corpus)], 10)
    talks, silent = record["models"]
    assert record["chosen"] == "silent"
    assert record["utterances"] == {"chords": 10}
    assert record["compared_with"] == "silent"
    assert silent["greedy"]["rates"]["chords"] == {"wer": 1.0, "n": 10, "low": 1.0, "high": 1.0}
    difference = talks["greedy"]["difference"]
    assert difference["wer"] == pytest.approx(talks["greedy"]["pooled"]["wer"] - 1.0)
    assert 0 < difference["low"] <= difference["wer"] <= difference["high"]
    assert silent["greedy"]["difference"]["wer"] == 0
    assert talks["parts"][0]["weights_sha256"] != silent["parts"][0]["weights_sha256"]
    assert "ships" not in talks
    assert str(tmp_path) not in str(record)


def test_the_search_that_ships_can_decide(
    script: ModuleType, settings: Make, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what a language model adds, here a weight on every label, another model wins."""
    settings()
    monkeypatch.setattr(script, "fusion_of", lambda tokeniser: None)
    heard: list[int] = []

    def said(trained: Trained, spoken: Sequence[Features], beam: int) -> list[str]:
        heard.extend(len(one) for one in spoken)
        return list(texts) if trained.provenance["run"] == "talks" else [""] * len(spoken)

    sample = script.tuning_sample(str(corpus), 10, tail_s=script.TAIL_S)
    texts = sample.texts
    monkeypatch.setattr(script, "said", said)
    candidates = [
        script.candidate(str(saved(tmp_path / name, talks=name == "talks"))) for name in ("talks", "silent")
    ]
    record = script.choose("search", candidates, [str(corpus)], 10, by="ships", against="silent")
    assert (record["chosen"], record["by"], record["compared_with"]) == ("talks", "ships", "silent")
    talks = record["models"][0]
    assert talks["ships"]["pooled"]["wer"] == 0
    assert talks["ships"]["difference"]["wer"] == -1
    assert talks["greedy"]["pooled"]["wer"] > 1
    bare = [len(one) for one in script.tuning_sample(str(corpus), 10).spoken]
    assert heard == 2 * [frames + round(script.TAIL_S * 100) for frames in bare]


def test_a_mean_of_several_is_a_candidate(script: ModuleType, tmp_path: Path) -> None:
    one, two = saved(tmp_path / "one", talks=True), saved(tmp_path / "two")
    found = script.candidate(f"soup={one}:0.25+{two}:0.75")
    assert (found.name, [share for _, share in found.parts]) == ("soup", [0.25, 0.75])
    first, second = (load_model(folder).model.joiner.bias for folder in (one, two))
    torch.testing.assert_close(found.trained.model.joiner.bias, 0.25 * first + 0.75 * second)
    assert script.candidate(f"{one}+{two}").name == "one+two"
    with pytest.raises(EdgeSpeechError, match="share is 'much', expected a number"):
        script.candidate(f"{one}:much")
    with pytest.raises(EdgeSpeechError, match="one for each folder, or none"):
        script.candidate(f"{one}:0.5+{two}")


def test_two_of_one_name_are_refused(script: ModuleType, corpus: Path, tmp_path: Path) -> None:
    twice = [script.candidate(str(saved(tmp_path / "one")))] * 2
    with pytest.raises(EdgeSpeechError, match="each name once"):
        script.choose("label", twice, [str(corpus)], 10)
    with pytest.raises(EdgeSpeechError, match="against is 'two', expected one of one"):
        script.choose("label", twice[:1], [str(corpus)], 10, against="two")


def test_the_chosen_one_ships_by_the_page_s_command(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, len(asked) - 1)

    monkeypatch.setattr(subprocess, "run", run)
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    chosen = script.candidate(f"{one}:0.25+{two}:0.75")
    script.ship(chosen)
    assert asked[0][3:] == [
        "replicate", "rnnt", "--publish-model", str(one), str(two), "--shares", "0.25", "0.75",
    ]  # fmt: skip
    with pytest.raises(EdgeSpeechError, match="ended with 1"):
        script.ship(chosen)


def test_no_test_is_used(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="assistant_mini: is for evaluation only"):
        script.choose("label", [script.candidate(str(saved(tmp_path / "silent")))], ["assistant_mini"], 10)


def test_a_missing_model_is_named(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=WEIGHTS):
        script.candidate(str(tmp_path / "nothing"))


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
