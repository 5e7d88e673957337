"""The shares of attention that are right, and its picture."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgespeech.arms.attention import (
    AttentionMap,
    AttentionShares,
    attention_map,
    attention_plot,
    attention_shares,
    picture_of,
)
from edgespeech.errors import EdgeSpeechError
from helpers_biasing import attentive
from helpers_packed import features, tiny, tokeniser


def map_of(rows: list[list[float]], targets: list[int]) -> AttentionMap:
    return AttentionMap(np.array(rows, np.float32), np.array(targets))


def test_frames_are_counted_by_what_they_should_attend_to() -> None:
    one = map_of([[0.9, 0.1, 0], [0.2, 0.5, 0.3], [0.2, 0.3, 0.5], [0.4, 0.6, 0]], [0, 1, 1, 0])
    assert attention_shares([one]) == AttentionShares(phrase_frames=2, right=1, other_frames=2, no_bias=1)
    assert attention_shares([one, one]) == AttentionShares(4, 2, 4, 2)
    assert attention_shares([]) == AttentionShares(0, 0, 0, 0)


def test_a_map_has_the_frames_of_the_listed_phrase() -> None:
    trained, phrases = attentive(), [tokeniser().encode(text) for text in ("the light", "music")]
    found = attention_map(trained, features(120), "turn on the light", phrases)
    assert found is not None
    assert found.shares.shape == (30, 3)
    assert found.shares.sum(axis=1) == pytest.approx(np.ones(30), abs=1e-5)
    assert set(found.targets) == {0, 1}
    inside = np.flatnonzero(found.targets)
    assert inside.tolist() == list(range(inside[0], inside[-1] + 1))
    none = attention_map(trained, features(120), "turn on the light", phrases[1:])
    assert none is not None
    assert not none.targets.any()
    assert attention_map(trained, features(8), "turn on the light", phrases) is None


def test_a_model_without_attention_has_no_map() -> None:
    with pytest.raises(EdgeSpeechError, match="without attention"):
        attention_map(tiny(), features(40), "the light", [])


def test_the_picture_is_drawn_from_a_record() -> None:
    one = map_of([[0.9, 0.1], [0.2, 0.8]], [0, 1])
    picture = json.loads(json.dumps(picture_of(one, ["kettle"], 0.04)))
    drawn = attention_plot(picture)
    assert drawn == attention_plot(picture)
    assert "kettle" in drawn
    assert "no-bias" in drawn
    assert drawn != attention_plot({**picture, "targets": [0, 0]})
    assert drawn != attention_plot({**picture, "shares": [[0.1, 0.9], [0.2, 0.8]]})
    with pytest.raises(EdgeSpeechError, match="names is 2, expected 1"):
        picture_of(one, ["kettle", "lamp"], 0.04)
