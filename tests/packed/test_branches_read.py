"""Of two branches the engine reads the chosen one alone: by its counters, and by memory that may not be read."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from edgespeech.model.branching import branched
from edgespeech.model.branching_checkpoint import TrainedBranching
from edgespeech.model.branching_config import BranchingConfig, FastKind
from edgespeech.packed.branches import Cost, Reads, bytes_by_part, costs_by_part, part_of
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import Tensor, read_edge, sections
from edgespeech.packed.pack import EMBEDDING, Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel, accept_batch
from edgespeech.search.hypothesis import Hypothesis
from helpers_branching import KINDS, tiny_branching
from helpers_edge import get
from helpers_packed import features, prune, tiny

FRAMES = 120
STEPS = FRAMES // 4
PAGE = 4096


def size(tensor: Tensor) -> int:
    return sum(sections(tensor))


def packed(
    folder: Path, kind: FastKind, encoding: Encoding | None = None, *, per_layer: bool = False
) -> Path:
    trained = tiny_branching(kind, per_layer=per_layer)
    prune(trained.model, 0.4)
    pack(trained, Layout(matrices=encoding or Encoding(bits=8)), folder / "m.edge")
    return folder / "m.edge"


def turns_of(name: str, decisions: np.ndarray) -> int:
    """Frames in which a tensor of the transcriber is needed, by the decisions, `(T, D)`."""
    part = part_of(name)
    if part in ("slow", "fast"):
        layer = int(name.split(".")[2])
        own = decisions[:, layer if decisions.shape[1] > 1 else 0]
        return int((own == (part == "slow")).sum())
    return len(decisions)


def joins_of(greedy: Hypothesis, steps: int, context: int) -> int:
    """What the joiner computes in a greedy search: once for a frame and the last labels of its predictor."""
    said = [0] * context
    asked = set()
    places = list(zip(greedy.frames, greedy.labels, strict=True))
    for step in range(steps):
        asked.add((step, *said[-context:]))
        while places and places[0][0] == step:
            said.append(places.pop(0)[1])
            asked.add((step, *said[-context:]))
    return len(asked)


def of_transcriber(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    return ((name, tensor) for name, tensor in tensors.items() if name.startswith("transcriber."))


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize(
    "encoding",
    [Encoding(bits=32), Encoding(bits=16), Encoding(bits=8), Encoding(bits=4, store="sparse")],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_frame_by_frame_the_counters_are_what_the_decisions_need(
    tmp_path: Path, kind: FastKind, encoding: Encoding, per_layer: bool
) -> None:
    path = packed(tmp_path, kind, encoding, per_layer=per_layer)
    x = features(FRAMES)
    tensors = read_edge(path).tensors
    with PackedModel(path) as model:
        assert all(read == Reads(0, 0) for read in model.reads.values())
        stream = model.open()
        for start in range(0, FRAMES, 4):
            stream.accept(x[start : start + 4])
        reads, decisions = model.reads, stream.decisions
        best, context = stream.best, model.config.context
    assert reads.keys() == tensors.keys()
    for name, tensor in of_transcriber(tensors):
        turns = turns_of(name, decisions)
        assert reads[name] == Reads(turns * size(tensor), turns), name
    joins = joins_of(best, STEPS, context)
    assert reads["joiner.weight"] == Reads(joins * size(tensors["joiner.weight"]), joins)
    assert 0 < reads["transcriber.fast.0.bias"].vectors < STEPS


@pytest.mark.parametrize("kind", ["factorised", "narrow"])
def test_the_steps_of_a_chunk_share_what_multiplies_the_input(tmp_path: Path, kind: FastKind) -> None:
    path = packed(tmp_path, kind)
    x, tensors = features(FRAMES), read_edge(path).tensors
    with PackedModel(path) as model:
        stream = model.open()
        for start in range(0, FRAMES, 12):
            stream.accept(x[start : start + 12])
        reads, slow = model.reads, stream.decisions[:, 0].reshape(-1, 3)
    inputs = "inner_ih" if kind == "factorised" else "weight_ih"
    for chosen, name in ((slow == 1, "lstms.1.weight_ih_l0"), (slow == 0, f"fast.1.{inputs}")):
        of_input = f"transcriber.{name}"
        of_state = of_input.replace("_ih", "_hh")
        chunks, turns = int(chosen.any(axis=1).sum()), int(chosen.sum())
        assert reads[of_input] == Reads(chunks * size(tensors[of_input]), turns)
        assert reads[of_state] == Reads(turns * size(tensors[of_state]), turns)
        assert chunks < turns


def test_a_sparse_matrix_is_read_once_for_the_steps_of_a_chunk(tmp_path: Path) -> None:
    path = packed(tmp_path, "sparse", Encoding(bits=4, store="sparse"))
    tensors = read_edge(path).tensors
    with PackedModel(path) as model:
        stream = model.open(branch="fast")
        stream.accept(features(32))  # as many steps as go together
        reads = model.reads
    for name in ("transcriber.fast.0.weight_hh", "transcriber.fast.1.weight_hh"):
        assert reads[name] == Reads(size(tensors[name]), 8)
    assert reads["transcriber.lstms.0.weight_hh_l0"] == Reads(0, 0)


@pytest.mark.parametrize("kind", ["factorised", "narrow"])
def test_streams_that_go_together_share_the_branches_that_some_of_them_chose(
    tmp_path: Path, kind: FastKind
) -> None:
    path = packed(tmp_path, kind)
    batch = np.stack([features(FRAMES, seed) for seed in range(8)])
    tensors = read_edge(path).tensors
    with PackedModel(path) as model:
        streams = [model.open() for _ in batch]
        for start in range(0, FRAMES, 4):
            accept_batch(streams, np.ascontiguousarray(batch[:, start : start + 4]))
        reads = model.reads
        slow = np.stack([stream.decisions[:, 0] for stream in streams])
    for name, tensor in of_transcriber(tensors):
        part = part_of(name)
        chosen = np.ones_like(slow) if part not in ("slow", "fast") else slow == (part == "slow")
        assert reads[name] == Reads(int(chosen.any(axis=0).sum()) * size(tensor), int(chosen.sum())), name
    assert (slow.any(axis=0) & ~slow.all(axis=0)).any(), "streams that all choose alike prove nothing"


def test_a_fixed_branch_does_without_the_other_and_the_arbitrator(tmp_path: Path) -> None:
    path = packed(tmp_path, "narrow")
    with PackedModel(path) as model:
        stream = model.open(branch="slow")
        stream.accept(features(FRAMES))
        parts = {part_of(name) for name, read in model.reads.items() if read.bytes}
    assert parts == {"shared", "slow", "predictor", "joiner"}


def test_costs_and_bytes_by_part(tmp_path: Path) -> None:
    path = packed(tmp_path, "factorised", Encoding(bits=4, store="sparse"))
    tensors = read_edge(path).tensors
    with PackedModel(path) as model:
        stream = model.open()
        stream.accept(features(4))
        costs, slow = costs_by_part(tensors, model.reads), bool(stream.decisions[0, 0])
        assert sum(bytes_by_part(tensors).values()) == model.packed_bytes
    parts = bytes_by_part(tensors)
    assert list(parts) == ["shared", "arbitrator", "slow", "fast", "predictor", "joiner"]
    for part in ("shared", "arbitrator", "slow" if slow else "fast"):
        stored = sum(
            tensor.non_zeros
            for name, tensor in tensors.items()
            if part_of(name) == part and isinstance(tensor, Codes)
        )
        assert costs[part] == Cost(parts[part], stored)
    assert ("fast" if slow else "slow") not in costs


def test_macs_of_floats_are_those_of_the_trained_model(tmp_path: Path) -> None:
    trained = tiny_branching("narrow", per_layer=True)
    pack(trained, Layout(matrices=Encoding(bits=32)), tmp_path / "m.edge")
    macs = trained.model.transcriber.macs
    tensors = read_edge(tmp_path / "m.edge").tensors
    once = costs_by_part(tensors, {name: Reads(1, 1) for name in tensors})
    assert once["shared"].macs == macs.shared
    assert once["arbitrator"].macs == macs.arbitrator
    assert once["slow"].macs == sum(macs.slow)
    assert once["fast"].macs == sum(macs.fast)
    assert EMBEDDING in tensors
    assert once["joiner"].macs == tensors["joiner.weight"].size  # type: ignore[union-attr]  # floats


def large(kind: FastKind, path: Path) -> Path:
    """A model whose branches fill several pages of memory."""
    trained = tiny(hidden=128)
    config = BranchingConfig(fast=kind, sparsity=0.5, rank=64, units=64, arbitrator=3, arbitrator_share=1.0)
    model = branched(trained.model, config).eval().requires_grad_(False)
    pack(TrainedBranching(model, trained.tokeniser, {}), Layout(), path)
    return path


def pages_of(path: Path, part: str) -> list[tuple[int, int]]:
    """The whole pages inside the sections of a branch: first byte in the file, and length."""
    content, tensors = path.read_bytes(), read_edge(path).tensors
    pages = []
    for index, (name, tensor) in enumerate(tensors.items()):
        if part_of(name) != part:
            continue
        for field, length in sections(tensor)._asdict().items():
            if length:
                start = get(content, f"{field}_offset", index)
                first, end = -(-start // PAGE) * PAGE, (start + length) // PAGE * PAGE
                if end > first:
                    pages.append((first, end - first))
    return pages


def forbid(path: Path, pages: list[tuple[int, int]]) -> None:
    """Make pages of the file's mapping in this process unreadable: whoever reads one, is ended by the system."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(str(path)):
            start = int(line.split("-", maxsplit=1)[0], 16)
            break
    else:
        raise AssertionError("the file is not mapped")
    for offset, length in pages:
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + offset), ctypes.c_size_t(length), 0) == 0


def child(path: Path, forbidden: str, branch: str) -> None:
    faulthandler.disable()
    x = features(FRAMES)
    with PackedModel(path) as model:
        stream = model.open(branch=branch)  # type: ignore[arg-type]  # fast or slow
        forbid(path, pages_of(path, forbidden))
        stream.accept(x[:60])  # several steps together, for which a matrix may be unpacked
        for start in range(60, FRAMES, 4):
            stream.accept(x[start : start + 4])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc to find the mapping in")
@pytest.mark.parametrize("branch", ["slow", "fast"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_of_the_other_branch_is_never_touched(tmp_path: Path, kind: FastKind, branch: str) -> None:
    path = large(kind, tmp_path / "m.edge")
    other = "fast" if branch == "slow" else "slow"
    exits = {}
    for forbidden in (other, branch):
        assert pages_of(path, forbidden), "there is nothing to forbid"
        process = multiprocessing.get_context("fork").Process(target=child, args=(path, forbidden, branch))
        process.start()
        process.join()
        exits[forbidden] = process.exitcode
    assert exits == {other: 0, branch: -signal.SIGSEGV}
