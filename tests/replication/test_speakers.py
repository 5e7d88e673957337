"""The page of speaker identification: trials, material, households, and all of it end to end with made voices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replication.speakers import experiment, households, runs, sets, tables
from replication.speakers.listening import Listener, Vectors
from replication.speakers.trials import free_trials, same_text_trials

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.records.records import sha256_json
from edgespeech.speakers import resemblyzer
from edgespeech.speakers.network import load_network
from edgespeech.steps.step import Resources
from edgespeech.steps.store import Job
from helpers_speakers import speakers, write_corpus

COUNT = 6


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A corpus of made voices for everything, and noise."""
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path))
    path = write_corpus(tmp_path, speakers(COUNT), 6)
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    monkeypatch.setattr(sets, "load_noises", lambda *_: {"one": noise})
    monkeypatch.setattr(sets, "recording", lambda *_: noise)
    monkeypatch.setattr(sets, "tuning", lambda given: manifest_of(str(path)))
    monkeypatch.setattr(resemblyzer, "why_missing", lambda: "not in this test, see /somewhere/else")
    quiet = {"speed_prob": 0.0, "pitch_prob": 0.0, "noise_prob": 0.5}
    return {
        "seed": 0,
        "train": ["voices.jsonl"],
        "languages": [],
        "least": 3,
        "per_speaker": 4,
        "longest_s": 1.0,
        "noises": ["noise"],
        "rooms": [],
        "augment": quiet,
        "schedule": {"steps": 40, "batch": 6, "rate": 0.01, "crop_s": [0.4, 0.8]},
        "seeds": [1],
        "tuning": "voices.jsonl",
        "tuning_from": [],
        "tuning_trials": {"enrol": 3, "strangers": 5},
        "dimensions": [2, 5],
        "test_noise": "kitchen",
        "snr_db": 12.0,
        "microphone": {"speed_prob": 0.0, "pitch_prob": 0.0, "noise_prob": 0.0},
        "strangers": 10,
        "tests": [
            {
                "corpus": str(path),
                "kind": "any text",
                "enrol": 3,
                "conditions": ["clean", "kitchen", "microphone"],
            },
            {"corpus": str(path), "kind": "same word", "enrol": 2, "conditions": ["clean"]},
        ],
        "household": 2,
        "full": COUNT,
        "profile": "full",
    }


@pytest.fixture
def manifest(config: dict[str, Any]) -> Manifest:
    return manifest_of(config["tests"][0]["corpus"])


def test_trials_enrol_with_some_and_test_with_all_others(manifest: Manifest) -> None:
    trials = free_trials(manifest.utterances, enrol=3, speakers=None, strangers=2, seed=0)
    assert len(trials.voices) == COUNT
    assert len(trials.tests) == 3 * COUNT
    enrolled = {one for voice in trials.voices for one in voice.utterances}
    assert not enrolled & {one for _, one in trials.tests}
    assert all(one.startswith(f"{voice.speaker}_") for voice in trials.voices for one in voice.utterances)
    targets = trials.speakers.targets
    assert targets.sum() == len(trials.tests)
    assert (~targets).sum() == 2 * len(trials.tests)
    assert len(set(trials.pairs)) == len(trials.pairs)


def test_a_seed_decides_the_list_and_the_order_of_the_manifest_does_not(manifest: Manifest) -> None:
    def made(seed: int, backwards: bool = False) -> str:
        utterances = manifest.utterances[::-1] if backwards else manifest.utterances
        return free_trials(utterances, enrol=3, speakers=4, strangers=2, seed=seed).sha256()

    assert made(0) == made(0, backwards=True)
    assert made(0) != made(1)


def test_trials_of_the_same_word_compare_no_two_words(manifest: Manifest) -> None:
    trials = same_text_trials(manifest.utterances, enrol=2, strangers=9, seed=0)
    text = {one.id: one.text for one in manifest.utterances}
    for voice, test in trials.pairs:
        words = {text[one] for one in trials.voices[voice].utterances}
        assert words == {text[trials.tests[test][1]]}
    assert len(trials.voices) == 2 * COUNT
    assert trials.speakers.targets.sum() == 2 * COUNT


def test_too_few_utterances_for_trials(manifest: Manifest) -> None:
    with pytest.raises(
        EdgeSpeechError, match="speakers is 0, expected at least 2 with more than 6 utterances"
    ):
        free_trials(manifest.utterances, enrol=6, speakers=None, strangers=2, seed=0)
    with pytest.raises(EdgeSpeechError, match="texts is 0"):
        same_text_trials(manifest.utterances, enrol=3, strangers=2, seed=0)


def test_material_has_two_versions_of_some_utterances_of_each_speaker(config: dict[str, Any]) -> None:
    chosen = sets.chosen(config)
    assert len(chosen) == 4 * COUNT
    voices, spectra = sets.voices_of(config)
    assert voices.count == COUNT
    assert len(voices.starts) == len(spectra) == 8 * COUNT
    first, second = voices.utterance(0), voices.utterance(1)
    assert first.shape == second.shape == (100, 80)
    assert not np.array_equal(first, second)
    assert sets.chosen(config | {"least": 7}) == []
    again, _ = sets.voices_of(config)
    assert np.array_equal(voices.frames, again.frames)


def test_conditions_change_tests_and_repeat_exactly(config: dict[str, Any], manifest: Manifest) -> None:
    samples = manifest.read(manifest.utterances[0])
    for name in (sets.CLEAN, sets.KITCHEN, sets.MICROPHONE):
        condition = sets.condition_of(config, name)
        changed = condition(samples, "one")
        assert changed.shape == samples.shape
        assert np.array_equal(changed, samples) == (name == sets.CLEAN)
        assert np.array_equal(changed, sets.condition_of(config, name)(samples, "one"))


def test_half_of_the_tuning_utterances_are_noisy(config: dict[str, Any], manifest: Manifest) -> None:
    condition = sets.tuning_condition(config)
    changed = [
        not np.array_equal(condition(samples, name), samples)
        for name, samples in sets.read(manifest, [one.id for one in manifest.utterances])
    ]
    assert 0.2 < np.mean(changed) < 0.8


def test_households_and_strangers(manifest: Manifest) -> None:
    trials = free_trials(manifest.utterances, enrol=5, speakers=None, strangers=5, seed=0)
    # Speaker n's voice is the unit vector n; tests: 0 to 3 are clear, 4 sounds like 3, 5 like nobody.
    tests = np.eye(COUNT)[[0, 1, 2, 3, 3, 5]]
    tests[5] *= 0.1
    heard = Vectors(np.eye(COUNT, dtype=np.float32), tests.astype(np.float32))
    # Three households: 0 and 1, 2 and 3, 4 and 5. Speaker 3 is a stranger to the third, 5 to the first.
    found = households.outcomes(trials, heard.matrix(), 0.5, 2)
    assert found.right.tolist() == [True, True, True, True, False, False]
    assert found.accepted.tolist() == [False] * 6
    near = tests.copy()
    near[0, 2] = 0.9  # at the second household, speaker 0 sounds like speaker 2
    accepted = households.outcomes(
        trials, Vectors(heard.voices, near.astype(np.float32)).matrix(), 0.5, 2
    ).accepted
    assert accepted.tolist() == [True] + [False] * 5
    # Half of six speakers at most are at home.
    assert households.outcomes(trials, heard.matrix(), 0.5, 99).right[:4].all()


def test_utterances_are_decoded_once_for_each_condition(config: dict[str, Any], manifest: Manifest) -> None:
    heard: list[int] = []

    def embed(samples: Samples) -> np.ndarray[Any, np.dtype[np.float32]]:
        heard.append(len(samples))
        return np.array([1.0, 0.0], np.float32)

    trials = free_trials(manifest.utterances, enrol=3, speakers=None, strangers=2, seed=0)
    listener = Listener(manifest, {"one": [embed]})
    for _ in range(2):
        vectors = listener.vectors(trials, sets.CLEAN, sets.condition_of(config, sets.CLEAN))
    assert len(heard) == len(manifest.utterances)
    assert vectors["one"][0].scores(trials).tolist() == [1.0] * len(trials.pairs)


def test_from_training_to_the_page(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(runs, "fetch_all", fetched.extend)
    monkeypatch.setattr(runs, "tuning", sets.tuning)
    monkeypatch.setattr(experiment, "shipped_models", lambda: tmp_path / "shipped")
    monkeypatch.setattr(experiment, "shipped_network", lambda: tmp_path / "shipped" / "packed.safetensors")

    def job(name: str, given: dict[str, Any], **folders: Path) -> Job:
        folder = tmp_path / name
        folder.mkdir()
        return Job(name=name, given=given, folder=folder, resources=Resources(), folders=folders, outcomes={})

    material = runs.make_material(job("material", {key: config[key] for key in runs.MATERIAL}))[0].parent
    controls = runs.make_controls(job("controls", runs.controls_given(config), material=material))[0]
    network = runs.make_network(job("seed_1", runs.given_of(config, 1), material=material))[0]
    assert fetched == ["voices.jsonl", "noise", "voices.jsonl", "voices.jsonl"]
    saved = load_network(network)
    assert saved.given_sha256 == sha256_json(runs.given_of(config, 1))
    assert saved.thresholds.pair < 1
    by_name = {"seed_1": network, "controls": controls}
    monkeypatch.setattr(experiment, "newest_copy", lambda step, *_, publish: by_name[step.name])

    rows = list(experiment.verification(config, 0))

    assert (tmp_path / "shipped" / "packed.safetensors").stat().st_size < 400_000
    claims = [row.get("claim", "") for row in rows]
    assert claims.count("speakers.eer") == claims.count("speakers.spectrum") == 4
    assert claims.count("speakers.identified") == claims.count("speakers.strangers") == 1
    found = {(row["claim"], row["detail"]): row for row in rows if "claim" in row}
    where = f"{config['tests'][0]['corpus']}, any text, 3 recordings, clean"
    assert found["speakers.eer", where]["measured"] < 0.3  # these speakers are those of the training
    assert found["speakers.eer", where]["resampled"] == ("speakers", "seeds")
    assert found["speakers.identified", where]["measured"] > 0.5
    assert abs(found["speakers.rounding", where]["measured"]) < 0.1
    assert found["speakers.resemblyzer", where]["skipped"] == "not in this test, see else"
    view = {"rows": rows, "config": config}
    assert "`network, 8 bits`" in tables.systems_block(view)
    assert f"| {where} | {COUNT} |" in tables.trials_block(view)


def test_without_a_network_every_claim_says_so(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "networks_of", lambda _: experiment.Networks({}, {}))
    rows = list(experiment.verification(config, 0))
    assert len(rows) == 5 * len(config["tests"])
    assert all("no network is trained here" in row["skipped"] for row in rows)


def test_a_corpus_that_is_not_here_is_a_reason(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = experiment.Networks({1: None}, {})  # type: ignore[dict-item]  # nothing is heard
    monkeypatch.setattr(experiment, "networks_of", lambda _: trained)
    monkeypatch.setattr(experiment, "systems_of", lambda _: {})
    config["tests"] = [config["tests"][0] | {"corpus": "none.jsonl"}]
    rows = list(experiment.verification(config, 0))
    assert all("none.jsonl" in row["skipped"] for row in rows)


def test_peers_that_are_not_measured_say_why() -> None:
    rows = list(experiment.peers({}, 0))
    assert {row["part"] for row in rows if "part" in row} >= {"CAM++", "x-vector"}
    assert "* `CAM++`: not run: no package" in tables.systems_block({"rows": rows, "config": {}})


def test_its_bytes_are_those_of_the_file_that_ships() -> None:
    pytest.importorskip("faster_whisper")
    rows = [row for row in experiment.size({}, 0) if row["claim"] == "speakers.bytes"]
    assert 0.01 < rows[0]["measured"] < 0.03
    assert rows[1]["measured"] == pytest.approx(rows[0]["measured"] * 17_090_379 / 5_693_440, rel=0.01)
