"""The page of quantisation-aware training: its configuration, and what it shows of fabricated rows."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from edgespeech.arms.configuration import Arms, latent_weights
from edgespeech.core.places import MODEL_VARIABLE, project_root
from edgespeech.model.checkpoint import save_model
from edgespeech.packed.codes import quantise
from edgespeech.steps.store import Made, finish
from edgespeech.training.loop import MODEL, STATE
from helpers_arms import arm_row, check_blocks, check_page
from helpers_packed import tiny
from helpers_replication import load_replication

CONFIG = yaml.safe_load((project_root() / "replication/qat/config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def page() -> ModuleType:
    return load_replication("qat")


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "init"))
    trained = tiny()
    save_model(tmp_path / "init", trained.model, trained.tokeniser, trained.provenance)
    return tmp_path / "init"


def test_the_configuration_names_what_there_is(page: ModuleType, init: Path) -> None:
    arms = Arms(page.HERE, CONFIG, init)
    check_page(page, arms, CONFIG)
    assert {*CONFIG["distances"], CONFIG["levels"]} <= set(arms.arms)
    budgets = {(arm.config.steps, arm.config.batch_s) for arm in arms.arms.values() if arm.config}
    assert len(budgets) == 1  # the same for every arm


def test_the_page_is_that_of_its_record(page: ModuleType) -> None:
    check_blocks(page)


def test_arms_and_distances_are_shown(page: ModuleType) -> None:
    rows = [
        arm_row("fp32", "fp32", None, 0.1),
        arm_row("acosr_8", "acosr", 8, 0.11),
        arm_row("acosr_4", "acosr", 4, 0.2, measured=False, chunk_bytes=None),
        arm_row("acosr_4_seed2", "acosr", 4, 0.9, seed=2),
        {"name": "ptq_4", "skipped": "qat: fp32 is not trained on this machine"},
    ]
    del rows[2]["cold"], rows[2]["warm"]
    picture = {"name": "acosr_4", "span": 8, "mean": 0.1, "distances": [3, 1], "weights": [1, 5, 5, 1]}
    record = {"config": {"control": "fp32", "beams": [4, 1]}, "rows": [{"arms": rows}, {"picture": picture}]}
    text = page.PAGE.blocks["arms"](record)
    assert "| acosr_8 | 11.0 % [10.0, 13.0] | 11.0 % [10.0, 13.0] | 1.00 [-1.00, 3.00] | tie |" in text
    assert "not run: qat: fp32 is not trained" in text
    assert "| as published |" in text
    assert "Search: beam 4 (ships: 16), no language model," in text
    drawn = page.plots(record)
    assert set(drawn) == {"bits.svg", "pareto.svg", "distances.svg"}
    assert drawn == page.plots(json.loads(json.dumps(record)))
    assert "acosr" in drawn["bits.svg"]


def test_weights_are_in_units_of_steps(page: ModuleType) -> None:
    weights = np.array([[-3.0, 0.4, 3.0], [0.0, 0.0, 0.0], [6.0, 1.0, -6.0]], np.float32)
    codes = quantise(weights, bits=3)
    assert page.in_steps(weights, codes).tolist() == pytest.approx([-3, 0.4, 3, 3, 0.5, -3])
    away = page.to_level(np.array([-4.5, 0.4, 2.6, 3.0]), 3)
    assert away.tolist() == pytest.approx([1.5, 0.4, 0.4, 0])


def test_distances_are_those_of_the_average(
    page: ModuleType, init: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    arms = Arms(page.HERE, CONFIG, init)
    monkeypatch.setattr(page, "arms_of", lambda folder: arms)
    for name in ("acosr_4", "fp32"):
        folder, trained = arms.run_folder(arms.arms[name]), tiny()
        save_model(folder / MODEL, trained.model, trained.tokeniser, trained.provenance)
        own = {
            f"average.{MODEL}.{key}": value.contiguous() for key, value in trained.model.state_dict().items()
        }
        save_file(own, folder / STATE)
        finish(arms.train_step(arms.arms[name]), Made([folder / STATE]))
    rows = {row["detail"]: row for row in page.distances({**CONFIG, "levels": "acosr_4"}, 0)}
    assert "not trained" in rows["straight_through_4"]["skipped"]
    found = rows["fp32"]["picture"]
    assert sum(found["distances"]) <= rows["fp32"]["n"]
    assert 0 < rows["fp32"]["measured"] < 0.5  # levels of 8 bits: the fabricated run left no codes
    folder = arms.run_folder(arms.arms["fp32"])
    assert set(latent_weights(folder, arms.shape)) >= {"joiner.weight", "transcriber.lstms.0.bias"}


def test_sensitivity_is_a_table(page: ModuleType) -> None:
    rows = [
        {"matrix": name, "bits": bits, "sparsity": 0.0, "loss": 1 + bits / 100, "base": 1.0, "utterances": 3}
        for name in ("a", "b")
        for bits in (4, 2)
    ]
    text = page.sensitivity_block({"rows": [{"tried": rows}]})
    assert "| Matrix | 4 bits | 2 bits |" in text
    assert "| a | 0.0400 | 0.0200 |" in text
