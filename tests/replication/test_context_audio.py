"""The page of context audio: its configuration, hearing with and without lead-ins, and its gradient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from replication.context_audio.gradients import gradient_rows, norms_of
from replication.context_audio.hearing import Heard, Listening, Sound, StreamSet, say, ways_of
from replication.context_audio.tables import arms_block, gradient_plot

from edgespeech.arms.configuration import Arms
from edgespeech.core.places import project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.utterances import utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.hear import word_errors
from edgespeech.model.checkpoint import save_model
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.report.text import NONE
from helpers_packed import features, tiny
from helpers_replication import describe_few, load_replication

HERE = project_root() / "replication" / "context_audio"
CONFIG: dict[str, Any] = load_yaml(HERE / "config.yaml")
LEADS = (40, 0, 24)
"""Feature frames before each of three utterances."""


@pytest.fixture
def page() -> ModuleType:
    return load_replication("context_audio")


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StreamSet:
    """Three utterances of noise behind noise of another level."""
    describe_few(tmp_path / "corpora")
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    found = utterances_of({"few": "whisper-en"}, seed=0)
    sounds = [
        Sound(3 * features(lead, seed), features(60 + 8 * seed, 9 + seed), 0.6)
        for seed, lead in enumerate(LEADS)
    ]
    return StreamSet(utterances=found, sounds=sounds, words=word_errors(found), key="k")


def packed(folder: Path) -> Path:
    pack(tiny(), Layout(matrices=Encoding(bits=32)), folder / "model.edge")
    return folder / "model.edge"


@pytest.fixture
def arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arms:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    trained = tiny()
    save_model(tmp_path / "init", trained.model, trained.tokeniser, trained.provenance)
    return Arms(HERE, CONFIG, tmp_path / "init")


def test_the_configuration_names_what_there_is(page: ModuleType, arms: Arms) -> None:
    assert page.PAGE.config()
    ways, sets = {way.name: way for way in ways_of(CONFIG)}, CONFIG["sets"]
    firsts = {arm.first for arm in arms.arms.values()}
    for way in ways.values():
        assert way.arm in firsts
        assert set(way.sets) <= set(sets)
    for entry in CONFIG["comparisons"]:
        for name, of in (
            (entry["way"], entry["set"]),
            (entry.get("against", entry["way"]), entry.get("against_set")),
        ):
            assert (of or entry["set"]) in ways[name].sets
    assert {CONFIG["streaming"]["way"], *CONFIG["gradient"]["ways"]} <= set(ways)
    claimed = {entry["claim"] for entry in CONFIG["comparisons"]}
    assert claimed == {claim.id for claim in page.PAGE.claims()} - {
        f"context_audio.{name}" for name in ("streaming", "gradient", "again")
    }


def test_the_arms_differ_in_the_use_of_the_lead_in_alone(arms: Arms) -> None:
    runs = {}
    for name in ("none", "context", "two_segments"):
        own = [arm for arm in arms.arms.values() if arm.first == name]
        assert [arm.seed for arm in own] == [1, 2, 3]
        config = own[0].config
        assert config is not None
        assert config.lead_ins is not None
        runs[config.lead_ins.use] = (
            config.model_dump(exclude={"name", "lead_ins"}),
            config.lead_ins.model_dump(exclude={"use"}),
        )
    assert set(runs) == {"dropped", "context", "labelled"}
    assert runs["dropped"] == runs["context"] == runs["labelled"]


def test_the_lead_in_is_heard_and_not_transcribed(streams: StreamSet, tmp_path: Path) -> None:
    file = packed(tmp_path)
    alone, behind = (say(file, streams, 2, lead_in=lead_in) for lead_in in (False, True))
    assert [a == b for a, b in zip(alone, behind, strict=True)] == [False, True, False]
    cut = replace(streams, sounds=[one._replace(before=one.before[:0]) for one in streams.sounds])
    assert say(file, cut, 2, lead_in=True) == alone
    assert {len(streams.sounds[row].own) for row in range(3)} == {60, 68, 76}


def listening(arms: Arms, tmp_path: Path, streams: StreamSet) -> Listening:
    config = {**CONFIG, "profile": "quick", "sets": {}, "beam": 2}
    made = Listening(config, arms, tmp_path / "results", tmp_path)
    made.sets = {"same": streams, "other": streams, "competing": streams}
    return made


def heard(arms: Arms, name: str, way: str, **said: list[str]) -> Heard:
    return Heard(arms.arms[name], {(way, key): texts for key, texts in said.items()})


def test_comparisons_are_paired_over_seeds_and_units(arms: Arms, tmp_path: Path, streams: StreamSet) -> None:
    made = listening(arms, tmp_path, streams)
    right = [one.text for one in streams.utterances]
    wrong = ["", *right[1:]]
    words = len(streams.words.words)
    assert words == 3
    found = [
        heard(arms, name, "training_and_inference", same=right, other=wrong, competing=right)
        for name in ("context", "context_seed2", "context_seed3")
    ]
    found += [heard(arms, name, "none", competing=wrong) for name in ("none", "none_seed2", "none_seed3")]
    entry = {"claim": "c", "way": "training_and_inference"}
    row = made.compare(found, {**entry, "against": "none", "set": "competing", "relative": True})
    assert row["measured"] == pytest.approx(-1.0)
    assert row["seeds"] == 3
    assert "seeds" in row["resampled"]
    row = made.compare(found, {**entry, "set": "same", "against_set": "other"})
    assert row["measured"] == pytest.approx(-streams.words.words[0] / sum(streams.words.words))
    assert row["detail"] == "training_and_inference, same against other"
    assert "skipped" in made.compare(found, {**entry, "against": "start", "set": "competing"})
    one = heard(arms, "start", "start", competing=wrong)
    row = made.compare([*found, one], {"claim": "c", "way": "none", "against": "start", "set": "competing"})
    assert (row["measured"], row["seeds"]) == (0, 3)


def test_transcripts_are_published_and_read_again_until_the_streams_change(
    arms: Arms, tmp_path: Path, streams: StreamSet
) -> None:
    made = listening(arms, tmp_path, streams)
    told = heard(arms, "context", "training_and_inference", same=["a", "b", "c"], other=["d", "e", "f"])
    made.publish(told)
    assert made.published(told.arm) == told.texts
    found = [one for one in made.results() if isinstance(one, Heard) and one.arm.name == "context"]
    assert [one.texts for one in found] == [told.texts], "no model is here"
    made.sets["same"] = replace(streams, key="others")
    assert set(made.published(told.arm)) == {("training_and_inference", "other")}
    assert made.published(arms.arms["context_seed2"]) == {}


def test_streaming_is_compared_with_the_whole_stream(
    page: ModuleType, streams: StreamSet, tmp_path: Path
) -> None:
    from edgespeech.packed.runtime import PackedModel

    with PackedModel(packed(tmp_path)) as model:
        assert all(page._alike(model, sound, 2, 12) for sound in streams.sounds)


def test_the_gradient_is_that_of_the_utterance_s_loss(streams: StreamSet) -> None:
    trained, sound = tiny(), streams.sounds[0]
    norms = norms_of(trained, sound, "turn on the light", "u")
    assert (len(norms.before), len(norms.own)) == (10, 15)
    assert (norms.before > 0).all()
    assert norms.before[-1] > norms.before[0]
    trained.model.transcriber.scale.fill_(float("nan"))
    with pytest.raises(EdgeSpeechError, match="u: gradient is 'NaN or infinity'"):
        norms_of(trained, sound, "turn on the light", "u")


def test_the_gradient_is_aligned_at_the_utterance(streams: StreamSet) -> None:
    row = gradient_rows([tiny()], streams, "w", {"before_s": 0.8, "after_s": 0.4})
    shares = row["gradient"]["shares"]
    assert (len(shares), row["gradient"]["before"]) == (30, 20)
    assert not any(shares[:10]), "no lead-in is that long"
    assert all(share > 0 for share in shares[10:])
    assert 0 < row["measured"] < 1
    assert row["low"] <= row["measured"] <= row["high"]
    drawn = gradient_plot([row["gradient"]])
    assert drawn == gradient_plot([row["gradient"]])
    assert "share of the gradient" in drawn


def test_the_table_has_the_mean_over_seeds() -> None:
    ways = {"none": {"arm": "none", "lead_in": False, "sets": ["a"]}}
    rows = [
        {"name": f"none{seed}", "way": "none", "set": "a", "seed": seed, "wer": {"wer": wer, "n": 7}}
        for seed, wer in ((1, 0.1), (2, 0.2))
    ]
    record = {"config": {"sets": {"a": {}, "b": {}}, "ways": ways, "beam": 8}, "rows": [{"heard": rows}]}
    table = arms_block(record)
    assert f"| none | none | no | 15.0 % [10.0, 20.0] | {NONE} | 2 |" in table
    assert "Utterances: a 7." in table
    assert arms_block(None) == "No record yet.\n"
