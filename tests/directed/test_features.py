"""Features that tell speech to the device from other speech, and the file of a classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgespeech.contracts import SAMPLE_RATE
from edgespeech.directed.features import FEATURES, Decoded, features_of, level_db, likelihood, wake_likeness
from edgespeech.directed.score import Saved, load_classifier, save_classifier
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.perceptron import learn
from edgespeech.search.hypothesis import Hypothesis
from helpers_speakers import speakers

VOICE = speakers(1)[0]


class Counting:
    """A language model in which label n has log-probability -n after any history."""

    def log_probs(self, history: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return -np.arange(10.0)


def decoded(labels: tuple[int, ...] = (1, 2, 3), frames: tuple[int, ...] = (2, 3, 8)) -> Decoded:
    return Decoded("view glass on", Hypothesis(labels, frames, -5.0), 25, 0.04)


def named(samples: np.ndarray[tuple[int], np.dtype[np.float32]], one: Decoded) -> dict[str, float]:
    return dict(zip(FEATURES, features_of(samples, one, Counting(), ["view glass"]).tolist(), strict=True))


def test_features_are_what_they_say() -> None:
    found = named(VOICE.says(1), decoded())
    speech_s = math.exp(found["speech"])
    assert 0.8 < speech_s <= 1.55
    assert found["labels"] == pytest.approx(3 / speech_s)
    assert found["confidence"] == pytest.approx(-5 / 25)
    assert found["blank"] == pytest.approx(math.log(17 * 0.04))  # from frame 8 to the end
    assert found["language"] == pytest.approx(-2)
    assert found["words"] == pytest.approx(math.log(4))
    assert found["wake"] == 1
    assert found["voiced"] > 0.5
    noise = 0.05 * np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    assert named(noise, decoded())["voiced"] < 0.1
    paused = np.concatenate([VOICE.says(1), np.zeros(SAMPLE_RATE, np.float32), VOICE.says(2)])
    assert named(paused, decoded())["pauses"] > found["pauses"] + 0.1


def test_level_is_in_none_of_them_and_energy_is_it() -> None:
    samples = VOICE.says(1)
    quiet = features_of(samples * np.float32(0.1), decoded(), None, [])
    assert quiet == pytest.approx(features_of(samples, decoded(), None, []), abs=0.05)
    assert level_db(samples) - level_db(samples * np.float32(0.1)) == pytest.approx(20, abs=0.1)


def test_an_empty_hypothesis_has_features() -> None:
    empty = Decoded("", Hypothesis(), 25, 0.04)
    found = named(VOICE.says(1), empty)
    assert all(map(math.isfinite, found.values()))
    assert (found["labels"], found["language"], found["words"], found["wake"]) == (0, -10, 0, 0)
    assert found["blank"] == pytest.approx(0)
    assert likelihood([], Counting()) == -10


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("view glass turn on", 1, 1),
        ("viewglass", 1, 1),
        ("few glass turn on", 0.7, 0.99),
        ("turn on the view glass", 0, 0.6),
        ("", 0, 0),
    ],
)
def test_likeness_to_a_wake_word(text: str, least: float, most: float) -> None:
    assert least <= wake_likeness(text, ["alexa", "view glass"]) <= most
    assert wake_likeness(text, []) == 0


def test_what_has_no_features() -> None:
    with pytest.raises(EdgeSpeechError, match="at least 512"):
        features_of(np.zeros(500, np.float32), decoded(), None, [])
    with pytest.raises(EdgeSpeechError, match="not finite"):
        features_of(np.full(2000, np.nan, np.float32), decoded(), None, [])
    with pytest.raises(EdgeSpeechError, match="frames is 0"):
        Decoded("", Hypothesis(), 0, 0.04)


@pytest.mark.parametrize("damage", [None, "missing", "text", "other", "nan", "about"])
def test_files(tmp_path: Path, damage: str | None) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, len(FEATURES)))
    classifier = learn(features, (features[:, 0] > 0).astype(float), seed=1, steps=50)
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, Saved(classifier, 0.25, "given"))
    if damage is None:
        found = load_classifier(path)
        assert (found.threshold, found.given_sha256) == (0.25, "given")
        assert found.classifier.scores(features) == pytest.approx(classifier.scores(features))
        assert ((found.classifier.scores(features) > 0) == (features[:, 0] > 0)).mean() > 0.8
        return
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("no classifier")
    else:
        weights, about = load_file(path), {"threshold": "0", "given_sha256": ""}
        if damage == "other":
            del weights["mean"]
        elif damage == "nan":
            weights["mean"][:] = torch.nan
        else:
            about["threshold"] = "high"
        save_file(weights, path, about)
    with pytest.raises(EdgeSpeechError, match=r"classifier\.safetensors"):
        load_classifier(path)
