"""What `edgespeech replicate` makes of names, and what it says at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.pipeline import targets
from edgespeech.pipeline.dag import Where
from edgespeech.pipeline.measuring import measure_step, render_step
from edgespeech.pipeline.targets import Wanted, default_plan, wanted_names
from edgespeech.records.records import load_records
from edgespeech.steps.step import Step, everything
from helpers_records import publish


@pytest.fixture(autouse=True)
def _pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.delenv("EDGESPEECH_PIPELINE", raising=False)


def test_names_are_techniques_the_rows_or_all() -> None:
    assert wanted_names([]) == ["headline"]
    assert wanted_names(["az-execution", "qat", "qat"]) == ["az_execution", "qat"]
    every = wanted_names(["all"])
    assert every[0] == "headline"
    assert {"qat", "librispeech", "rnnt"} < set(every)
    with pytest.raises(EdgeSpeechError, match="technique is 'nobody', expected all, or one of headline, "):
        wanted_names(["nobody"])


def test_a_technique_is_measured_after_what_it_names_and_rendered_then() -> None:
    measured = measure_step("qat", "full", "acosr_*")
    rules = [step.rule for step in everything([render_step(measured)])]
    assert rules[-2:] == ["measure", "render"]
    assert {"fetch", "synthesise", "train", "pack"} <= set(rules)
    needs = {f"{need.rule}/{need.name}" for need in measured.needs}
    assert {"fetch/coffee_dev", "fetch/an4_test", "pack/qat/acosr_4", "pack/qat/start"} <= needs
    assert "pack/qat/mracos_4" not in needs  # neither asked for nor trained
    quick = measure_step("qat", "quick")
    assert {need.rule for need in quick.needs} == {"fetch", "pack"}
    assert quick.key != measured.key
    assert measure_step("qat", "quick").key == quick.key


def test_publishing_adds_the_records_and_a_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publish(tmp_path / "runs")
    path = tmp_path / "runs" / f"{made.stem}.json"
    row = Step(rule="evaluate", name="x", function="a:b")
    rendered: list[bool] = []
    ran: list[list[Step]] = []
    monkeypatch.setattr(targets, "row_steps", lambda plan, profile: [row])
    monkeypatch.setattr(targets, "record_of", lambda step: path)
    monkeypatch.setattr(targets, "records_dir", lambda: tmp_path / "published")
    monkeypatch.setattr(targets, "run_dag", lambda steps, where, again: ran.append(list(steps)))
    monkeypatch.setattr(targets, "render_all", lambda *, check, html: rendered.append(check))
    wanted = Wanted(names=["headline"], profile="quick", plan=default_plan())
    for publishing in (False, True, True):
        text, failure = targets.replicate(wanted, Where(), work=tmp_path / "w", publish=publishing)
        assert "0 rows reproduced" in text or "1 rows reproduced" in text
        assert failure == ""
        assert load_records(tmp_path / "published") == ([made] if publishing else [])
    assert ran == [[row]] * 3
    assert rendered == [False, False]
    assert (tmp_path / "w" / "summary.md").is_file()

    def fails(steps: list[Step], where: Where, again: tuple[str, ...]) -> None:
        raise EdgeSpeechError("broken")

    monkeypatch.setattr(targets, "run_dag", fails)
    text, failure = targets.replicate(wanted, Where(), publish=True)
    assert (failure, text.count("rows reproduced")) == ("broken", 1)
    assert rendered == [False, False]
