"""`edgespeech pack`, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edgespeech.cli import app
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.branching_checkpoint import save_branching
from edgespeech.model.branching_config import FastKind
from edgespeech.model.checkpoint import save_model
from edgespeech.packed.branches import bytes_by_part, frame_costs
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import EdgeFile, read_edge
from helpers_branching import KINDS, tiny_branching
from helpers_packed import prune, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trained = tiny()
    prune(trained.model, 0.5)
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, trained.model, trained.tokeniser, trained.provenance)
    return folder


def run(folder: Path, out: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["pack", str(folder), "--out", str(out), *words])


def packed(folder: Path, out: Path, *words: str) -> EdgeFile:
    done = run(folder, out, *words)
    assert done.exit_code == 0, done.output
    assert f"{out}: {out.stat().st_size} bytes" in done.output.replace("\n", "")
    return read_edge(out)


@pytest.mark.parametrize(
    ("words", "bits", "group", "codebook", "sparse"),
    [
        ([], 8, 0, False, False),
        (["--bits", "4", "--group", "64"], 4, 64, False, False),
        (["--bits", "5", "--codebook"], 5, 0, True, False),
        (["--bits", "6", "--store", "sparse"], 6, 0, False, True),
    ],
)
def test_every_matrix_is_stored_as_configured(
    folder: Path, tmp_path: Path, words: list[str], bits: int, group: int, codebook: bool, sparse: bool
) -> None:
    joiner = packed(folder, tmp_path / "m.edge", *words).tensors["joiner.weight"]
    assert isinstance(joiner, Codes)
    assert (joiner.bits, joiner.group, joiner.codebook is not None) == (bits, group, codebook)
    assert (joiner.mask is not None) == sparse


@pytest.mark.parametrize(("floats", "dtype"), [("fp32", "float32"), ("fp16", "float16")])
def test_matrices_may_stay_floats(folder: Path, tmp_path: Path, floats: str, dtype: str) -> None:
    joiner = packed(folder, tmp_path / "m.edge", "--floats", floats).tensors["joiner.weight"]
    assert not isinstance(joiner, Codes)
    assert str(joiner.dtype) == dtype


def test_auto_measures_this_machine(folder: Path, tmp_path: Path) -> None:
    words = ["--bits", "4", "--store", "auto", "--cache-mib", "1"]
    assert isinstance(packed(folder, tmp_path / "m.edge", *words).tensors["joiner.weight"], Codes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bits", "4", "--floats", "fp16"], "--bits is 4, expected nothing beside --floats"),
        (["--store", "auto"], "--store auto and --cache-mib come together"),
        (["--cache-mib", "1"], "--store auto and --cache-mib come together"),
        (["--group", "65"], "layout: group is 65"),
        (["--bits", "7", "--codebook"], "layout: codebook is"),
        (["--floats", "fp16", "--store", "sparse"], "layout: bits is 16"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path, words: list[str], message: str) -> None:
    done = run(folder, tmp_path / "m.edge", *words)
    assert isinstance(done.exception, EdgeSpeechError)
    assert message in str(done.exception)
    assert not (tmp_path / "m.edge").exists()


def test_a_folder_without_a_model_is_reported(tmp_path: Path) -> None:
    done = run(tmp_path / "none", tmp_path / "m.edge")
    assert isinstance(done.exception, EdgeSpeechError)
    assert "not a readable model" in str(done.exception)


@pytest.mark.parametrize("kind", KINDS)
def test_of_two_branches_it_says_what_each_takes(tmp_path: Path, kind: FastKind) -> None:
    trained = tiny_branching(kind)
    save_branching(tmp_path / "model", trained.model, trained.tokeniser, trained.provenance)
    done = run(tmp_path / "model", tmp_path / "m.edge", "--bits", "4")
    assert done.exit_code == 0, done.output
    tensors = read_edge(tmp_path / "m.edge").tensors
    parts, costs = bytes_by_part(tensors), frame_costs(tensors)
    said = done.output.replace("\n", " ")
    assert (
        f"shared {parts['shared']}, arbitrator {parts['arbitrator']}, slow {parts['slow']}, fast {parts['fast']}"
        in said
    )
    assert f"state of a stream {2 * 4 * (2 * 70 + 3)} " in said
    assert f"slow frame reads {costs['slow'].bytes} bytes for {costs['slow'].macs} MACs" in said
    assert f"fast one {costs['fast'].bytes} for {costs['fast'].macs}" in said
    assert costs["fast"].bytes < costs["slow"].bytes
    sparse = tensors["transcriber.fast.0.weight_hh" if kind != "factorised" else "transcriber.fast.0.outer"]
    assert isinstance(sparse, Codes)
    assert (sparse.mask is not None) == (kind == "sparse")
