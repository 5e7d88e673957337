"""Deployed against simulated: what is compared, and that a difference is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech.arms import branch_engine
from edgespeech.arms.branch_engine import compare_deployed
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.branching_config import FastKind
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.pack import Encoding, Layout, pack
from helpers_branching import KINDS, tiny_branching
from helpers_packed import features, prune, tiny

UTTERANCES = [features(100), features(3), features(77, seed=1), features(150, seed=2)]


def packed(folder: Path, kind: FastKind = "sparse") -> Path:
    trained = tiny_branching(kind)
    prune(trained.model, 0.4)
    pack(trained, Layout(matrices=Encoding(bits=4, store="sparse")), folder / "m.edge")
    return folder / "m.edge"


@pytest.mark.parametrize("kind", KINDS)
def test_deployed_is_simulated_in_every_utterance(tmp_path: Path, kind: FastKind) -> None:
    found = compare_deployed(packed(tmp_path, kind), UTTERANCES)
    assert (found.utterances, found.same, found.same_labels, found.differ) == (3, 3, 3, 0)
    assert found.usage.decisions == 25 + 19 + 37
    assert 0 < found.usage.slow < found.usage.decisions
    assert 0 < found.nearest < 1


def test_what_differs_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path)
    other = tmp_path / "other.edge"
    trained = tiny_branching("sparse", seed=5)
    pack(trained, Layout(matrices=Encoding(bits=8)), other)
    wrong = read_edge(other)
    monkeypatch.setattr(branch_engine, "read_edge", lambda _: wrong)
    found = compare_deployed(path, UTTERANCES)
    assert found.differ > 0
    assert found.same == 0
    assert found.same_labels < found.utterances


def test_bad_files_are_refused(tmp_path: Path) -> None:
    pack(tiny(), Layout(), tmp_path / "plain.edge")
    with pytest.raises(EdgeSpeechError, match="expected a model of two branches"):
        compare_deployed(tmp_path / "plain.edge", UTTERANCES)
    with pytest.raises(EdgeSpeechError, match="no utterance fills a transcriber frame"):
        compare_deployed(packed(tmp_path), [features(3)])
