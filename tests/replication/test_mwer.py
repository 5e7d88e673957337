"""The page of training for word errors: its configuration, and its figures of lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from replication.mwer.lists import Lists, later, lists_of, points, relative

from edgespeech.arms.configuration import Arms
from edgespeech.arms.packed_bench import Bench
from edgespeech.core.places import project_root
from edgespeech.model.checkpoint import save_model
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.search.hypothesis import Hypothesis
from helpers_arms import check_page
from helpers_packed import tiny
from helpers_replication import describe_few, load_replication

HERE = project_root() / "replication" / "mwer"
CONFIG = yaml.safe_load((HERE / "config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def page() -> ModuleType:
    return load_replication("mwer")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Three utterances."""
    describe_few(tmp_path / "corpora")
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    return Bench({"few": "whisper-en"}, tmp_path, seed=0)


def made(best: Sequence[float], frames: Sequence[int]) -> Lists:
    """Lists of three utterances of one label each, at the given frames."""
    numbers = np.array(best, np.float64)
    first = [Hypothesis((5,), (frame,), 0.0) for frame in frames]
    return Lists(best=numbers, oracle=numbers, expected=numbers, greedy=numbers, first=first, frame_s=0.04)


def test_the_configuration_names_what_there_is(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    trained = tiny()
    save_model(tmp_path / "init", trained.model, trained.tokeniser, trained.provenance)
    arms = Arms(HERE, CONFIG, tmp_path / "init")
    check_page(page, arms, CONFIG)
    named = [CONFIG["lists"]["arm"], *CONFIG["lists"]["against"], CONFIG["speed"]["arm"]]
    assert {len([arm for arm in arms.arms.values() if arm.first == name]) for name in named} == {3}
    run = arms.arms["mwer"].config
    assert run is not None
    assert run.word_errors is not None
    assert run.word_errors.every > 1


def test_lists_have_the_errors_of_their_hypotheses(bench: Bench, tmp_path: Path) -> None:
    trained = tiny()
    file = tmp_path / "model.edge"
    pack(trained, Layout(matrices=Encoding(bits=32)), file)
    found = lists_of(file, bench, 4)
    assert len(found.first) == 3
    assert (found.oracle <= found.best).all()
    assert (found.oracle <= found.expected + 1e-9).all()
    alone = lists_of(file, bench, 2)
    assert (alone.oracle <= alone.expected + 1e-9).all()
    assert found.greedy.tolist() == alone.greedy.tolist(), "greedy search has no list"


def test_changes_are_relative_to_the_control_over_seeds(bench: Bench) -> None:
    ours, theirs = [made([1, 1, 1], [9, 9, 9])] * 2, [made([2, 1, 1], [9, 9, 9])] * 2
    row = relative(ours, theirs, "best", bench)
    assert row["measured"] == pytest.approx(-0.25)
    assert row["seeds"] == 2
    assert row["low"] < row["measured"] < row["high"] <= 0
    assert points(ours, theirs, "oracle", bench)["measured"] == pytest.approx(-1 / sum(bench.words))
    nothing = [made([0, 0, 0], [9, 9, 9])]
    assert relative([made([1, 0, 0], [9, 9, 9])], nothing, "best", bench) == {
        "skipped": "no errors without it, 1 with it"
    }


def test_delays_are_of_utterances_in_which_both_say_the_same(bench: Bench) -> None:
    early, late = made([0, 0, 0], [10, 20, 30]), made([0, 0, 0], [11, 22, 99])
    other = replace(late, first=[*late.first[:2], Hypothesis((6,), (99,), 0.0)])
    row = later([other], [early], bench)
    assert row["measured"] == pytest.approx(0.04 * (1 + 2) / 2)
    assert row["n"] == 2
    none = replace(early, first=[Hypothesis((), (), 0.0)] * 3)
    assert "skipped" in later([none], [early], bench)
