"""Files of two branches that are wrong: one clear error each, never a wrong model; and what is said of usage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.branches import Usage, part_of, state_bytes, usage_of
from edgespeech.packed.edge_file import Tensor, read_edge, write_edge
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel
from helpers_branching import branching_config, tiny_branching

ARBITRATOR, FAST = "transcriber.arbitrator", "transcriber.fast"


def zeros(rows: int, cols: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.zeros((rows, cols), np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for kind in ("sparse", "factorised", "narrow"):
        pack(tiny_branching(kind), Layout(matrices=Encoding(bits=32)), folder / f"{kind}.edge")
    return folder


def changed(
    folder: Path, kind: str, tensors: dict[str, Tensor | None], meta: dict[str, Any] | None = None
) -> Path:
    """A file with other tensors and metadata; those that are None are left out."""
    file = read_edge(folder / f"{kind}.edge")
    kept = {name: tensor for name, tensor in {**file.tensors, **tensors}.items() if tensor is not None}
    told = {key: value for key, value in {**file.meta, **(meta or {})}.items() if value is not None}
    write_edge(folder / "changed.edge", kept, told)
    return folder / "changed.edge"


def refused(path: Path, message: str) -> None:
    with pytest.raises(EdgeSpeechError) as caught:
        PackedModel(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def without(folder: Path, kind: str, prefix: str) -> dict[str, Tensor | None]:
    names = read_edge(folder / f"{kind}.edge").tensors
    return {name: None for name in names if name.startswith(prefix)}


@pytest.mark.parametrize("kind", ["sparse", "factorised", "narrow"])
def test_a_missing_branch_or_arbitrator(folder: Path, kind: str) -> None:
    for prefix, message in (
        (FAST, "there is no tensor transcriber.fast.0."),
        ("transcriber.lstms", "there is no tensor transcriber.lstms.0."),
        (ARBITRATOR, "there is no tensor transcriber.arbitrator.lstm.weight_hh_l0"),
        (f"{FAST}.1", "there is no tensor transcriber.fast.1."),
    ):
        refused(changed(folder, kind, without(folder, kind, prefix)), message)
    both = without(folder, kind, FAST) | without(folder, kind, ARBITRATOR)
    refused(changed(folder, kind, both), "expected nothing, since there are no tensors of a fast branch")


@pytest.mark.parametrize(
    ("kind", "tensors", "message"),
    [
        (
            "narrow",
            {f"{FAST}.0.weight_hh": zeros(320, 80)},
            "tensor transcriber.fast.0.weight_hh: rows is 320, expected at most 280, 4 for each unit",
        ),
        ("narrow", {f"{FAST}.0.weight_hh": zeros(121, 30)}, "rows is 121, expected a multiple of 4"),
        ("narrow", {f"{FAST}.0.weight_hh": zeros(120, 31)}, "shape is 120 x 31, expected 120 x 30"),
        ("narrow", {f"{FAST}.1.weight_ih": zeros(116, 29)}, "shape is 116 x 29, expected 120 x 30"),
        ("narrow", {f"{FAST}.0.bias": zeros(1, 121)}, "shape is 1 x 121, expected 1 x 120"),
        ("narrow", {f"{FAST}.2.weight_hh": zeros(120, 30)}, "fast.2.weight_hh is not one of this model's"),
        ("factorised", {f"{FAST}.0.outer": zeros(280, 141)}, "cols is 141, expected at most 140"),
        ("factorised", {f"{FAST}.0.outer": zeros(276, 20)}, "shape is 276 x 20, expected 280 x 20"),
        ("factorised", {f"{FAST}.1.inner_hh": zeros(20, 69)}, "shape is 20 x 69, expected 20 x 70"),
        ("factorised", {f"{FAST}.0.outer": None}, "there is no tensor transcriber.fast.0.weight_hh"),
        ("sparse", {f"{FAST}.0.outer": zeros(280, 20)}, "there is no tensor transcriber.fast.0.inner_ih"),
        (
            "sparse",
            {f"{ARBITRATOR}.lstm.weight_ih_l0": zeros(12, 80)},
            "tensor transcriber.arbitrator.lstm.weight_ih_l0: shape is 12 x 80, expected 12 x 320",
        ),
        (
            "sparse",
            {f"{ARBITRATOR}.lstm.weight_hh_l0": zeros(12, 4)},
            "lstm.bias: shape is 1 x 12, expected 1 x 16",
        ),
        (
            "sparse",
            {f"{ARBITRATOR}.leave.weight": zeros(3, 3)},
            "rows is 3, expected 1 or 2: a decision for all layers, or one for each",
        ),
        ("sparse", {f"{ARBITRATOR}.leave.weight": zeros(1, 4)}, "shape is 1 x 4, expected 1 x 3"),
        (
            "sparse",
            {f"{ARBITRATOR}.leave.bias": zeros(1, 1).astype(np.float16)},
            "encoding is 1, expected 0 (fp32)",
        ),
    ],
)
def test_branches_of_another_shape(folder: Path, kind: str, tensors: Any, message: str) -> None:
    refused(changed(folder, kind, tensors), message)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("sparse", None, "branching is None, expected a mapping, since there are tensors of two branches"),
        ("sparse", [], "branching is [], expected a mapping"),
        ("sparse", {"rank": 3}, "fast is None, expected one of sparse, factorised, narrow"),
        ("sparse", {"fast": "quick"}, "fast is 'quick', expected one of"),
        ("sparse", {"fast": "sparse", "depth": 2}, "key is 'depth'"),
        (
            "sparse",
            {"fast": "sparse", "arbitrator": 4},
            "branching: arbitrator is 4, expected 3, as in the tensors",
        ),
        (
            "sparse",
            {"fast": "factorised", "arbitrator": 3},
            "branching: fast is 'factorised', expected sparse",
        ),
        (
            "factorised",
            {"fast": "sparse", "arbitrator": 3},
            "branching: fast is 'sparse', expected factorised",
        ),
        ("narrow", {"fast": "sparse", "arbitrator": 3}, "branching: fast is 'sparse', expected narrow"),
        ("narrow", {"fast": "narrow", "arbitrator": 3, "units": 31}, "branching: units is 31, expected 30"),
        (
            "factorised",
            {"fast": "factorised", "arbitrator": 3, "rank": 19},
            "branching: rank is 19, expected 20",
        ),
        (
            "sparse",
            {"fast": "sparse", "arbitrator": 3, "per_layer": True},
            "branching: per_layer is True, expected False",
        ),
    ],
)
def test_metadata_that_disagrees(folder: Path, kind: str, values: Any, message: str) -> None:
    refused(changed(folder, kind, {}, {"branching": values}), message)


def test_a_plain_file_does_not_become_one_of_branches_by_its_metadata(folder: Path) -> None:
    tensors = without(folder, "narrow", FAST) | without(folder, "narrow", ARBITRATOR)
    said = branching_config("narrow").to_mapping()
    refused(changed(folder, "narrow", tensors, {"branching": said}), "there are no tensors of a fast branch")
    with PackedModel(changed(folder, "narrow", tensors, {"branching": None})) as model:
        assert model.branching is None


@pytest.mark.parametrize("kind", ["sparse", "factorised", "narrow"])
def test_cut_and_damaged_files(folder: Path, tmp_path: Path, kind: str) -> None:
    content = (folder / f"{kind}.edge").read_bytes()
    broken = tmp_path / "broken.edge"
    for size in (0, 63, 64, 4096, len(content) // 2, len(content) - 64, len(content) - 1):
        broken.write_bytes(content[:size])
        with pytest.raises(EdgeSpeechError, match=r"broken\.edge"):
            PackedModel(broken)
    for at in range(64, len(content), len(content) // 97):
        broken.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(EdgeSpeechError, match="checksum"):
            PackedModel(broken)


def test_a_narrow_branch_may_be_as_wide_as_the_slow_one(folder: Path, tmp_path: Path) -> None:
    file = read_edge(folder / "sparse.edge")
    values = {"fast": "narrow", "arbitrator": 3, "units": 70, "arbitrator_share": 1.0}
    write_edge(tmp_path / "m.edge", file.tensors, {**file.meta, "branching": values})
    with PackedModel(tmp_path / "m.edge") as model:
        assert model.branching is not None
        assert model.branching.units == 70


def test_parts_are_known_by_name() -> None:
    assert part_of("transcriber.enter.weight") == "shared"
    assert part_of("transcriber.fast.3.bias") == "fast"
    assert part_of("fusion.high") == "language model"
    with pytest.raises(EdgeSpeechError, match="tensor is 'encoder', expected a name that begins with one of"):
        part_of("encoder")


def test_usage() -> None:
    said = [np.array([[1, 0], [1, 1], [0, 1]], np.uint8), np.array([[0, 0]], np.uint8)]
    assert usage_of(said) == Usage(decisions=8, slow=4, switches=2)
    assert usage_of(said).share == 0.5
    assert usage_of(said).warning is None
    assert usage_of([]) == Usage(0, 0, 0)
    assert usage_of([]).share == 0
    assert usage_of([]).warning is None


@pytest.mark.parametrize(
    ("first", "second", "warning"),
    [
        (1, 1, "the arbitrator never switches: all 5 decisions are slow"),
        (0, 0, "the arbitrator never switches: all 5 decisions are fast"),
        (1, 0, "the arbitrator never switches within an utterance: 3 of 5 are slow"),
    ],
)
def test_an_arbitrator_that_never_switches_is_warned_of(first: int, second: int, warning: str) -> None:
    said = usage_of([np.full((3, 1), first, np.uint8), np.full((2, 1), second, np.uint8)])
    assert said.warning == warning


def test_state_bytes_are_those_of_a_stream(folder: Path) -> None:
    with PackedModel(folder / "narrow.edge") as model:
        rest = 66 * 4 + 3 * 4  # the prediction and the predictor's labels
        assert model.open().state_bytes == state_bytes(model.config, model.branching) + rest
