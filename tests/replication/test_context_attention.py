"""The trained arms of attention: what they are, and what is said of those that are not trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from replication.context_biasing import attention
from replication.context_biasing.attention import Listened, attends, shares_of, trained_arms

from helpers_biasing import attentive
from helpers_packed import features


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path))


def test_the_arms_differ_in_what_they_are_named_for() -> None:
    arms = trained_arms().arms
    configs = {name: arm.config for name, arm in arms.items() if arm.config is not None}
    assert {arm.first for arm in arms.values()} == {
        "no_list", "attention_audio", "attention_label", "attention_mean", "adapter",
    }  # fmt: skip
    for name in ("no_list", "attention_audio", "attention_label", "adapter"):
        assert {arm.seed for arm in arms.values() if arm.first == name} == {1, 2, 3}
    assert configs["no_list"].biasing is None
    assert configs["attention_audio"].model["biasing"]["queries"] == "audio"
    assert configs["attention_label"].model["biasing"]["queries"] == "audio_label"
    lists = [config.biasing for config in configs.values() if config.biasing is not None]
    assert {one.adapter for one in lists} == {False, True}
    assert len({config.steps for config in configs.values()}) == 1  # the control has the same budget
    assert len({config.speech for config in configs.values()}) == 1


def test_an_arm_that_is_not_trained_says_so() -> None:
    rows = list(attends(trained_arms(), {}, seed=0))
    assert len(rows) == 10
    assert {row["skipped"] for row in rows} == {attention.UNTRAINED}


def test_shares_are_of_frames_with_their_interval() -> None:
    said = [
        Listened(features=features(120, seed), text="turn on the light", phrases=("the light", "music"))
        for seed in range(3)
    ]
    right, elsewhere = shares_of(attentive(), "x", said, seed=0)
    for row in (right, elsewhere):
        assert 0 <= row["low"] <= row["measured"] <= row["high"] <= 1
    assert right["n"] + elsewhere["n"] == 3 * 30
    drawn = attention.picture_block([elsewhere, right])
    assert drawn is not None
    assert "the light" in drawn
    assert attention.picture_block([]) is None


def test_without_such_frames_nothing_is_said() -> None:
    one = Listened(features=features(120), text="turn on the light", phrases=("music",))
    right, elsewhere = shares_of(attentive(), "x", [one, one], seed=0)
    assert "skipped" in right
    assert "measured" in elsewhere
