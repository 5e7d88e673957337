"""Published records, read again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgespeech.cli import app
from edgespeech.core.places import records_dir, results_dir
from edgespeech.pipeline.verify import published, verified

EVERY = 31
"""`make test` looks at all of them (`tables-check`); here a sample does."""


@pytest.mark.parametrize("path", published()[::EVERY], ids=lambda path: path.stem[:40])
def test_what_is_published_is_what_its_rows_say(path: Path) -> None:
    assert verified(path).wrong == ()


def test_runs_and_pages_are_among_what_is_published() -> None:
    found = published()
    assert {path.parent for path in found} >= {records_dir(), results_dir() / "qat", results_dir() / "rnnt"}
    assert len(set(found)) == len(found)


def test_a_figure_that_was_edited_is_found_and_named(tmp_path: Path) -> None:
    path = next(path for path in published() if '"status": "passed"' in path.read_text())
    for file in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(file, tmp_path)
    runner = CliRunner()
    good = runner.invoke(app, ["verify", str(tmp_path / path.name)])
    assert (good.exit_code, good.output.splitlines()[0]) == (0, f"{path.name}: its figures are its rows'")
    record = json.loads(path.read_text())
    record["corpus"]["ref_words"] += 1
    (tmp_path / path.name).write_text(json.dumps(record))
    bad = runner.invoke(app, ["verify", str(tmp_path / path.name)])
    assert bad.exit_code == 1
    assert "ref_words is" in bad.output


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("latency", "rtf"), "rtf is"),
        (("latency", "chunk_p99"), "chunk_p99 is"),
        (("latency", "chunk_max"), "chunk_max is"),
        (("networks", "wifi", "latency", "upl_p90"), "wifi: upl_p90 is"),
        (("networks", "loopback", "latency", "upl_mean"), "loopback: upl_mean is"),
    ],
)
def test_times_that_were_edited_are_found(tmp_path: Path, place: tuple[str, ...], message: str) -> None:
    path = next(path for path in published() if path.name.startswith("whisper-tiny-local.coffee_dev.clean"))
    for file in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(file, tmp_path)
    record = json.loads(path.read_text())
    figure = record
    for name in place:
        figure = figure[name]
    figure["value"] *= 0.9
    figure["low"] = figure["high"] = None
    (tmp_path / path.name).write_text(json.dumps(record))
    assert [line for line in verified(tmp_path / path.name).wrong if line.startswith(message)]
