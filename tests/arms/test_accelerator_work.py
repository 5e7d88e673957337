"""What the accelerator model is given of a packed model: the engine's counts on some speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgespeech.arms.accelerator import NUMBERS, Processor, execute, load_numbers
from edgespeech.arms.accelerator_work import engine_rows, engine_work
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.branching_config import FastKind
from edgespeech.model.transducer import Transducer
from edgespeech.packed.branches import Branch, bytes_by_part, part_of
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import read_edge, sections
from edgespeech.packed.pack import Layout, pack
from edgespeech.packed.runtime import PackedModel
from edgespeech.search.hypothesis import Hypothesis
from helpers_branching import KINDS, always, tiny_branching
from helpers_packed import features, tiny

UTTERANCES = [features(40), features(3), features(27, seed=1)]
FRAMES = 10 + 6  # the second fills none, and of the third a rest of 3 feature frames is dropped


@pytest.fixture
def processor() -> Processor:
    """Without memory on chip, so that every read is one of the DRAM."""
    return load_numbers(NUMBERS).processors[0].model_copy(update={"sram_bytes": 0})


def packed(folder: Path, kind: FastKind, *, per_layer: bool = False) -> Path:
    pack(tiny_branching(kind, per_layer=per_layer), Layout(), folder / "m.edge")
    return folder / "m.edge"


def joins(best: Hypothesis, frames: int, context: int) -> int:
    """How often greedy search joins: once for a frame and the last labels, as many as the predictor sees."""
    count, seen = 0, (0,) * context
    emitted = list(zip(best.frames, best.labels, strict=True))
    for frame in range(frames):
        here = {seen}
        for _, label in (one for one in emitted if one[0] == frame):
            seen = (*seen[1:], label)
            here.add(seen)
        count += len(here)
    return count


def test_of_one_branch_everything_runs_in_every_frame(tmp_path: Path) -> None:
    trained = tiny()
    pack(trained, Layout(), tmp_path / "m.edge")
    work, decisions = engine_work(tmp_path / "m.edge", UTTERANCES)
    labels = joined = 0
    with PackedModel(tmp_path / "m.edge") as model:
        for x in UTTERANCES:
            stream = model.open()
            stream.accept(x)
            labels += len(stream.best.labels)
            joined += joins(stream.best, len(x) // 4, trained.model.config.context)
    assert labels > 0
    assert decisions == []
    assert work.audio_s == pytest.approx(FRAMES * 0.04)
    assert {calls for name, calls in work.calls.items() if part_of(name) in ("shared", "slow")} == {FRAMES}
    assert work.calls["joiner.weight"] == joined
    assert 0 < work.lookups <= 3 * (labels + len(UTTERANCES))


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_traffic_and_work_are_those_of_the_branches_that_ran(
    tmp_path: Path, processor: Processor, kind: FastKind, per_layer: bool
) -> None:
    path = packed(tmp_path, kind, per_layer=per_layer)
    tensors = read_edge(path).tensors
    work, decisions = engine_work(path, UTTERANCES)
    slow = np.concatenate(decisions)
    assert slow.shape == (FRAMES, 2 if per_layer else 1)
    assert 0 < slow.sum() < slow.size
    steps = {step.name: step for step in execute(tensors, processor, work).steps}
    for name, tensor in tensors.items():
        part = part_of(name)
        if part not in ("slow", "fast"):
            continue
        own = slow[:, int(name.split(".")[2]) if per_layer else 0] == (part == "slow")
        assert steps[name].reads * work.audio_s == pytest.approx(own.sum())
        assert steps[name].packed_bytes == sum(sections(tensor))
        if isinstance(tensor, Codes):
            assert steps[name].product.macs == tensor.non_zeros


@pytest.mark.parametrize("kind", KINDS)
def test_a_fixed_branch_is_the_end_of_the_scale(tmp_path: Path, processor: Processor, kind: FastKind) -> None:
    path = packed(tmp_path, kind)
    tensors = read_edge(path).tensors
    done = {}
    branches: tuple[Branch | None, ...] = ("fast", None, "slow")
    for branch in branches:
        work, _ = engine_work(path, UTTERANCES, branch)
        # Labels differ with the branch, and with them what runs for each of them.
        transcriber = {name: t for name, t in tensors.items() if name.startswith("transcriber.")}
        done[branch] = execute(transcriber, processor, work)
    assert done["fast"].macs < done[None].macs < done["slow"].macs
    assert done["fast"].dram_bytes < done[None].dram_bytes < done["slow"].dram_bytes
    assert done["fast"].energy_j < done[None].energy_j < done["slow"].energy_j
    assert done["fast"].time_s < done[None].time_s < done["slow"].time_s
    parts = bytes_by_part(tensors)
    assert done["slow"].dram_bytes == pytest.approx((parts["shared"] + parts["slow"]) / 0.04)
    assert done["fast"].dram_bytes == pytest.approx((parts["shared"] + parts["fast"]) / 0.04)


def test_rows_for_a_record(tmp_path: Path) -> None:
    numbers = load_numbers(NUMBERS)
    path, never, plain = packed(tmp_path, "narrow"), tmp_path / "never.edge", tmp_path / "plain.edge"
    pack(always(tiny_branching("narrow"), slow=True), Layout(), never)
    plain_model = Transducer(tiny().model.config)
    own = tiny_branching("narrow").model.state_dict()
    plain_model.load_state_dict({name: own[name] for name in plain_model.state_dict()})
    pack(replace(tiny(), model=plain_model.eval()), Layout(), plain)
    files = {"two branches": path, "never": never, "one": plain}
    rows = list(engine_rows(files, numbers.processors, UTTERANCES))
    assert [(row["layout"], row["processor"]) for row in rows] == [
        (name, one.name) for name in files for one in numbers.processors
    ]
    two, stuck, one = rows[0], rows[len(numbers.processors)], rows[2 * len(numbers.processors)]
    assert 0 < two["slow"] < 1
    assert "warning" not in two
    assert stuck["slow"] == 1
    assert stuck["warning"].startswith("the arbitrator never switches: all 16 decisions are slow")
    assert "slow" not in one
    assert two["cycles"] == pytest.approx(two["time_s"] * numbers.processors[0].clock_hz)
    # What never switches does the work of the slow branch and the arbitrator's, whose words are the same.
    assert two["macs"] < one["macs"] < stuck["macs"]


def test_bad_work_is_refused(tmp_path: Path, processor: Processor) -> None:
    path = packed(tmp_path, "sparse")
    with pytest.raises(EdgeSpeechError, match="no speech that fills a transcriber frame"):
        engine_work(path, [features(3)])
    with pytest.raises(EdgeSpeechError, match="79 bands, expected 80"):
        engine_work(path, [np.zeros((8, 79), np.float32)])
    work, _ = engine_work(path, UTTERANCES)
    with pytest.raises(EdgeSpeechError, match=r"inputs is .transcriber\.enter\.weight., expected vectors"):
        execute(read_edge(path).tensors, processor, work, skip_activations=True)
    pack(tiny(), Layout(), tmp_path / "plain.edge")
    with pytest.raises(EdgeSpeechError, match="the model has one branch, expected two"):
        engine_work(tmp_path / "plain.edge", UTTERANCES, "fast")
