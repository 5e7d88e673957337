"""The whisper detector: streaming is as offline, files keep it, training learns, and the controls are what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgespeech.audio.features import log_mel
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.perceptron import learn
from edgespeech.whispers.making import Treatment, whispered
from edgespeech.whispers.network import Detector, Pooling, Saved, WhisperNet, load_network, save_network
from edgespeech.whispers.rules import FEATURES, features_of
from edgespeech.whispers.training import Crops, Schedule, best_threshold, chosen_pooling, train


def buzz(rng: np.random.Generator, seconds: float = 1.0) -> Samples:
    """A voice of harmonics, of a random pitch."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = rng.uniform(90, 220)
    harmonics = np.sum([np.sin(2 * np.pi * pitch * n * times) / n for n in range(1, 20)], axis=0)
    made: Samples = (0.05 * harmonics).astype(np.float32)
    return made


def crops(count: int = 24) -> Crops:
    rng = np.random.default_rng(0)
    features, by_hand, labels = [], [], []
    for n in range(count):
        voiced = buzz(rng)
        samples = whispered(voiced, Treatment(), rng) if n % 2 else voiced
        features.append(log_mel(samples))
        by_hand.append(features_of(samples))
        labels.append(n % 2)
    speech = np.ones((count, len(features[0])), bool)
    return Crops(np.stack(features), speech, np.stack(by_hand), np.array(labels, np.float32))


@pytest.fixture(scope="module")
def trained() -> WhisperNet:
    return train(crops(), Schedule(steps=40, batch=16, rate=0.01), seed=1)


def test_it_learns_to_tell_them_apart(trained: WhisperNet) -> None:
    rng = np.random.default_rng(99)
    for _ in range(3):
        voiced = buzz(rng)
        for samples, expected in ((voiced, False), (whispered(voiced, Treatment(), rng), True)):
            detector = Detector(trained, Pooling())
            detector.accept(samples)
            detector.finish()
            assert detector.is_whispered is expected


def test_a_seed_decides_the_network() -> None:
    schedule = Schedule(steps=2, batch=8)
    first, again, other = (train(crops(8), schedule, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["out.weight"], other["out.weight"])


@pytest.mark.parametrize("piece", [160, 1600, 3777, 16_000])
def test_streaming_is_as_offline(trained: WhisperNet, piece: int) -> None:
    samples = buzz(np.random.default_rng(5))
    detector = Detector(trained, Pooling(last=50))
    assert detector.log_odds is None
    assert not detector.is_whispered
    for at in range(0, len(samples), piece):
        detector.accept(samples[at : at + piece])
    detector.finish()
    whole, _ = trained(torch.from_numpy(log_mel(samples))[None])
    assert detector.log_odds == pytest.approx(float(whole[0, -50:].mean().detach()), abs=1e-4)


def test_a_file_keeps_it(trained: WhisperNet, tmp_path: Path) -> None:
    own = crops(8)
    control = learn(own.by_hand, own.labels.astype(float), seed=1, steps=5)
    path = tmp_path / "network.safetensors"
    save_network(path, Saved(trained, Pooling(100, 0.25), control, -0.5, "given"))
    found = load_network(path)
    assert (found.pooling, found.control_threshold, found.given_sha256) == (Pooling(100, 0.25), -0.5, "given")
    given = torch.from_numpy(own.features[:2])
    assert torch.allclose(found.network(given)[0], trained(given)[0], atol=0.05)
    assert found.control.scores(own.by_hand) == pytest.approx(control.scores(own.by_hand), abs=0.05)


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "other", "nan", "about"])
def test_files_that_are_none(trained: WhisperNet, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "network.safetensors"
    own = crops(8)
    control = learn(own.by_hand, own.labels.astype(float), seed=1, steps=5)
    save_network(path, Saved(trained, Pooling(), control, 0.0, "given"))
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("no network")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        weights = load_file(path)
        about = {"last": "all", "threshold": "0", "control_threshold": "0", "given_sha256": ""}
        if damage == "other":
            del weights["network.out.weight"]
        elif damage == "nan":
            weights["network.out.weight"][:] = torch.nan
        else:
            about["last"] = "many"
        save_file(weights, path, about)
    with pytest.raises(EdgeSpeechError, match=r"network\.safetensors"):
        load_network(path)


def test_both_classes_are_needed() -> None:
    own = crops(8)
    one_class = Crops(own.features, own.speech, own.by_hand, np.zeros(8, np.float32))
    with pytest.raises(EdgeSpeechError, match="labels"):
        train(one_class, Schedule(steps=1), 0)


@pytest.mark.parametrize("values", [{"steps": 0}, {"batch": -1}, {"rate": float("nan")}])
def test_schedules_out_of_range(values: dict[str, float]) -> None:
    with pytest.raises(EdgeSpeechError, match=next(iter(values))):
        Schedule(**values)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("scores", "labels", "right"),
    [
        ([0.0, 1.0, 2.0, 3.0], [False, False, True, True], 4),
        ([0.0, 1.0, 2.0, 3.0], [False, True, False, True], 3),
        ([1.0, 1.0, 1.0, 2.0], [False, False, True, True], 3),
        ([1.0, 2.0], [True, True], 2),
        ([1.0, 2.0], [False, False], 2),
    ],
)
def test_the_best_threshold_decides_most_rightly(scores: list[float], labels: list[bool], right: int) -> None:
    found = best_threshold(np.array(scores), np.array(labels))
    assert found not in scores
    assert sum((score >= found) == label for score, label in zip(scores, labels, strict=True)) == right


def test_the_pooling_that_decides_most_rightly() -> None:
    # Only the last frame tells.
    log_odds = [
        torch.tensor([9.0, -9.0, 1.0]),
        torch.tensor([-9.0, 12.0, -1.0]),
        torch.tensor([0.0, 9.0, -2.0]),
    ]
    found = chosen_pooling(log_odds, np.array([True, False, False]), [None, 1])
    assert found.last == 1
    assert -1 < found.threshold < 1


def test_features_by_hand_are_what_they_say() -> None:
    rng = np.random.default_rng(0)
    voiced, noise = buzz(rng), 0.1 * rng.standard_normal(SAMPLE_RATE).astype(np.float32)
    found = [dict(zip(FEATURES, features_of(one), strict=True)) for one in (voiced, noise)]
    assert found[0]["voicing"] > 0.9 > 0.6 > found[1]["voicing"]
    assert found[0]["tilt"] > 10 > found[1]["tilt"]
    assert found[1]["high"] == pytest.approx(-3, abs=0.5)
    assert found[1]["crossings"] == pytest.approx(0.5, abs=0.02)
    softer, louder = features_of(noise), features_of(2 * noise)
    assert louder[0] == pytest.approx(softer[0] + 6.02, abs=0.01)
    assert louder[1:] == pytest.approx(softer[1:], abs=1e-3)
