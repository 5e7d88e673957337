"""What of a pipeline has to be made, and with which command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.pipeline import dag
from edgespeech.pipeline.dag import Where, run_dag, to_make
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job, Made, finish, folder_of, make, steps_dir


@pytest.fixture(autouse=True)
def _pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.delenv("EDGESPEECH_PIPELINE", raising=False)


def write(job: Job) -> list[Path]:
    (job.folder / "out").write_text(str(job.given))
    return [job.folder / "out"]


def arm(seed: int, factor: int = 3) -> Step:
    return Step(
        rule="train", name=f"arm_{factor}_seed{seed}", function=f"{__name__}:write",
        given={"seed": seed, "factor": factor}, needs=(speech(),), resources=Resources(processes=2),
    )  # fmt: skip


def speech() -> Step:
    return Step(rule="fetch", name="speech", function=f"{__name__}:write", anyway=True)


def page(*arms: Step) -> Step:
    return Step(rule="measure", name="page", function=f"{__name__}:write", needs=arms, anyway=True)


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def test_a_change_re_makes_what_hangs_on_it_and_nothing_else() -> None:
    first = page(arm(1), arm(2))
    assert names(to_make([first])) == ["speech", "arm_3_seed1", "arm_3_seed2", "page"]
    make(first)
    assert to_make([first]) == []
    more = page(arm(1), arm(2), arm(3))
    assert names(to_make([more])) == ["arm_3_seed3", "page"]
    other = page(arm(1), arm(2, factor=5))
    assert names(to_make([other])) == ["arm_5_seed2", "page"]
    assert to_make([first]) == []  # what was made before is made still


def test_what_is_gone_is_made_again_where_it_is_needed() -> None:
    whole = page(arm(1), arm(2))
    make(whole)
    (folder_of(arm(1)) / "out").unlink()
    assert to_make([whole]) == []  # nothing asks for it
    assert names(to_make([whole, arm(1)])) == ["arm_3_seed1"]
    (folder_of(whole) / "out").unlink()
    assert names(to_make([whole])) == ["arm_3_seed1", "page"]
    assert names(to_make([page(arm(1)), arm(2)], again=("train",))) == ["arm_3_seed1", "page", "arm_3_seed2"]


def test_what_went_without_something_is_tried_again() -> None:
    whole = page(arm(1))
    make(whole)
    finish(arm(1), Made(skipped="not here"))
    assert names(to_make([whole])) == ["arm_3_seed1", "page"]


def test_nothing_to_do_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    make(page(arm(1)))
    monkeypatch.setattr("subprocess.run", None)
    assert run_dag([page(arm(1))], Where()) == []


def test_the_description_says_what_a_node_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGESPEECH_TOKEN", "secret")
    made: list[tuple[list[str], dict[str, Any]]] = []

    class Done:
        returncode = 1

    def run(command: list[str], *, env: dict[str, str], check: bool) -> Done:
        del check
        assert env["XDG_CACHE_HOME"].startswith(str(tmp_path))
        name = next(word for word in command if word.startswith("dag=")).removeprefix("dag=")
        made.append((command, json.loads((steps_dir() / name).read_text())))
        return Done()

    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(
        EdgeSpeechError, match="stopped with 3 of 3 steps not made, fetch speech, train arm_3_seed1"
    ):
        run_dag([page(arm(1))], Where(jobs=3))
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text("executor: slurm\n")
    for where in (Where(executor="slurm", gpus=4), Where(profile=tmp_path / "profile")):
        with pytest.raises(EdgeSpeechError, match="the same command goes on"):
            run_dag([page(arm(1))], where)
    (local, described), (slurm, _), (profile, elsewhere) = made
    assert described["tasks"].keys() == {step.id for step in (speech(), arm(1), page(arm(1)))}
    assert described["targets"] == [page(arm(1)).id]
    assert described["environment"]["EDGESPEECH_WORK"] == str(tmp_path / "work")
    assert described["environment"]["EDGESPEECH_PIPELINE"] == str(steps_dir())
    assert "EDGESPEECH_TOKEN" not in described["environment"]
    assert (described["local"], elsewhere["local"]) == (True, False)
    assert local[local.index("--cores") + 1] == "3"
    assert slurm[slurm.index("--executor") + 1] == "slurm"
    assert slurm[slurm.index("--set-resources") + 1] == "train_step:gpu=4"
    assert profile[profile.index("--profile") + 1] == str(tmp_path / "profile")
    assert "--retries" in profile
    assert "--retries" not in local


def test_a_cluster_s_folder_has_settings(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"--cluster is .*, expected a folder with a config\.yaml"):
        Where(profile=tmp_path)


def test_one_pipeline_at_a_time_in_a_folder() -> None:
    with dag._alone(steps_dir()), pytest.raises(EdgeSpeechError, match="another replication is running"):
        run_dag([page(arm(1))], Where())
