"""What a run is watched by: greedy search in batches, and error rates in every line of its log."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgespeech.model.checkpoint import WEIGHTS, load_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.training.config import TrainConfig
from edgespeech.training.loop import LOG, MODEL, STATE, train
from edgespeech.training.watch import Sample, greedy, word_error_rate

Make = Callable[..., TrainConfig]


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_in_batches_every_utterance_says_what_it_says_alone(predictor: Any) -> None:
    torch.manual_seed(3)
    config = ModelConfig(
        vocabulary=16, stack=4, layers=2, hidden=32, joiner=16, predictor=predictor, context=2
    )
    model = Transducer(config).eval()
    with torch.no_grad():
        model.joiner.weight.mul_(8)
        model.joiner.bias[0] = 1.0
    random = np.random.default_rng(1)
    spoken = [random.standard_normal((n, 80)).astype(np.float32) for n in (90, 41, 160)]
    for features, labels in zip(spoken, greedy(model, spoken), strict=True):
        longer = np.concatenate([features, np.repeat(features[-1:], 50, axis=0)])
        with torch.inference_mode():
            encoded, _, _ = model.transcribe(torch.from_numpy(longer[None]), torch.tensor([len(longer)]))
        alone = GreedyDecoder(model)
        alone.accept(encoded[0])
        assert labels == list(alone.best.labels)
        assert labels


def test_the_error_rate_is_over_all_words() -> None:
    torch.manual_seed(0)
    config = ModelConfig(vocabulary=32, layers=1, hidden=16, joiner=16, context=2)
    model = Transducer(config).eval()
    with torch.no_grad():
        model.joiner.bias[0] = 100.0  # only blanks: every word is deleted
    sample = Sample(["on off", "red"], [np.zeros((50, 80), dtype=np.float32)] * 2)
    assert word_error_rate(model, Tokeniser.train(["on off red blue"], 32), sample) == 1.0


def test_every_line_of_the_log_has_the_error_rates(settings: Make, corpus: Path, tmp_path: Path) -> None:
    watch = {"utterances": 6, "tuning": [str(corpus)]}
    config = settings(steps=6, watch=watch)
    train(config, tmp_path / "run")
    train(config.model_copy(update={"steps": 6}), tmp_path / "run")
    last = json.loads((tmp_path / "run" / LOG).read_text().splitlines()[-1])
    about = load_model(tmp_path / "run" / MODEL).provenance
    for name in ("wer train", "wer train clean", f"wer {corpus}"):
        assert last[name] >= 0
        assert float(about[name]) == last[name]
    assert last["wer step"] == 6


def test_watching_changes_no_weight(settings: Make, corpus: Path, tmp_path: Path) -> None:
    train(settings(), tmp_path / "alone", quiet=True)
    train(settings(watch={"tuning": [str(corpus)]}), tmp_path / "watched", quiet=True)
    one, two = (load_file(tmp_path / name / STATE) for name in ("alone", "watched"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert settings().sha256 == settings(watch={"tuning": [str(corpus)]}).sha256
    assert (tmp_path / "watched" / MODEL / WEIGHTS).is_file()
