"""The page of device-directed speech: what is heard, fitted and compared, end to end with made voices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from replication.device_directed import experiment, runs, sets, tables

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.corpora.fetch import manifest_of
from edgespeech.directed.features import FEATURES, Decoded
from edgespeech.directed.score import load_classifier
from edgespeech.errors import EdgeSpeechError
from edgespeech.records.records import sha256_json
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.steps.step import Resources
from edgespeech.steps.store import Job
from helpers_speakers import speakers, write_corpus


class Listening:
    """A recogniser that hears `view glass` in voices of the first corpus, which are quick, and nothing else."""

    language = None

    def decode(self, samples: Samples) -> Decoded:
        labels = (1, 2, 3, 4) if np.abs(samples).max() > 0.15 else (1,)
        text = "view glass" if len(labels) > 1 else "so it was"
        return Decoded(text, Hypothesis(labels, tuple(range(len(labels))), -float(len(labels))), 30, 0.04)

    def close(self) -> None:
        """Nothing to release."""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Loud utterances for the device, soft ones that are not."""
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path))
    for name, gain in (("loud", 1.0), ("soft", 0.3)):
        (tmp_path / name).mkdir()
        write_corpus(tmp_path / name, speakers(4), 3)
        for file in (tmp_path / name).glob("*.wav"):
            samples, _ = soundfile.read(file)
            soundfile.write(file, gain * samples, SAMPLE_RATE, subtype="PCM_16")
    loud, soft = (str(tmp_path / name / "voices.jsonl") for name in ("loud", "soft"))

    def both(given: dict[str, Any]) -> Any:
        for name in (loud, soft):
            manifest = manifest_of(name)
            yield from ((name, name == loud, manifest, one) for one in manifest.utterances)

    monkeypatch.setattr(runs, "tuning", both)
    monkeypatch.setattr(runs, "Recogniser", Listening)
    monkeypatch.setattr(sets, "Recogniser", Listening)
    monkeypatch.setattr(runs, "shipped_models", lambda: tmp_path / "none")
    return {
        "seed": 0,
        "per_corpus": 12,
        "train": {"directed": [loud], "other": [soft]},
        "tuning": "made",
        "tuning_from": {},
        "tuning_utterances": 12,
        "test": {"directed": [loud], "other": [soft]},
        "near_misses": {"corpus": soft, "kind": None},
        "wake_words": ["view glass"],
        "recogniser": "edge-packed",
        "seeds": [1, 2],
        "full": 12,
        "profile": "full",
    }


def job(tmp_path: Path, name: str, given: dict[str, Any], **folders: Path) -> Job:
    folder = tmp_path / name
    folder.mkdir()
    return Job(name=name, given=given, folder=folder, resources=Resources(), folders=folders, outcomes={})


def test_from_hearing_to_the_page(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(runs, "fetch_all", fetched.extend)
    material = runs.make_material(job(tmp_path, "material", runs.material_given(config)))[0].parent
    assert len(fetched) == 3
    made: dict[str, dict[str, Path]] = {}
    for seed in config["seeds"]:
        given = runs.given_of(config, seed)
        files = runs.make_classifier(job(tmp_path, f"seed_{seed}", given, material=material))
        assert load_classifier(files[0]).given_sha256 == sha256_json(given)
        made[f"seed_{seed}"] = {path.name: path for path in files}
    monkeypatch.setattr(experiment, "newest_copy", lambda step, file, *_, publish: made[step.name][file])

    rows = list(experiment.detection(config, 0))

    found = {row["claim"].removeprefix("device_directed."): row for row in rows if "claim" in row}
    assert set(found) == {"eer", *experiment.CLAIMS, "near_misses"}
    assert found["eer"]["measured"] < 0.05
    assert found["eer"]["resampled"] == ("speakers", "seeds")
    assert found["eer"]["n"] == 24
    # The decoded text and the level tell the classes apart here, each by itself.
    assert abs(found["wake_word"]["measured"]) < 0.05
    assert abs(found["energy"]["measured"]) < 0.05
    assert found["near_misses"]["measured"] < 0.2
    assert "| `audio and decoder` | 0.0 |" in tables.scores_block({"rows": rows, "config": config})


def test_silent_utterances_are_left_out_and_nothing_at_all_is_an_error(
    config: dict[str, Any], tmp_path: Path
) -> None:
    manifest = manifest_of(config["test"]["directed"][0])
    first = manifest.utterances[0]
    silent = np.zeros(round(first.duration * SAMPLE_RATE), np.float32)
    soundfile.write(manifest.audio_path(first), silent, SAMPLE_RATE, subtype="PCM_16")

    def hear(count: int) -> sets.Heard:
        items = (("made", True, manifest, one) for one in manifest.utterances[:count])
        return sets.heard(items, Listening().decode, None, ["view glass"])

    found = hear(3)
    assert found.features.shape == (2, len(FEATURES))
    assert found.speakers == ["made/s0", "made/s0"]
    with pytest.raises(EdgeSpeechError, match="no utterance with anything to hear"):
        hear(1)


def test_files_keep_what_was_heard_and_the_controls(config: dict[str, Any], tmp_path: Path) -> None:
    manifest = manifest_of(config["test"]["directed"][0])
    items = (("made", n % 2 == 0, manifest, one) for n, one in enumerate(manifest.utterances[:6]))
    found = sets.heard(items, Listening().decode, None, ["view glass"])
    (tmp_path / "heard.npz").write_bytes(runs.packed(found))
    again = runs.unpacked(tmp_path / "heard.npz")
    assert again.speakers == found.speakers
    assert np.array_equal(again.features, found.features)
    controls = runs.fitted_controls(found, found, 1)
    (tmp_path / "controls.safetensors").write_bytes(runs.packed_controls(controls))
    kept = runs.load_controls(tmp_path / "controls.safetensors")
    for name, scores in controls.scores(found).items():
        assert kept.scores(found)[name] == pytest.approx(scores), name
    (tmp_path / "controls.safetensors").write_text("none")
    with pytest.raises(EdgeSpeechError, match="no controls"):
        runs.load_controls(tmp_path / "controls.safetensors")


def test_without_a_classifier_every_claim_says_so(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "newest_copy", lambda *_, publish: None)
    rows = [*experiment.detection(config, 0), *experiment.vision(config, 0)]
    assert len(rows) == 7
    assert all(row["skipped"] for row in rows)
    assert rows[-1]["skipped"] == "no recorded visual data"
