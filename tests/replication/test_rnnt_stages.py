"""Rows of the on-device model's page that come from records of choices, and its table of targets."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from replication.rnnt import stages
from replication.rnnt.choose_model import SCHEMA

from edgespeech.contracts import Verdict
from edgespeech.core.files import sha256_file
from edgespeech.core.places import project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.plan import expand, load_plan
from edgespeech.model.checkpoint import WEIGHTS, save_model
from edgespeech.records.claims import Judgement, Measured, load_claims
from edgespeech.report.page import Judged
from edgespeech.report.text import NONE
from helpers_packed import tiny
from helpers_replication import load_replication

HERE = project_root() / "replication" / "rnnt"
CONFIG = load_yaml(HERE / "config.yaml")


def model(name: str, difference: tuple[float, float, float], sha256: str = "0" * 64) -> dict[str, Any]:
    wer, low, high = difference
    return {
        "name": name,
        "parts": [{"folder": name, "share": 1.0, "weights_sha256": sha256}],
        "provenance": {"step": "250"},
        "greedy": {
            "rates": {"real_dev": {"wer": 0.2 + wer, "low": 0.1, "high": 0.3}},
            "pooled": {"wer": 0.2 + wer, "low": 0.1, "high": 0.3},
            "difference": {"wer": wer, "low": low, "high": high, "verdict": "tie"},
        },
    }


def write(folder: Path, question: str, models: list[dict[str, Any]], other: str, **more: Any) -> None:
    record = {
        "schema": SCHEMA, "question": question, "compared_with": other, "models": models,
        "utterances": {"real_dev": 574}, "skipped": {},
        "arms": {"arms": {one["name"]: {} for one in models if one["name"] != "start"}},
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / f"{question}-20270101T000000Z.json").write_text(json.dumps(record | more))


@pytest.fixture
def choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        stages,
        "newest_choice",
        lambda question, read=stages.newest_choice: read(question, tmp_path / "choices"),
    )
    trained = tiny()
    save_model(tmp_path / "base", trained.model, trained.tokeniser, trained.provenance)
    monkeypatch.setattr(stages, "compression_base", lambda: tmp_path / "base")
    return tmp_path / "choices"


def test_further_training_is_judged_against_the_start_that_is_there(choices: Path, tmp_path: Path) -> None:
    (row,) = stages.steady({}, 0)
    assert row["skipped"] == "not run: python -m replication.rnnt.arms replication/rnnt/compression_base.yaml"
    seeds = [model("seed_1", (0.001, -0.001, 0.002)), model("seed_2", (0.004, 0.0, 0.006))]
    write(choices, "compression-base", [model("start", (0, 0, 0)), *seeds], "start")
    (row,) = stages.steady({}, 0)
    assert "another model by now" in row["skipped"]
    here = model("start", (0, 0, 0), sha256_file(tmp_path / "base" / WEIGHTS))
    write(choices, "compression-base", [here, *seeds], "start")
    found = list(stages.steady({}, 0))
    assert [row["detail"] for row in found] == [
        "seed_1 less start; real_dev, greedy", "seed_2 less start; real_dev, greedy",
    ]  # fmt: skip
    claim = load_claims(HERE / "claim.yaml")[stages.STEADY]
    assert claim.bar is not None
    assert [claim.bar.holds(row["low"], row["high"]) for row in found] == [True, None]
    block = stages.stages_block({"rows": found})
    assert "| seed_1 less start | 250 | all | 20.0 % | 20.1 % | 0.10 [-0.10, 0.20] points |" in block
    assert stages.stages_block(None) == "No record yet.\n"


def test_a_skipped_teacher_says_why(choices: Path) -> None:
    (row,) = stages.teacher({}, 0)
    assert "teacher.yaml" in row["skipped"]
    arms: dict[str, Any] = {"arms": {"no_teacher": {}, "teacher": {}}}
    alone = [model("no_teacher", (0, 0, 0))]
    write(choices, "teacher", alone, "no_teacher", skipped={"teacher": "no weights"}, arms=arms)
    (row,) = stages.teacher({}, 0)
    assert row == {"claim": stages.TEACHER, "detail": "teacher", "skipped": "no weights"}
    both = [model("no_teacher", (0, 0, 0)), model("teacher", (-0.02, -0.03, -0.01))]
    write(choices, "teacher", both, "no_teacher")
    (row,) = stages.teacher({}, 0)
    assert (row["measured"], row["low"], row["high"], row["n"]) == (-0.02, -0.03, -0.01, 574)


def test_a_record_of_an_earlier_schema_is_refused(choices: Path) -> None:
    write(choices, "teacher", [], "x", schema="edgespeech-choice-1")
    with pytest.raises(
        EdgeSpeechError, match="schema is 'edgespeech-choice-1', expected edgespeech-choice-2"
    ):
        list(stages.teacher({}, 0))


def test_every_target_has_a_claim_and_the_table_says_whether_it_is_met() -> None:
    claims = load_claims(HERE / "claim.yaml")
    found = [Judged(claim, ()) for claim in claims]
    for place, one in enumerate(found):
        if one.claim.id == "rnnt.wer_coffee":
            value = Measured(condition="coffee_dev", value=0.04, low=0.03, high=0.049, n=300)
            found[place] = one._replace(measured=((value, Judgement(Verdict.MET, "")),))
    lines = stages.targets_table(found, CONFIG["targets"]).splitlines()
    assert len(lines) == 2 + len(CONFIG["targets"])
    assert "| WER of coffee orders: at most 5.0 % | 4.0 [3.0, 4.9] % | met |" in lines
    assert f"| WER of AN4: at most 6.0 % | {NONE} | not run |" in lines
    with pytest.raises(EdgeSpeechError, match=r"targets is 'rnnt\.nothing'"):
        stages.targets_table(found, ["rnnt.nothing"])


def test_the_plan_of_the_targets_has_every_row_that_a_target_is_read_from() -> None:
    rnnt: ModuleType = load_replication("rnnt")
    plan = load_plan(HERE / "targets.yaml")
    runs = expand(plan, "full", list(rnnt.SYSTEMS))
    there = {(run.system, run.corpus, run.condition.label) for run in runs}
    needed = {
        (bar.get("system", "edge-fp32"), bar["corpus"], bar["condition"]) for bar in CONFIG["published"]
    }
    band = CONFIG["telephone"]
    needed |= {("edge-fp32", band["corpus"], condition) for condition in (band["condition"], "clean")}
    assert needed <= there
    assert plan.threads == 1
    assert all(run.subset == 5 for run in expand(plan, "quick", list(rnnt.SYSTEMS)))
