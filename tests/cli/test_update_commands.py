from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgespeech.cli import app
from edgespeech.errors import EdgeSpeechError
from helpers_updates import releases

RUNNER = CliRunner()


def said(*words: object) -> str:
    done = RUNNER.invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*words: object) -> str:
    """A mistake in what was given is one error, which `main` prints."""
    done = RUNNER.invoke(app, [str(word) for word in words])
    assert isinstance(done.exception, EdgeSpeechError), done.output
    return str(done.exception)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return releases(tmp_path_factory.mktemp("pair"))


def test_an_update_is_made_looked_at_and_applied(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = pair
    update, made = tmp_path / "step.update", tmp_path / "made.edge"
    assert f"{update}: " in said("update", "make", old, new, "--out", update)
    assert "joiner.weight: exact" in said("update", "inspect", update, "--old", old)
    assert "sha256" in said("update", "apply", old, update, "--out", made)
    assert made.read_bytes() == new.read_bytes()
    assert "expected the new `.edge` file" in refused("update", "apply", old, update)

    slots = tmp_path / "slots"
    assert "slot a" in said("update", "install", slots, old)
    assert "nothing beside a folder of slots" in refused("update", "apply", slots, update, "--out", made)
    said("update", "apply", slots, update)
    assert said("update", "running", slots).strip().endswith("b.edge")
    assert said("update", "rollback", slots).strip().endswith("a.edge")
    assert "refused" in refused("update", "apply", slots, update)


def test_a_budget_is_bytes_or_a_share(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = pair
    update = tmp_path / "step.update"
    said("update", "make", old, new, "--out", update, "--budget", "30%", "--kind", "low_rank")
    assert update.stat().st_size <= 0.3 * old.stat().st_size
    said("update", "make", old, new, "--out", update, "--budget", "5000", "--kind", "hashed")
    assert update.stat().st_size <= 5000
    for wrong in ("5 MB", "%", "nan%", "x%"):
        message = refused("update", "make", old, new, "--out", update, "--budget", wrong)
        assert f"--budget is {wrong!r}, expected bytes" in message
    assert "a `.edge` file" in refused(
        "update", "make", tmp_path / "none", new, "--out", update, "--budget", "5%"
    )
