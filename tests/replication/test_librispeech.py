"""LibriSpeech, from its own layout on disk to the table, with a corpus and a model that are tiny."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from edgespeech.audio.io import write_audio
from edgespeech.core.places import project_root
from edgespeech.corpora.readers import READERS
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import measure
from edgespeech.model.checkpoint import WEIGHTS, load_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transducer
from edgespeech.pipeline.replicate import load_experiment
from edgespeech.report.page import render
from edgespeech.steps.store import Made, finish, folder_of
from edgespeech.training.config import TrainConfig, load_train_config
from edgespeech.training.loop import train

HERE = project_root() / "replication" / "librispeech"
PARTS = ("train-clean-100", "train-clean-360", "train-other-500", "test-clean", "test-other")
TINY: dict[str, Any] = {
    "model": {"vocabulary": 32, "layers": 1, "hidden": 16, "joiner": 16, "context": 2},
    "steps": 4,
    "warmup_steps": 1,
    "batch_s": 10.0,
    "clean_steps": 1,
    "ctc_only_steps": 1,
    "save_every": 4,
    "watch": {"utterances": 4},
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every part with two speakers of two utterances each, as the archives unpack, read by the corpus's reader."""
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    folder = tmp_path / "work" / "corpora" / "librispeech"
    for number, part in enumerate(PARTS):
        split = f"librispeech_{part.replace('-', '_')}"
        for speaker in ("19", "26"):
            chapter = folder / split / "LibriSpeech" / part / speaker / "198"
            chapter.mkdir(parents=True)
            lines = []
            for place in range(2):
                key = f"{speaker}-198-{place:04d}"
                noise = 0.1 * random.standard_normal(16000 + 100 * number)
                write_audio(chapter / f"{key}.flac", noise.astype(np.float32))
                lines.append(f"{key} NORTHANGER ABBEY" if place else f"{key} IT'S A NOVEL")
            (chapter / f"{speaker}-198.trans.txt").write_text("\n".join(lines) + "\n")
        READERS["librispeech"](folder / split, split, folder / f"{split}.jsonl")
    return tmp_path


def tiny(name: str) -> TrainConfig:
    whole = yaml.safe_load((HERE / f"train_{name}.yaml").read_text())
    return TrainConfig.model_validate(whole | TINY)


@pytest.mark.parametrize("name", ["100", "960"])
def test_the_runs_are_valid_and_within_the_size_of_the_model(name: str) -> None:
    config = load_train_config(HERE / f"train_{name}.yaml")
    assert Transducer(ModelConfig.from_mapping(config.model)).parameters_deployed <= 5_000_000
    assert config.longest_s >= 35  # seconds of the longest utterance


@pytest.mark.usefixtures("tree")
def test_from_the_archive_s_layout_to_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load_experiment("librispeech")
    page = experiment.PAGE
    monkeypatch.setattr(experiment, "load_train_config", lambda path: tiny(path.stem.removeprefix("train_")))
    assert page.steps("full", "*") == []
    (step,) = page.steps("full", "train_100")
    assert (step.name, step.resources.gpus) == ("librispeech_100", 1)
    with pytest.raises(
        EdgeSpeechError, match="--only is 'nothing', expected a pattern that matches one of train_100"
    ):
        page.steps("full", "nothing")
    finish(step, Made([train(tiny("100"), folder_of(step), quiet=True) / WEIGHTS]))
    record = measure(page)
    rows = {row.claim: row.measured for row in record.rows if row.measured is not None}
    for claim in ("librispeech.clean_100_clean", "librispeech.clean_100_other"):
        assert rows[claim].n == 4
        assert rows[claim].value is not None
        assert rows[claim].low is not None
    assert rows["librispeech.all_other"].not_run == "needs 60 GB and a GPU"
    text = render(page, record)
    assert "librispeech_test_clean" in text
    assert text.count("needs 60 GB and a GPU") >= 2


def test_all_three_parts_train_together(tree: Path) -> None:
    model = train(tiny("960"), tree / "run", quiet=True)
    assert load_model(model).provenance["utterances"] == "12"
