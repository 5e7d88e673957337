from __future__ import annotations

import json
import shutil
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.packed.edge_file import read_edge, write_edge
from edgespeech.secondpass.config import LmConfig, LmShape, load_lm_config
from edgespeech.secondpass.model import FORMAT, LanguageModel, TrainedLm, load_lm, save_lm
from edgespeech.secondpass.training import LOG, STATE, Batches, perplexity, train_lm
from secondpass.lm_helpers import tiny_lm

VALUES: dict[str, Any] = {
    "name": "tiny", "seed": 3, "vocabulary": 60, "width": 24, "layers": 2, "dropout": 0.1,
    "text": [{"grammar": "volume", "sentences": 150}], "held_out": ["assistant_mini"],
    "steps": 60, "batch": 30, "learning_rate": 0.03, "warmup_steps": 4, "average": 0.8, "save_every": 40,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")  # before the run, which is of this scope too
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run")
    train_lm(LmConfig.model_validate(VALUES), folder)
    return folder


def test_it_learns(run: Path) -> None:
    trained = load_lm(run / "lm.edge")
    sentences = ["turn the volume up", "make it louder please"]
    untrained = TrainedLm(LanguageModel(trained.model.shape).eval(), trained.tokeniser, {})
    assert perplexity(trained, sentences).of_word < 0.3 * perplexity(untrained, sentences).of_word
    line = json.loads((run / LOG).read_text().splitlines()[-1])
    assert line["step"] == 60
    assert trained.provenance["step"] == "60"
    assert trained.provenance["held_out"] == "assistant_mini"


def test_a_killed_run_ends_with_the_same_bits(run: Path, tmp_path: Path) -> None:
    config = LmConfig.model_validate(VALUES)
    for until in (9, 10, None):  # the second time after a single step
        train_lm(config, tmp_path, until=until, quiet=True)
    whole, parts = load_file(run / STATE), load_file(tmp_path / STATE)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert (tmp_path / "lm.edge").read_bytes() == (run / "lm.edge").read_bytes()
    assert not (tmp_path / LOG).exists()


def test_killed_after_its_state_the_model_is_written_when_it_is_taken_up(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / STATE, tmp_path)
    train_lm(LmConfig.model_validate(VALUES), tmp_path, quiet=True)
    assert (tmp_path / "lm.edge").read_bytes() == (run / "lm.edge").read_bytes()
    train_lm(LmConfig.model_validate(VALUES), tmp_path / "stale", until=10, quiet=True)
    shutil.copy(run / STATE, tmp_path / "stale")
    train_lm(LmConfig.model_validate(VALUES), tmp_path / "stale", quiet=True)
    assert (tmp_path / "stale" / "lm.edge").read_bytes() == (run / "lm.edge").read_bytes()


def test_another_config_does_not_go_on(run: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="belongs to another config"):
        train_lm(LmConfig.model_validate({**VALUES, "seed": 4}), run, quiet=True)


def test_a_loss_that_is_no_number_stops(tmp_path: Path) -> None:
    config = LmConfig.model_validate({**VALUES, "learning_rate": 1e30, "warmup_steps": 0})
    with pytest.raises(EdgeSpeechError, match=r"step \d+: loss .*, expected finite numbers"):
        train_lm(config, tmp_path, quiet=True)
    assert not (tmp_path / STATE).exists() or load_lm(tmp_path / "lm.edge")


def test_an_epoch_has_every_sentence_once_with_others_of_its_length() -> None:
    labels = [[n + 1] * (n % 5 + 1) for n in range(23)]
    batches = Batches(labels, 4, seed=0)
    assert len(batches) == 6
    for epoch in range(2):
        rows = [row for step in range(6) for row in batches.of_step(6 * epoch + step).tolist()]
        assert sorted([x for x in row[1:] if x > 0] for row in rows) == sorted(labels)
        assert all(row[0] == 0 and row[1:].count(0) == 1 for row in rows)
    again = Batches(labels, 4, seed=0)
    assert torch.equal(again.of_step(8), batches.of_step(8))
    padding = sum(int((batches.of_step(step) < 0).sum()) for step in range(6))
    assert padding <= 12


def test_perplexity_of_a_model_that_knows_nothing() -> None:
    lm = tiny_lm()
    for parameter in lm.model.parameters():
        parameter.zero_()
    sentences = ["turn on", "lights"]
    found = perplexity(lm, sentences, batch=1)
    pieces = sum(len(lm.tokeniser.encode(sentence)) + 1 for sentence in sentences)
    assert found.log_prob == pytest.approx(-pieces * log(40), rel=1e-5)
    assert found.of_word == pytest.approx(40 ** (pieces / 5), rel=1e-4)


def test_perplexity_does_not_depend_on_the_batch() -> None:
    sentences = ["turn on the lights", "off", "a lamp"]
    assert perplexity(tiny_lm(), sentences, batch=1).log_prob == pytest.approx(
        perplexity(tiny_lm(), sentences).log_prob, rel=1e-5
    )


@pytest.mark.parametrize("bits", [32, 7])
def test_what_is_saved_is_read(tmp_path: Path, bits: int) -> None:
    lm = tiny_lm(width=64)
    for path in (tmp_path / "a.edge", tmp_path / "b.edge"):
        save_lm(path, lm.model, lm.tokeniser, lm.provenance, bits=bits)
    assert (tmp_path / "a.edge").read_bytes() == (tmp_path / "b.edge").read_bytes()
    found = load_lm(tmp_path / "a.edge")
    assert found.provenance == {"run": "tiny", "bits": str(bits)}
    assert found.parameters == lm.parameters == 40 * 64 + 40 + 2 * (2 * 4 * 64 * 64 + 4 * 64)
    labels = torch.tensor([[0, 3, 4, 5]])
    if bits == 32:
        assert torch.allclose(found.model(labels), lm.model(labels), atol=1e-4)
    matrix = lm.model.embedding.weight
    worst = float((found.model.embedding.weight - matrix).abs().max() / matrix.abs().max())
    assert worst < (1e-7 if bits == 32 else 0.02)


def test_packed_it_is_small(tmp_path: Path) -> None:
    lm = tiny_lm(width=64)
    save_lm(tmp_path / "a.edge", lm.model, lm.tokeniser, {})
    save_lm(tmp_path / "b.edge", lm.model, lm.tokeniser, {}, bits=7)
    vectors = 4 * (40 + 2 * 256 + 40 + 4 * 256)  # biases and scales
    saved = (tmp_path / "a.edge").stat().st_size - (tmp_path / "b.edge").stat().st_size
    assert saved == pytest.approx((lm.parameters - 40 - 512) * 25 / 8 - vectors, rel=0.1)


def damaged(lm: TrainedLm, tmp_path: Path, **meta: object) -> Path:
    path = tmp_path / "lm.edge"
    save_lm(path, lm.model, lm.tokeniser, {})
    file = read_edge(path)
    write_edge(path, file.tensors, {**file.meta, **meta})
    return path


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        ({"format": "edgespeech-packed-1"}, f"format is 'edgespeech-packed-1', expected {FORMAT}"),
        ({"shape": 3}, "shape is 3, expected a mapping"),
        ({"shape": {"vocabulary": 40, "width": 8}}, "expected a mapping of layers, vocabulary, width"),
        ({"shape": {"vocabulary": 40, "width": "8", "layers": 2}}, "width is '8'"),
        ({"shape": {"vocabulary": 40, "width": 9, "layers": 2}}, "tensor embedding.weight is"),
        ({"shape": {"vocabulary": 40, "width": 8, "layers": 1}}, r"tensor lstm.bias_l1 is .*, expected None"),
        ({"shape": {"vocabulary": 40, "width": 8, "layers": 3}}, "tensor lstm.bias_l2 is None"),
        ({"pieces": "???"}, "pieces is .*, expected a sentencepiece model"),
        ({"pieces": ""}, "pieces is .*, expected a sentencepiece model"),
        ({"provenance": {"a": 1}}, "provenance is"),
    ],
)
def test_files_that_are_no_language_model(tmp_path: Path, meta: dict[str, object], problem: str) -> None:
    with pytest.raises(EdgeSpeechError, match=problem):
        load_lm(damaged(tiny_lm(), tmp_path, **meta))


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    lm = tiny_lm()
    with pytest.raises(EdgeSpeechError, match="bits is 9, expected 2 to 8 or 32"):
        save_lm(tmp_path / "x", lm.model, lm.tokeniser, {}, bits=9)
    other = Tokeniser.train(["turn it on"], 32)
    with pytest.raises(EdgeSpeechError, match="vocabulary is 40, expected 32"):
        save_lm(tmp_path / "x", lm.model, other, {})
    lm.model.bias[3] = np.nan
    with pytest.raises(EdgeSpeechError, match="tensor bias is nan, expected finite"):
        save_lm(tmp_path / "x", lm.model, lm.tokeniser, {})
    assert not (tmp_path / "x").exists()


def test_the_config_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lm.yaml"
    path.write_text(yaml.safe_dump(VALUES))
    config = load_lm_config(path)
    assert config == LmConfig.model_validate(VALUES)
    assert config.shape == LmShape(vocabulary=60, width=24, layers=2)
    rates = [config.rate(step) for step in range(60)]
    assert rates[:5] == pytest.approx([0.0075, 0.015, 0.0225, 0.03, 0.03])
    assert rates[59] == pytest.approx(0.03 * (1 - 0.98 * 55 / 56))
    assert rates[4:] == sorted(rates[4:], reverse=True)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"layers": 0}, "layers is 0"),
        ({"vocabulary": 12}, "vocabulary is 12"),
        ({"held_out": []}, "held_out"),
        ({"warmup_steps": 99}, "warmup_steps: 99 must not be above steps"),
        ({"speed": 1}, "unknown key 'speed'"),
        ({"text": [{"grammar": "volume"}]}, "sentences with a grammar"),
    ],
)
def test_bad_configs(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    path = tmp_path / "lm.yaml"
    path.write_text(yaml.safe_dump({**VALUES, **change}))
    with pytest.raises(EdgeSpeechError, match=problem):
        load_lm_config(path)


@pytest.mark.parametrize(("content", "problem"), [("[", "not YAML"), (None, "a text file that exists")])
def test_unreadable_configs(tmp_path: Path, content: str | None, problem: str) -> None:
    path = tmp_path / "lm.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(EdgeSpeechError, match=problem):
        load_lm_config(path)
