"""The recogniser of two branches behind the contract, with a tiny model."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from edgespeech.contracts import EventKind, Request
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.runner import run_utterance
from edgespeech.model.branching_config import FastKind
from edgespeech.packed.branches import bytes_by_part
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.pack import Layout, pack
from edgespeech.packed.simulate import simulate
from edgespeech.search.streaming import TransducerStream
from edgespeech.systems.edge_branching import BRANCHING_VARIABLE, EdgeBranching
from helpers_branching import KINDS, tiny_branching
from helpers_packed import tiny

REQUEST = Request(utterance_id="x")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the environment says that the model is."""
    monkeypatch.setenv(BRANCHING_VARIABLE, str(tmp_path / "mine.edge"))
    return tmp_path / "mine.edge"


def test_without_a_model_it_is_listed_with_the_reason(file: Path) -> None:
    reason = find_recogniser("edge-branching").missing()
    assert reason is not None
    assert str(file) in reason
    assert "none is published yet" in reason
    assert BRANCHING_VARIABLE in reason


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_the_simulated_model_says(file: Path, kind: FastKind) -> None:
    trained = tiny_branching(kind)
    pack(trained, Layout(), file)
    samples = (0.1 * np.random.default_rng(0).standard_normal(16_123)).astype(np.float32)
    recogniser = find_recogniser("edge-branching", beam=3, final_s=None)
    assert recogniser.missing() is None
    recogniser.load()
    trace = run_utterance(recogniser, samples, REQUEST, chunk_s=0.12)
    assert trace.failure is None
    twin = simulate(trained.model.config, read_edge(file).tensors, trained.model.branching)
    stream = TransducerStream(replace(trained, model=twin), 3, final_s=None)
    stream.accept(samples)
    final = stream.finish()[-1]
    assert final.kind is EventKind.FINAL
    assert trace.events[-1][1].text == final.text
    assert final.text
    recogniser.close()


def test_the_record_has_the_bytes_of_both_branches_and_of_the_state(file: Path) -> None:
    trained = tiny_branching("narrow")
    pack(trained, Layout(), file)
    recogniser = EdgeBranching()
    config = recogniser.load().config
    recogniser.close()
    assert config["branching"] == trained.model.branching.to_mapping()
    assert config["bytes"] == bytes_by_part(read_edge(file).tensors)
    assert config["frame"]["fast"]["macs"] < config["frame"]["slow"]["macs"]
    assert config["transcriber_state_bytes"] == 2 * 4 * (2 * 70 + 3)


def test_a_plain_model_is_refused(file: Path) -> None:
    pack(tiny(), Layout(), file)
    recogniser = EdgeBranching()
    with pytest.raises(EdgeSpeechError, match="branching is None, expected a model of two branches"):
        recogniser.load()
    with pytest.raises(EdgeSpeechError, match="edge-branching: not loaded"):
        recogniser.open(REQUEST)


def test_no_path_enters_the_record(file: Path) -> None:
    pack(tiny_branching(), Layout(), file)
    recogniser = EdgeBranching()
    assert str(file.parent) not in json.dumps(asdict(recogniser.load()))
    recogniser.close()
