"""`edgespeech report --check` says which way it went."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from edgespeech.cli import app
from edgespeech.errors import EdgeSpeechError
from edgespeech.pipeline import summary


def test_check_says_that_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "render_all", lambda *, check, html: [])
    done = CliRunner().invoke(app, ["report", "--check"])
    assert done.exit_code == 0
    assert done.output == "all tables and plots are what the records give\n"


def test_check_names_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "render_all", lambda *, check, html: ["README.md"])
    done = CliRunner().invoke(app, ["report", "--check"])
    assert isinstance(done.exception, EdgeSpeechError)
    assert str(done.exception) == "out of date, run `make report` and commit: README.md"
