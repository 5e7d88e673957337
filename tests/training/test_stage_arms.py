"""Arms of one stage of training: from one start, skipped with a reason, judged against their control."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from replication.rnnt import arms as script

from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.lm.fusion import FUSION
from edgespeech.model.checkpoint import load_model, save_model
from edgespeech.training import teacher as teachers
from edgespeech.training.config import TrainConfig
from edgespeech.training.loop import MODEL, train
from edgespeech.training.teacher import TeacherKind
from helpers_packed import tiny
from helpers_teacher import NAME, StandIn

Make = Callable[..., TrainConfig]
HERE = project_root() / "replication" / "rnnt"


@pytest.fixture
def arms_file(settings: Make, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two arms over the tiny corpus, from a start in a folder of its own."""
    config = settings(steps=4, save_every=4)
    train(config, tmp_path / "before", quiet=True)
    base = config.model_dump(mode="json", exclude_unset=True)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    content: dict[str, Any] = {
        "question": "lesson",
        "start": str(tmp_path / "before" / MODEL),
        "base": "base.yaml",
        "shared": {"steps": 3, "save_every": 3},
        "arms": {"alone": {}, "taught": {"teacher": {"name": NAME, "layer": 1, "dims": 4}}},
        "against": "alone",
        "tuning": [str(corpus)],
        "utterances": 8,
    }
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setitem(teachers.TEACHERS, NAME, TeacherKind(lambda: None, StandIn))

    def train_here(config: TrainConfig, folder: Path, *, processes: int, until: int | None) -> None:
        train(config, folder, until=until, quiet=True)

    monkeypatch.setattr(script, "train_arm", train_here)
    return tmp_path / "arms.yaml"


def run(path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, Any]:
    """Run the script and return its newest record."""
    out = path.parent / "choices"
    monkeypatch.setattr(sys, "argv", ["arms", str(path), "--out", str(out), *words])
    script.main()
    found: dict[str, Any] = json.loads(max(out.glob("lesson-*.json")).read_text())
    return found


def test_arms_are_judged_beside_their_start(arms_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = run(arms_file, monkeypatch)
    start, alone, taught = record["models"]
    assert [one["name"] for one in record["models"]] == ["start", "alone", "taught"]
    assert record["compared_with"] == "alone"
    assert alone["greedy"]["difference"]["wer"] == 0
    assert {one["parts"][0]["weights_sha256"] for one in record["models"]}.__len__() == 3
    assert (alone["provenance"]["step"], taught["provenance"]["step"]) == ("3", "3")
    assert alone["provenance"]["init_sha256"] == taught["provenance"]["init_sha256"]
    assert "teacher_sha256" in taught["provenance"]
    assert "teacher_sha256" not in alone["provenance"]
    assert start["provenance"]["step"] == "4"
    assert record["skipped"] == {}
    assert record["arms"]["arms"].keys() == {"alone", "taught"}


def test_an_arm_whose_teacher_is_not_here_is_skipped_with_a_reason(
    arms_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(teachers.TEACHERS, NAME, TeacherKind(lambda: "no weights of it", StandIn))
    record = run(arms_file, monkeypatch)
    assert [one["name"] for one in record["models"]] == ["start", "alone"]
    assert record["skipped"] == {"taught": "no weights of it"}
    assert "taught: skipped: no weights of it" in capsys.readouterr().out


def test_another_start_can_be_named(arms_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trained = load_model(tmp_path / "before" / MODEL)
    save_model(tmp_path / "later", trained.model, trained.tokeniser, {"step": "99"})
    record = run(arms_file, monkeypatch, "--start", str(tmp_path / "later"))
    assert record["models"][0]["provenance"]["step"] == "99"
    assert record["arms"]["start"] == str(tmp_path / "later")


def test_a_trial_is_no_record_of_the_project(
    arms_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="empty"):
        run(arms_file, monkeypatch, "--until", "1")
    (kept,) = (tmp_path / "work" / "runs" / "lesson").glob("lesson-*.json")
    assert json.loads(kept.read_text())["models"][1]["provenance"]["step"] == "1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": {"start": {}}}, "arms is 'start', expected other names"),
        ({"against": "third"}, "against is 'third', expected one of start, alone, taught"),
        ({"updates": 3}, "unknown key 'updates'"),
        ({"arms": {"a": {"steps": 0}}, "against": None}, "arm a: steps is 0"),
    ],
)
def test_a_wrong_file_is_refused(arms_file: Path, changes: dict[str, Any], said: str) -> None:
    content = yaml.safe_load(arms_file.read_text()) | changes
    arms_file.write_text(yaml.safe_dump(content))
    with pytest.raises(EdgeSpeechError, match=said):
        script.runs(arms_file, script.load_arms(arms_file))


def test_the_teacher_s_arms_differ_in_the_teacher_alone() -> None:
    path = HERE / "teacher.yaml"
    file = script.load_arms(path)
    made = {name: one.model_dump() for name, one in script.runs(path, file).items()}
    assert made["no_teacher"].pop("teacher") is None
    assert made["teacher"].pop("teacher") == made["teacher_unlabelled"].pop("teacher")
    names = [one.pop("name") for one in made.values()]
    assert names == ["teacher.no_teacher", "teacher.teacher", "teacher.teacher_unlabelled"]
    assert made["no_teacher"] == made["teacher"]
    every, fewer = made["teacher_unlabelled"].pop("speech"), made["teacher"].pop("speech")
    assert every[: len(fewer)] == fewer
    assert all(source["teacher_only"] for source in every[len(fewer) :])
    assert not any(source["teacher_only"] for source in fewer)
    assert made["teacher_unlabelled"] == made["teacher"]


def test_the_base_of_compression_is_tried_as_its_arms_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = tiny()
    save_model(tmp_path / "model", trained.model, trained.tokeniser, trained.provenance)
    path = HERE / "compression_base.yaml"
    file = script.load_arms(path)
    monkeypatch.setattr(script, "start_folder", lambda file: tmp_path / "model")
    made = script.runs(path, file)
    base = yaml.safe_load((HERE.parent / "compression" / "base.yaml").read_text())
    for seed, config in zip((1, 2, 3), made.values(), strict=True):
        told = config.model_dump(mode="json", exclude_unset=True)
        assert told["seed"] == seed
        assert told["model"]["dropout"] == base["dropout"]
        assert {key: told[key] for key in base if key not in ("seed", "dropout")} == {
            key: value for key, value in base.items() if key not in ("seed", "dropout")
        }


def test_what_ships_is_published_as_a_start_without_its_language_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = tiny()
    save_model(tmp_path / "shipped", trained.model, trained.tokeniser, {"run": "last"}, half=True)
    monkeypatch.setattr(script, "start_model", lambda: tmp_path / "shipped")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / FUSION).write_bytes(b"of the one before")
    script.publish_start(tmp_path / "base")
    assert load_model(tmp_path / "base").provenance == {"run": "last"}
    assert (tmp_path / "base" / "model.safetensors").read_bytes() == (
        tmp_path / "shipped" / "model.safetensors"
    ).read_bytes()
    assert not (tmp_path / "base" / FUSION).exists()
