"""Every technique is measured, recorded and rendered in a tiny profile, on a machine without any corpus.

`tiny.yaml` in a technique's folder has the keys of its `config.yaml` that are smaller there. The model on the device is
tiny, and its words are nonsense: what is asked is that no part fails, and that what cannot run says why.
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from edgespeech.core.places import MODEL_VARIABLE, project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.model.checkpoint import save_model
from edgespeech.pipeline.replicate import EXPERIMENT, techniques
from edgespeech.report.page import run
from helpers_packed import tiny
from helpers_replication import describe_few

TINY = "tiny.yaml"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all techniques, each in its tiny profile."""
    copy = tmp_path_factory.mktemp("tiny") / "replication"
    shutil.copytree(project_root() / "replication", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in copy.iterdir():
        if (folder / TINY).is_file():
            config = load_yaml(folder / "config.yaml") | load_yaml(folder / TINY)
            (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    return copy


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirror, nothing in the work folder, and a tiny model in place of the shipped one."""
    describe_few(tmp_path / "corpora")
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    trained = tiny()
    save_model(tmp_path / "model", trained.model, trained.tokeniser, trained.provenance)
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "model"))
    monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("name", sorted(techniques()))
def test_a_technique_runs_in_a_tiny_profile(
    name: str,
    folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = importlib.util.spec_from_file_location(f"tiny_{name}", folders / name / EXPERIMENT)
    assert spec is not None
    assert spec.loader is not None
    experiment = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(experiment)
    if hasattr(experiment, "RESULTS"):  # published arms are not heard again
        monkeypatch.setattr(experiment, "RESULTS", tmp_path / "results")
    page = replace(experiment.PAGE, records=tmp_path / name)
    assert page.folder == folders / name

    run(page)

    printed = capsys.readouterr().out
    record = page.newest()
    assert record is not None
    assert record.technique == name
    for check in page.checks:
        assert f"{check.__name__}: done" in printed
    assert record.rows or record.not_run
    assert all(part.reason for part in record.not_run)
    assert f"{name}: " in printed
    assert record.stem in page.readme.read_text(encoding="utf-8")
