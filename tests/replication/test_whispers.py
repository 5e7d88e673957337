"""The whisper page's material: two classes that differ in the voice alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from replication.whispers import experiment, runs, sets, tables

from edgespeech.audio.voicing import voicing
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.perceptron import Classifier
from edgespeech.records.records import sha256_json
from edgespeech.steps.step import Resources
from edgespeech.steps.store import Job
from edgespeech.whispers.network import Pooling, Saved, WhisperNet, load_network
from edgespeech.whispers.rules import FEATURES

COUNT = 8


def voice(rng: np.random.Generator) -> Samples:
    times = np.arange(round(rng.uniform(0.8, 1.5) * SAMPLE_RATE)) / SAMPLE_RATE
    pitch, gain = rng.uniform(90, 220), rng.uniform(0.02, 0.3)
    harmonics = np.sum([np.sin(2 * np.pi * pitch * n * times) / n for n in range(1, 20)], axis=0)
    made: Samples = (gain / 4 * harmonics + 1e-4 * rng.standard_normal(len(times))).astype(np.float32)
    return made


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A corpus of voices, and noise of which half is silent."""
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path))
    rng = np.random.default_rng(0)
    lines = []
    for n in range(COUNT):
        samples = voice(rng)
        soundfile.write(tmp_path / f"{n}.flac", samples, SAMPLE_RATE)
        line = {"audio_filepath": f"{n}.flac", "duration": len(samples) / SAMPLE_RATE, "text": "one two"}
        lines.append(json.dumps(line | {"id": f"u{n}", "speaker": f"s{n // 2}"}))
    (tmp_path / "voices.jsonl").write_text("\n".join(lines))
    noise = np.concatenate([np.zeros(SAMPLE_RATE), 0.1 * rng.standard_normal(SAMPLE_RATE)]).astype(np.float32)
    monkeypatch.setattr(sets, "load_noises", lambda *_: {"one": noise})
    return {
        "seed": 0,
        "train": ["voices.jsonl"],
        "per_corpus": None,
        "crop_s": 1.0,
        "noises": ["noise"],
        "noise_share": 0.5,
        "noise_snr_db": [0.0, 30.0],
        "tuning": "voices.jsonl",
        "tuning_utterances": COUNT,
        "snr_db": 12.0,
        "poolings": [None, 20],
        "schedule": {"steps": 30, "batch": 8, "rate": 0.01},
        "seeds": [1],
        "full": COUNT,
        "profile": "full",
        "test": [str(tmp_path / "voices.jsonl")],
    }


def test_crops_have_both_classes_of_each_utterance_at_the_same_levels(config: dict[str, Any]) -> None:
    crops = sets.crops_of(config)
    assert crops.labels.tolist() == [0, 1] * COUNT
    assert crops.features.shape == (2 * COUNT, 100, 80)
    assert crops.speech.shape == (2 * COUNT, 100)
    assert crops.speech.any(axis=1).all()
    again = sets.crops_of(config)
    assert np.array_equal(crops.features, again.features)


def test_the_level_tells_nothing_about_the_class(config: dict[str, Any]) -> None:
    examples = list(sets.test(config, config["test"][0], None, treated=False))
    levels = [
        [
            np.sqrt(
                np.mean(one.samples[sets._loud(one.samples).repeat(160)[: len(one.samples)].nonzero()] ** 2)
            )
        ]
        for one in examples
    ]
    assert np.ptp(20 * np.log10(levels)) < 0.2


@pytest.mark.parametrize("treated", [True, False])
def test_voiced_utterances_keep_their_voice_and_whispers_have_none(
    config: dict[str, Any], treated: bool
) -> None:
    examples = list(sets.test(config, config["test"][0], None, treated=treated))
    assert [one.is_whispered for one in examples] == [False, True] * COUNT
    assert len({one.id for one in examples}) == COUNT
    periodic = [np.median(voicing(one.samples)) for one in examples]
    assert min(periodic[0::2]) > max(periodic[1::2])


def test_half_of_the_tuning_pairs_are_noisy_in_both_classes(config: dict[str, Any]) -> None:
    clean = {
        (one.id, one.is_whispered): one.samples
        for one in sets.test(config, config["test"][0], None, treated=False)
    }
    noisy = [not np.array_equal(one.samples, clean[one.id, one.is_whispered]) for one in sets.tuning(config)]
    assert noisy == [False, False, True, True] * (COUNT // 2)


def test_training_packs_a_detector_and_its_control(config: dict[str, Any], tmp_path: Path) -> None:
    config |= {"noise_share": 0.0, "snr_db": 60.0, "schedule": {"steps": 80, "batch": 8, "rate": 0.01}}

    def job(name: str, given: dict[str, Any], folders: dict[str, Path]) -> Job:
        folder = tmp_path / name
        folder.mkdir()
        return Job(name=name, given=given, folder=folder, resources=Resources(), folders=folders, outcomes={})

    fetched: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "fetch_all", fetched.extend)
        made = runs.make_crops(job("crops", {key: config[key] for key in runs.MATERIAL}, {}))
        given = runs.given_of(config, 1)
        path = runs.make_network(job("network", given, {"whispers_crops/crops": made[0].parent}))[0]
    assert fetched == ["voices.jsonl", "noise", "voices.jsonl"]
    saved = load_network(path)
    assert saved.given_sha256 == sha256_json(given)
    heard = experiment.hear(config, config["test"][0], "clean", {1: saved})
    found = experiment.decided(heard, {1: saved})[0]
    assert (found == heard.truth).mean() > 0.8  # chance gives so many in one try of a hundred


def test_a_comparison_has_every_control(config: dict[str, Any]) -> None:
    saved = Saved(WhisperNet().eval(), Pooling(), Classifier(len(FEATURES)).eval(), 0.0, "")
    heard = experiment.hear(config, config["test"][0], "clean", {1: saved, 2: saved})
    rules = experiment._rules(config)
    rows = list(experiment._compared(heard, {1: saved, 2: saved}, rules, "voices", "clean", 0))
    claims = [row.get("claim") for row in rows]
    assert claims.count("whispers.rules") == len(rules)
    assert claims.count("whispers.features") == claims.count("whispers.clean") == 1
    assert all(row["seeds"] == 2 for row in rows if "claim" in row)
    view = {"rows": rows, "config": config}
    assert "`network`" in tables.detectors_block(view)
    # The voice alone tells the classes apart, so a rule on it must be nearly right, and one on the level must not.
    assert rows[-1]["detector"]["voicing"] > 0.9 > rows[-1]["detector"]["level"]


def test_without_a_network_every_claim_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "networks_of", lambda _: {})
    rows = list(experiment.detection({}, 0))
    assert len(rows) == 5
    assert all("no network is trained here" in row["skipped"] for row in rows)


def test_crops_of_silence_are_left_out(config: dict[str, Any], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "0.flac", np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)
    lines = (tmp_path / "voices.jsonl").read_text().splitlines()
    first = json.loads(lines[0]) | {"duration": 1.0}
    (tmp_path / "voices.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]))
    crops = sets.crops_of(config)
    assert np.isfinite(crops.features).all()
    assert len(crops.labels) in (2 * COUNT - 1, 2 * COUNT - 2)


def test_a_corpus_that_is_not_here_is_a_reason(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError):
        list(sets.test(config, str(tmp_path / "none.jsonl"), None, treated=False))
