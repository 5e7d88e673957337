"""A run's file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.training.config import TrainConfig, load_train_config


def test_the_rate_warms_up_holds_and_falls(settings: Callable[..., TrainConfig]) -> None:
    config = settings(steps=1000, warmup_steps=100, decay_from=0.5, learning_rate=0.01)
    assert config.rate(0) == pytest.approx(0.0001)
    assert config.rate(99) == config.rate(499) == pytest.approx(0.01)
    assert config.rate(750) == pytest.approx(0.01 * 0.51)
    assert config.rate(1000) == pytest.approx(0.0002)


def test_augmentation_grows_after_the_clean_steps(settings: Callable[..., TrainConfig]) -> None:
    config = settings(clean_steps=3, ramp_steps=4)
    assert [config.strength(s) for s in (0, 3, 5, 7, 9)] == [0, 0, 0.5, 1, 1]
    assert [settings(clean_steps=3).strength(s) for s in (2, 3)] == [0, 1]
    assert settings().strength(0) == 1


def test_the_hash_tells_any_change(settings: Callable[..., TrainConfig]) -> None:
    assert settings().sha256 == settings().sha256
    assert settings().sha256 != settings(seed=6).sha256


def test_a_key_that_is_not_used_leaves_the_hash_of_older_runs(settings: Callable[..., TrainConfig]) -> None:
    assert settings(fast_emit=0.0).sha256 == settings().sha256
    assert settings(fast_emit=0.01).sha256 != settings().sha256


@pytest.mark.parametrize("path", sorted((project_root() / "replication" / "rnnt").glob("train_*.yaml")))
def test_the_shipped_runs_are_valid(path: Path) -> None:
    config = load_train_config(path)
    assert not any("test" in source.corpus or "coffee" in source.corpus for source in config.speech)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name: x\nseed: 1\nmodel: {vocabulary: 9}\nspeech: [{corpus: an4_train}]\nsteps: 5\nwarmup_steps: 6\n",
            "steps",
        ),
        ("name: x\nseed: 1\nmodel: {vocabulary: 9}\nspeech: []\nsteps: 5\n", "speech"),
        ("name: x\nseed: 1\nmodel: {vocabulary: 9, deep: 1}\nspeech: [{corpus: a}]\nsteps: 5\n", "deep"),
        (
            "name: x\nseed: 1\nmodel: {vocabulary: 9}\nspeech: [{corpus: a}]\nsteps: 5\naugment: {echo: 1}\n",
            "echo",
        ),
        ("name: x\nseed: 1\nmodel: {vocabulary: 9}\nspeech: [{corpus: a}]\nsteps: 5\nepochs: 3\n", "epochs"),
        (
            "name: x\nseed: 1\nmodel: {vocabulary: 9}\nspeech: [{corpus: a}]\nsteps: 500\nsounds: {layer: 0}\n",
            "layer",
        ),
        (
            "name: x\nseed: 1\nmodel: {vocabulary: 9}\nspeech: [{corpus: a}, {corpus: b, sounds_only: de}]\nsteps: 500",
            "expects the loss on sounds",
        ),
        (
            "name: x\nseed: 1\nmodel: {vocabulary: 9}\nspeech: [{corpus: b, sounds_only: de}]\nsteps: 500\n"
            "sounds: {layer: 1}\n",
            "whose words are learned",
        ),
        (
            "name: x\nseed: 1\nmodel: {vocabulary: 9}\nspeech: [{corpus: a}]\nsteps: 500\nfast_emit: 2\n",
            "fast_emit",
        ),
        ("name: [", "not YAML"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(EdgeSpeechError, match=said) as caught:
        load_train_config(tmp_path / "run.yaml")
    assert "run.yaml" in str(caught.value)
