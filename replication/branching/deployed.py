"""The arm as a packed file beside the slow branch that was trained alone: what the engine, and an accelerator, need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgespeech.arms.accelerator import NUMBERS, Execution, execute, load_numbers
from edgespeech.arms.accelerator_work import engine_work
from edgespeech.arms.branch_engine import chunk_compute, compare_deployed, saved, slow_alone, weight_traffic
from edgespeech.arms.packed_bench import Bench, say
from edgespeech.harness.checks import Row
from edgespeech.model.branching_checkpoint import TrainedBranching
from edgespeech.packed.branches import bytes_by_part
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.pack import Encoding, Layout, pack

BITS = 8
"""Of a weight, where the bits are not what is compared."""


class Pair:
    """An arm and its control, the slow branch of another one, each as a packed file.

    Args:
        arm: the arm.
        slow: the control, whose other branch is left out.
        bits: of a weight.
        folder: for the files.
    """

    def __init__(self, arm: TrainedBranching, slow: TrainedBranching, bits: int, folder: Path) -> None:
        self.arm, self.slow = folder / f"arm-{bits}.edge", folder / f"slow-{bits}.edge"
        layout, both = Layout(matrices=Encoding(bits=bits)), folder / f"both-{bits}.edge"
        pack(arm, layout, self.arm)
        pack(slow, layout, both)
        slow_alone(both, self.slow)


def traffic(pair: Pair, bench: Bench) -> Row:
    """The share of the transcriber's bytes that the arm does not read, frame by frame."""
    heard = [one.features for one in bench.spoken]
    ours, theirs = (weight_traffic(file, heard, step=1).bytes for file in (pair.arm, pair.slow))
    return saved(ours, theirs, [one.speaker for one in bench.spoken], bench.seed)


def parts(pair: Pair) -> Iterator[Row]:
    """Bytes of each part of the arm's file."""
    for part, count in bytes_by_part(read_edge(pair.arm).tensors).items():
        yield {"claim": "branching.bytes", "detail": part, "measured": count, "n": 1}


def chunks(pair: Pair, bench: Bench, amounts: Mapping[str, int | None]) -> Iterator[Row]:
    """The share of a chunk's time that is saved, with empty and with full caches."""
    found = chunk_compute({"arm": pair.arm, "slow": pair.slow}, bench.spoken, amounts, bench.seed)
    for key, told in found["arm"].items():
        row: Row = {"claim": "branching.compute", "detail": f"{key} caches", "chunk": told}
        row |= {name: told[name] for name in ("measured", "n", "low", "high", "resampled")}
        yield {**row, "slow_chunk": found["slow"][key]}


def same(pair: Pair, bench: Bench) -> Row:
    """The share of utterances whose decisions and labels are those of the simulation."""
    told = compare_deployed(pair.arm, [one.features for one in bench.spoken])
    warning = {} if told.usage.warning is None else {"warning": told.usage.warning}
    return {"measured": told.same / told.utterances, "n": told.utterances, **warning}


def modelled(pair: Pair, bench: Bench) -> Iterator[Row]:
    """What the modelled accelerators save in time, bytes from memory and energy, by the decisions on real speech."""
    heard = [one.features for one in bench.spoken]
    work = [engine_work(file, heard)[0] for file in (pair.arm, pair.slow)]
    tensors = [read_edge(file).tensors for file in (pair.arm, pair.slow)]
    for processor in load_numbers(NUMBERS).processors:
        runs: list[Execution] = [
            execute(its, processor, load) for its, load in zip(tensors, work, strict=True)
        ]
        for name, ours, theirs in (
            ("time", runs[0].time_s, runs[1].time_s),
            ("bytes from DRAM", runs[0].dram_bytes, runs[1].dram_bytes),
            ("energy", runs[0].energy_j, runs[1].energy_j),
        ):
            row: Row = {"claim": "branching.accelerator", "detail": f"{processor.name}: {name}"}
            if not theirs:
                yield {**row, "skipped": "nothing to save: all weights stay in its memory"}
                continue
            yield {**row, "measured": 1 - ours / theirs, "n": len(heard)}


def compressed(
    arms: Sequence[TrainedBranching],
    slows: Sequence[TrainedBranching],
    bits: Sequence[int],
    bench: Bench,
) -> Iterator[Row]:
    """Words of the arm and of the slow branch alone, both in as few bits."""
    for each in bits:
        errors: tuple[list[list[int]], list[list[int]]] = ([], [])
        for arm, slow in zip(arms, slows, strict=True):
            pair = Pair(arm, slow, each, bench.scratch)
            for file, own in zip((pair.arm, pair.slow), errors, strict=True):
                own.append(bench.errors(say(file, bench, 1)[0]))
        row: Row = {"claim": "branching.compressed", "detail": f"{each} bits"}
        yield {**row, **bench.compare(errors[0], errors[1]).as_row()}
