"""`edgespeech understand`, on a network of the made set."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgespeech.cli import app
from edgespeech.cli.understanding import understand
from edgespeech.errors import EdgeSpeechError
from edgespeech.understanding.packing import pack_network
from understanding.helpers_understanding import DENSE, learned


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    pack_network(learned(folder, DENSE), folder / "small.edge")
    return folder / "small.edge"


def run(model: Path, *words: str, stdin: str | None = None) -> list[dict[str, object]]:
    arguments = ["understand", "--model", str(model), *words]
    result = CliRunner().invoke(app, arguments, input=stdin, catch_exceptions=False)
    assert result.exit_code == 0
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_requests_of_arguments_and_of_stdin_give_the_same(model: Path) -> None:
    found = run(model, "--scheme", "orders", "Paint the hall white.", "clean the garage")

    assert [one["intent"] for one in found] == ["paint", "clean"]
    assert found[0]["slots"] == {"room": "hall", "colour": "white"}
    assert run(model, "--scheme", "orders", stdin="Paint the hall white.\nclean the garage\n") == found


def test_what_is_too_improbable_is_out_of_scope(model: Path) -> None:
    assert run(model, "--scheme", "orders", "--least", "1", "clean the hall")[0]["intent"] == "oos"


def test_an_unknown_scheme_and_an_empty_line_are_refused(model: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="scheme is 'commands', expected one of chat, orders"):
        run(model, "clean the hall")
    with pytest.raises(EdgeSpeechError, match="at least one word"):
        run(model, "--scheme", "orders", stdin="\n")


def test_a_closed_stdin_and_one_of_other_bytes_are_one_line(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latin = io.TextIOWrapper(io.BytesIO("caf\xe9\n".encode("latin-1")), encoding="utf-8")
    for stdin, problem in ((None, "stdin: is closed, expected requests"), (latin, "stdin: is not UTF-8")):
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(EdgeSpeechError, match=problem):
            understand(model=model, scheme="orders")
