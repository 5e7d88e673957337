"""The page of language understanding: its sets, its runs and what it does with their scores, on a made set."""

from __future__ import annotations

import json
import lzma
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from replication.nlu import experiment, runs, sets, tables
from replication.nlu.sets import drawn, material, tuning

from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError
from edgespeech.steps.store import make

CONFIG = load_yaml(Path(experiment.__file__).parent / "config.yaml")
SMALL = {"embedding": "dense", "width": 16, "hidden": 8}
CODED = {"embedding": "codes", "width": 16, "hidden": 8, "codebooks": 4, "codewords": 8}
HOW = {"epochs": 2, "batch": 16, "rate": 0.02}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two made corpora that share sentences, few draws of a grammar, and two tiny arms."""
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("EDGESPEECH_PIPELINE", str(tmp_path / "pipeline"))
    corpus(tmp_path, "one", train=["play a", "play b", "stop"], test=["play c", "stop now"])
    corpus(tmp_path, "two", train=["play c", "play d", "halt"], test=["play a", "halt it"])
    return {
        **CONFIG,
        "profile": "quick",
        "schemes": {
            "one": {"train": ["one_train"], "dev": ["one_train"], "test": {"one": "one_test"}},
            "two": {"train": ["two_train"], "dev": ["two_train"], "test": {"two": "two_test"}},
            "commands": {"grammar": "coffee", "draws": {"train": 30, "dev": 5, "test": 20}},
        },
        "public": ["one"],
        "reduced": ["two"],
        "training": HOW,
        "compression": HOW,
        "equal_bytes": [],
        "arms": {
            "start": {"network": SMALL, "floats": True, "about": "start"},
            "fp32": {"network": SMALL, "floats": True, "about": "floats"},
            "codes": {"network": CODED, "about": "codes"},
        },
    }


def corpus(folder: Path, name: str, **parts: list[str]) -> None:
    """A corpus of text whose splits are JSON lines."""
    splits = {}
    for part, texts in parts.items():
        lines = [json.dumps({"intent": text.split()[0], "annotation": text}) for text in texts]
        file = folder / "mirror" / name / f"{part}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")
        splits[f"{name}_{part}"] = {"manifest": file.name, "evaluation_only": part == "test"}
    told = dict.fromkeys(("title", "licence", "citation", "homepage"), "made for a test")
    described = {
        "name": name,
        "kind": "text",
        "sources": [{"mirror": {"folder": name}}],
        "splits": splits,
        **told,
    }
    (folder / "corpora").mkdir(exist_ok=True)
    (folder / "corpora" / f"{name}.yaml").write_text(yaml.safe_dump(described))


def test_no_sentence_of_another_corpus_s_test_is_trained_on(config: dict[str, Any]) -> None:
    found = material(config)

    assert [one.text for one in found["one"]] == [
        "play a",
        "play b",
        "stop",
    ]  # the set of `two` is reduced instead
    assert [one.text for one in found["two"]] == ["play d", "halt"]
    chosen = sets.tests(config, found)
    assert [one.text for one in chosen["one"].requests] == ["play c", "stop now"]
    assert len(chosen["commands"].requests) == 20


def test_an_evaluation_split_is_not_trained_on(config: dict[str, Any]) -> None:
    config["schemes"]["one"]["train"] = ["one_test"]
    with pytest.raises(EdgeSpeechError, match="one_test: is for evaluation only"):
        material(config)


def test_the_parts_of_a_grammar_share_no_sentence(config: dict[str, Any]) -> None:
    scheme = config["schemes"]["commands"]
    parts = [{one.text for one in drawn(scheme, part)} for part in ("train", "dev", "test")]

    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert len(tuning(config, "commands")) == 5


def test_a_run_is_made_scored_and_published(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(experiment, "shipped_network", lambda: tmp_path / "shipped" / "model.edge")
    for step in runs.steps_of(config):
        make(step)
    rows = list(experiment.arms({**config, "profile": "full"}, 0))

    bytes_of = {row["arm"]["name"]: row["arm"]["bytes"] for row in rows if "arm" in row}
    smaller = next(row for row in rows if row.get("claim") == "nlu.smaller")
    assert smaller["measured"] == pytest.approx(1 - bytes_of["codes"] / bytes_of["fp32"])
    assert (tmp_path / "shipped" / "model.edge").is_file()
    assert {row["claim"] for row in rows if "claim" in row} >= {"nlu.intents", "nlu.accuracy", "nlu.size"}

    monkeypatch.setenv("EDGESPEECH_PIPELINE", str(tmp_path / "elsewhere"))
    again = list(experiment.arms(config, 0))
    assert [row for row in again if "arm" in row] == [row for row in rows if "arm" in row]
    other = {**config, "training": {**HOW, "epochs": 1}, "compression": {**HOW, "epochs": 1}}
    assert not [row for row in experiment.arms(other, 0) if "arm" in row]
    assert "svg" in tables.plots({"config": config, "rows": rows})["accuracy.svg"]
    assert "`codes`" in tables.arms_block({"config": config, "rows": rows})


def test_scores_that_are_damaged_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.json.xz"
    path.write_bytes(lzma.compress(b"{}")[:-4])

    with pytest.raises(EdgeSpeechError, match=r"scores\.json\.xz: not the scores of a run"):
        runs.load_scores(path)


def test_a_busy_machine_takes_no_times(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.edge").touch()
    monkeypatch.setattr(experiment, "shipped_network", lambda: tmp_path / "model.edge")
    monkeypatch.setattr("os.getloadavg", lambda: (9.0, 9.0, 9.0))
    (row,) = experiment.speed(config, 0)

    assert row["skipped"].startswith("the machine is busy")


def test_the_whole_page_s_arms_are_valid() -> None:
    found = runs.runs_of(CONFIG)
    seeds = Counter(one.arm for one in found)

    assert seeds["codes"] == seeds["fp32"] == seeds["start"] == 3
    assert all(one.given["reference"] is None for one in found if one.arm == "start")
