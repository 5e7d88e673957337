"""The packed form of an arm of branching, against the slow branch alone."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from edgespeech.arms.packed_bench import Bench
from helpers_branching import always, tiny_branching
from helpers_replication import describe_few, load_replication


@pytest.fixture
def deployed() -> Any:
    load_replication("branching")
    return import_module("replication.branching.deployed")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    describe_few(tmp_path / "corpora")
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    return Bench({"few": "whisper-en"}, tmp_path, 0)


def test_what_is_read_hangs_on_what_is_decided(deployed: Any, bench: Bench, tmp_path: Path) -> None:
    found = {}
    for name, arm in {
        "arm": tiny_branching(),
        "slow": always(tiny_branching(), slow=True),
        "fast": always(tiny_branching(), slow=False),
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        pair = deployed.Pair(arm, tiny_branching(), 8, folder)
        row = deployed.traffic(pair, bench)
        assert row["n"] == 3
        assert row["low"] <= row["measured"] <= row["high"]
        found[name] = row["measured"]
    # All slow reads the slow branch and the arbitrator beside it.
    assert found["slow"] < 0
    assert found["slow"] < found["arm"] < found["fast"]


def test_the_file_does_what_was_simulated(deployed: Any, bench: Bench, tmp_path: Path) -> None:
    pair = deployed.Pair(tiny_branching(), tiny_branching(), 8, tmp_path)
    assert deployed.same(pair, bench) == {"measured": 1.0, "n": 3}
    never = deployed.Pair(always(tiny_branching(), slow=True), tiny_branching(), 8, tmp_path)
    assert "never switches" in deployed.same(never, bench)["warning"]
    parts = {row["detail"]: row["measured"] for row in deployed.parts(pair)}
    assert parts.keys() >= {"slow", "fast", "arbitrator", "shared"}
    assert parts["fast"] < parts["slow"]


def test_words_in_few_bits_are_compared(deployed: Any, bench: Bench) -> None:
    models = [tiny_branching(), tiny_branching(seed=1)]
    rows = list(deployed.compressed(models, models, [4], bench))
    assert [row["detail"] for row in rows] == ["4 bits"]
    assert rows[0]["seeds"] == 2
    assert rows[0]["n"] == 3


def test_an_accelerator_saves_by_the_decisions(deployed: Any, bench: Bench, tmp_path: Path) -> None:
    arms = {"fast": always(tiny_branching(), slow=False), "slow": always(tiny_branching(), slow=True)}
    saved = {}
    for name, arm in arms.items():
        rows = list(deployed.modelled(deployed.Pair(arm, tiny_branching(), 8, tmp_path), bench))
        saved[name] = [row["measured"] for row in rows if row["detail"].endswith(": time")]
    assert len(saved["fast"]) > 1
    assert all(fast > slow for fast, slow in zip(saved["fast"], saved["slow"], strict=True))


@pytest.mark.slow
def test_chunks_are_timed_cold_and_warm(deployed: Any, bench: Bench, tmp_path: Path) -> None:
    pair = deployed.Pair(tiny_branching(), tiny_branching(), 8, tmp_path)
    rows = list(deployed.chunks(pair, bench, {"cold": 2, "warm": 2}))
    assert {row["detail"] for row in rows} == {"cold caches", "warm caches"}
    assert all(min(row["chunk_s"]) > 0 for row in rows)
    assert [row["n"] for row in rows] == [2, 2]
