"""The engine's two branches as pages measure them: deployed against simulated, traffic, and time against all slow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgespeech.arms import branch_engine
from edgespeech.arms.branch_engine import (
    CHUNK,
    Traffic,
    chunk_compute,
    compare_deployed,
    saved,
    slow_alone,
    weight_traffic,
)
from edgespeech.arms.peer_bench import Prepared, write_chunks
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.branching_config import FastKind
from edgespeech.packed.branches import bytes_by_part, frame_costs
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel
from helpers_branching import KINDS, tiny_branching
from helpers_packed import features, prune, tiny

UTTERANCES = [features(100), features(3), features(77, seed=1), features(150, seed=2)]
FILLED = [x for x in UTTERANCES if len(x) >= 4]


def packed(folder: Path, kind: FastKind = "sparse", encoding: Encoding | None = None) -> Path:
    trained = tiny_branching(kind)
    prune(trained.model, 0.4)
    pack(trained, Layout(matrices=encoding or Encoding(bits=4, store="sparse")), folder / "m.edge")
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


@pytest.mark.parametrize("kind", KINDS)
def test_the_slow_branch_alone_has_its_bytes_and_its_bits(tmp_path: Path, kind: FastKind) -> None:
    path, alone = packed(tmp_path, kind), tmp_path / "alone.edge"
    slow_alone(path, alone)
    parts = bytes_by_part(read_edge(path).tensors)
    assert bytes_by_part(read_edge(alone).tensors) == {
        part: count for part, count in parts.items() if part not in ("fast", "arbitrator")
    }
    x = features(100)
    with PackedModel(path) as model, PackedModel(alone) as plain:
        assert plain.branching is None
        stream, other = model.open(branch="slow"), plain.open()
        for one in (stream, other):
            one.accept(x)
        assert stream.best == other.best
    with pytest.raises(EdgeSpeechError, match="branching is None, expected a model of two branches"):
        slow_alone(alone, tmp_path / "again.edge")


@pytest.mark.parametrize("kind", KINDS)
def test_traffic_frame_by_frame_is_that_of_the_decisions(tmp_path: Path, kind: FastKind) -> None:
    path = packed(tmp_path, kind)
    costs = frame_costs(read_edge(path).tensors)
    found = weight_traffic(path, FILLED, step=4)
    assert found.frames == (25, 19, 37)
    with PackedModel(path) as model:
        for x, read, macs in zip(FILLED, found.bytes, found.macs, strict=True):
            stream = model.open()
            stream.accept(x)
            slow = int(stream.decisions.sum())
            fast = len(stream.decisions) - slow
            assert read == slow * costs["slow"].bytes + fast * costs["fast"].bytes
            assert macs == slow * costs["slow"].macs + fast * costs["fast"].macs


def test_a_chunk_saves_passes_and_no_products(tmp_path: Path) -> None:
    path, alone = packed(tmp_path), tmp_path / "alone.edge"
    slow_alone(path, alone)
    by_frame, by_chunk = (weight_traffic(path, FILLED, step) for step in (4, CHUNK))
    assert by_chunk.macs == by_frame.macs
    assert all(one < other for one, other in zip(by_chunk.bytes, by_frame.bytes, strict=True))
    slow = weight_traffic(alone, FILLED, step=4)
    costs = bytes_by_part(read_edge(alone).tensors)
    assert slow == Traffic(
        (25, 19, 37),
        tuple(frames * (costs["shared"] + costs["slow"]) for frames in slow.frames),
        slow.macs,
    )


def test_a_share_that_is_saved_has_its_interval() -> None:
    found = saved([1, 2, 3, 4], [2, 4, 6, 8], ["a", "b", "c", None], seed=0)
    assert found["measured"] == found["low"] == found["high"] == 0.5
    assert found["n"] == 4
    wide = saved([1, 4, 3, 8], [2, 4, 6, 8], [None] * 4, seed=0)
    assert wide["measured"] == pytest.approx(4 / 20)
    assert wide["low"] < wide["measured"] < wide["high"]


@pytest.fixture
def spoken(tmp_path: Path) -> Iterator[list[Prepared]]:
    rng = np.random.default_rng(0)
    items = []
    for number in range(3):
        samples = (0.1 * rng.standard_normal(6000)).astype(np.float32)
        file = tmp_path / f"{number}.npz"
        items.append(
            Prepared(
                corpus="noise",
                text="",
                speaker=None,
                file=file,
                features=write_chunks(samples, file),
                duration_s=0.375,
            )
        )
    return iter([items])


def test_chunks_are_timed_against_the_slow_branch(
    tmp_path: Path, spoken: Iterator[list[Prepared]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branch_engine, "EVICT", 1 << 16)
    path, alone = packed(tmp_path), tmp_path / "alone.edge"
    slow_alone(path, alone)
    files = {"arbitrated": path, "slow alone": alone}
    found = chunk_compute(files, next(spoken), {"cold": 2, "warm": None}, seed=0)
    assert list(found) == list(files)
    for key, utterances in (("cold", 2), ("warm", 3)):
        ours, theirs = found["arbitrated"][key], found["slow alone"][key]
        assert ours["mean_s"] > 0
        assert theirs["mean_s"] > 0
        assert ours["low"] <= ours["measured"] <= ours["high"] < 1
        assert ours["n"] == utterances
        assert "measured" not in theirs


def test_bad_files_are_refused(tmp_path: Path, spoken: Iterator[list[Prepared]]) -> None:
    pack(tiny(), Layout(), tmp_path / "plain.edge")
    with pytest.raises(EdgeSpeechError, match="expected a model of two branches"):
        compare_deployed(tmp_path / "plain.edge", UTTERANCES)
    with pytest.raises(EdgeSpeechError, match="no utterance fills a transcriber frame"):
        compare_deployed(packed(tmp_path), [features(3)])
    with pytest.raises(EdgeSpeechError, match="gone"):
        chunk_compute({"gone": tmp_path / "gone.edge"}, next(spoken), {"cold": 0, "warm": 1}, seed=0)
