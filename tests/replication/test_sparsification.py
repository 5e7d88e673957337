"""The page of sparsification: its configuration, and what it shows of fabricated rows."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from edgespeech.arms.configuration import Arms
from edgespeech.arms.sensitivity import matrices_of
from edgespeech.arms.tables import shades
from edgespeech.core.places import project_root
from edgespeech.model.checkpoint import save_model
from helpers_arms import arm_row, check_blocks, check_page
from helpers_packed import tiny
from helpers_replication import load_replication

HERE = project_root() / "replication" / "sparsification"
CONFIG = yaml.safe_load((HERE / "config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def page() -> ModuleType:
    return load_replication("sparsification")


@pytest.fixture
def arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arms:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    trained = tiny()
    save_model(tmp_path / "init", trained.model, trained.tokeniser, trained.provenance)
    return Arms(HERE, CONFIG, tmp_path / "init")


def test_the_configuration_names_what_there_is(page: ModuleType, arms: Arms) -> None:
    check_page(page, arms, CONFIG)
    assert CONFIG["picture"]["arm"] in arms.arms
    assert CONFIG["picture"]["matrix"] in matrices_of(tiny().model)
    stored = {arm.layout.matrices.bits for arm in arms.arms.values()}
    assert stored == {8}  # what differs between arms is zeros alone


def test_the_page_is_that_of_its_record(page: ModuleType) -> None:
    check_blocks(page)


def test_the_matrix_is_drawn_as_stored(page: ModuleType, arms: Arms, monkeypatch: pytest.MonkeyPatch) -> None:
    name = CONFIG["picture"]["matrix"]
    values = np.array([[0.0, -1.0], [0.5, 0.01]], np.float32)
    monkeypatch.setattr(page, "arms_of", lambda folder: arms)
    monkeypatch.setattr(
        page, "snapshots_of", lambda found, arm: [(0, {name: values}), (9, {name: 0 * values})]
    )
    (row,) = page.picture(CONFIG, 0)
    assert [one["zeros"] for one in row["pictures"]] == [0.25, 1.0]
    assert row["pictures"][0] == {"step": 0, "zeros": 0.25, "shades": ["0f", "81"]}
    record = {
        "config": {"control": "dense", "beams": [4, 1]},
        "rows": [{"arms": [arm_row("dense", "dense", None, 0.1), arm_row("l1_50", "l1", 0.5, 0.2)]}, row],
    }
    drawn = page.plots(record)
    assert set(drawn) == {"zeros.svg", "pareto.svg", "matrix.svg"}
    assert "matrix.svg" in page.picture_block(record)
    assert "| l1_50 |" in page.PAGE.blocks["arms"](record)


def test_shades_are_of_the_corner() -> None:
    assert shades(np.eye(4, dtype=np.float32), 2) == ["f0", "0f"]
    assert shades(np.zeros((2, 3), np.float32), 8) == ["000", "000"]
