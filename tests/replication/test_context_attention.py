"""The trained arms of attention: what they are, and what is said of those that are not trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from replication.context_biasing import attention, trained
from replication.context_biasing.attention import Listened, attends, shares_of, trained_arms
from replication.context_biasing.hearing import HeardSet, label_of
from replication.context_biasing.lists import Case, Set

from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.manifest import Utterance
from edgespeech.corpora.utterances import Spoken
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


def config(**waits: str) -> dict[str, object]:
    content = load_yaml(attention.HERE / "config.yaml")
    del content["attention"]["waits"]
    content["attention"] |= waits
    return {**content, "profile": "full"}


def test_arms_that_wait_are_trained_only_by_name() -> None:
    waiting = config(waits="something is missing")
    assert trained.steps(waiting, "full", "*") == []
    named = trained.steps(waiting, "full", "attention_audio")
    assert [step.name for step in named if step.rule == "pack"] == ["context_biasing/attention_audio"]
    assert any("attention_audio" in step.name for step in named if step.rule == "hear_lists")
    everything = trained.steps(config(), "full", "*")
    assert sum(step.rule == "pack" for step in everything) == len(trained_arms().arms)
    assert trained.steps(config(), "quick", "*") == []


def test_an_arm_that_is_not_trained_says_why() -> None:
    rows = list(attends(trained_arms(), ["attention_audio", "adapter"], {}, "no model", seed=0))
    assert [(row["detail"], row["skipped"]) for row in rows] == [
        ("attention_audio", "no model"),
        ("adapter", "no model"),
    ]
    found = list(trained.trained(config(waits="it waits"), 0))
    assert {row["skipped"] for row in found} == {f"{attention.UNTRAINED}: it waits"}
    assert {row["claim"].partition(".")[2] for row in found} == {*trained.CLAIMS, "data_alone", "attends"}


def said() -> list[Listened]:
    return [
        Listened(features=features(120, seed), text="turn on the light", phrases=("the light", "music"))
        for seed in range(3)
    ]


def test_shares_are_of_frames_with_their_interval() -> None:
    right, elsewhere = shares_of([attentive()], "x", said(), seed=0)
    for row in (right, elsewhere):
        assert 0 <= row["low"] <= row["measured"] <= row["high"] <= 1
    assert right["n"] + elsewhere["n"] == 3 * 30
    drawn = attention.picture_of_rows([elsewhere, right])
    assert drawn is not None
    assert "the light" in drawn
    assert attention.picture_of_rows([]) is None


def test_shares_of_several_seeds_are_resampled_over_them() -> None:
    (right, _), one, other = (
        list(shares_of(models, "x", said(), seed=0))
        for models in ([attentive(), attentive(seed=1)], [attentive()], [attentive(seed=1)])
    )
    assert right["seeds"] == 2
    assert "seeds" in right["resampled"]
    parts = sorted((one[0]["measured"], other[0]["measured"]))
    assert parts[0] <= right["measured"] <= parts[1]


def test_without_such_frames_nothing_is_said() -> None:
    one = Listened(features=features(120), text="turn on the light", phrases=("music",))
    right, elsewhere = shares_of([attentive()], "x", [one, one], seed=0)
    assert "skipped" in right
    assert "measured" in elsewhere


def heard_as(**texts: str) -> HeardSet:
    """Two utterances of which each variant wrote the same."""
    items = [
        Utterance(id=name, audio_filepath="a.wav", duration=2.0, text="call ann now", speaker=name)
        for name in ("u", "v")
    ]
    cases = [Case(Spoken(corpus="c", item=item, audio=Path("a.wav")), item.text, ("ann",)) for item in items]
    found = {"texts": {label: [text] * 2 for label, text in texts.items()}, "missing": {}}
    return HeardSet(Set("c", tuple(cases), ("bobo", "kestrel"), 0), "basic", found)


def test_an_arm_is_compared_with_training_without_lists_and_with_either_alone() -> None:
    labels = {
        "none": "call an now",
        label_of("fusion", 100): "call ann now",
        label_of("attention", 100): "call an now",
        label_of("attention", 2000): "call ann now",
        label_of("both", 100): "call ann how",
        label_of("both", 100, "absent"): "call an now",
    }
    one = heard_as(**labels)
    rows = [row for row in trained.rows_of([one] * 3, [one] * 3, one, "c, x", config(), 0) if "claim" in row]
    found = {(row["claim"].partition(".")[2], row["detail"].rpartition(", ")[2]): row for row in rows}
    assert found["attention", "x"]["measured"] == 0
    assert found["both", "x"]["measured"] == 1
    assert found["both", "x"]["seeds"] == 3
    assert found["both_unbiased", "x"]["measured"] == 0.5
    assert found["both_better", "than attention alone"]["measured"] == 1
    assert found["both_better", "than fusion alone"]["skipped"] == "no errors without it, 0 with it"
    assert found["attention_absent", "x"]["measured"] == 0
    assert found["data_alone", "x"]["measured"] == 0
