from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgespeech.cli import app
from edgespeech.errors import EdgeSpeechError
from edgespeech.pipeline import replicate
from edgespeech.pipeline.replicate import load_experiment, run_technique, techniques

TOY = "SEEN = []\n\n\ndef main(words=None):\n    SEEN.extend(words)\n"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with one technique, which is there because its folder is."""
    folder = tmp_path / "replication" / "toy_thing"
    folder.mkdir(parents=True)
    (folder / "experiment.py").write_text(TOY)
    (tmp_path / "replication" / "headline").mkdir()
    monkeypatch.setattr(replicate, "project_root", lambda: tmp_path)
    monkeypatch.setattr(replicate, "checkout", lambda: tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    for name in [name for name in sys.modules if name.startswith("replication.toy_thing")]:
        del sys.modules[name]


def test_every_folder_with_an_experiment_is_a_technique() -> None:
    found = techniques()
    assert {"qat", "rnnt", "checks"} < set(found)
    assert "headline" not in found
    for name in found:
        experiment = load_experiment(name)
        assert experiment.PAGE.name == name
        assert callable(experiment.main)


def test_a_new_folder_is_found_and_gets_its_own_words(toy: Path) -> None:
    assert techniques() == {"toy_thing": toy}
    run_technique("toy-thing", ["--only", "x*"])
    assert load_experiment("toy_thing").SEEN == ["--only", "x*"]


@pytest.mark.parametrize("words", [["--render"], ["--write", "a", "b"], ["--shares", "0.5", "--render"]])
def test_the_command_hands_on_what_it_does_not_know(toy: Path, words: list[str]) -> None:
    done = CliRunner().invoke(app, ["replicate", "toy_thing", *words])
    assert done.exit_code == 0, done.output
    assert words == load_experiment("toy_thing").SEEN


def test_an_unknown_technique_is_refused(toy: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="technique is 'none', expected one of toy_thing"):
        run_technique("none", [])


@pytest.mark.parametrize(
    "words", [["--wrong"], ["--wrong", "x"], ["headline", "--wrong"], ["all", "--wrong"]]
)
def test_an_option_without_a_technique_is_not_taken_for_one(words: list[str]) -> None:
    refused = CliRunner().invoke(app, ["replicate", *words])
    assert isinstance(refused.exception, EdgeSpeechError)
    assert str(refused.exception).startswith("replicate: option is '--wrong', expected one that")


def test_the_usage_line_of_a_technique_names_its_command(
    toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (toy / "experiment.py").write_text(
        "import argparse\n\n\ndef main(words=None):\n    argparse.ArgumentParser().parse_args(words)\n"
    )
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # as in the installed script
    monkeypatch.setattr(sys, "argv", ["edgespeech", "replicate"])
    with pytest.raises(SystemExit):
        run_technique("toy_thing", ["--nix"])
    assert capsys.readouterr().err.startswith("usage: edgespeech replicate toy_thing [-h]\n")
    assert sys.argv == ["edgespeech", "replicate"]
