"""The arm as a packed file beside the slow branch that was trained alone: what the engine, and an accelerator, need."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from edgespeech.arms.accelerator import NUMBERS, Execution, execute, load_numbers
from edgespeech.arms.accelerator_work import engine_work
from edgespeech.arms.branch_engine import compare_deployed
from edgespeech.arms.packed_bench import EVICT, Bench, say
from edgespeech.arms.peer_bench import Peer, bench_peers, spread
from edgespeech.harness.checks import Row
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.model.branching_checkpoint import TrainedBranching
from edgespeech.model.checkpoint import Trained
from edgespeech.model.transducer import Transducer
from edgespeech.packed.branches import bytes_by_part, costs_by_part
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel

BITS = 8
"""Of a weight, where the bits are not what is compared."""
_TRANSCRIBER = ("shared", "arbitrator", "slow", "fast")


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
        layout = Layout(matrices=Encoding(bits=bits))
        pack(arm, layout, self.arm)
        pack(slow_alone(slow), layout, self.slow)


def slow_alone(trained: TrainedBranching) -> Trained:
    """The slow branch as a model of its own, without what belongs to the other."""
    model = Transducer(trained.model.config)
    own = trained.model.state_dict()
    model.load_state_dict({name: own[name] for name in model.state_dict()})
    return Trained(model.eval().requires_grad_(False), trained.tokeniser, trained.provenance)


def traffic(pair: Pair, bench: Bench) -> Row:
    """The share of the transcriber's bytes that the arm does not read, frame by frame."""
    speakers = [one.speaker for one in bench.spoken]
    return _saved(_read(pair.arm, bench), _read(pair.slow, bench), speakers, bench.seed)


def parts(pair: Pair) -> Iterator[Row]:
    """Bytes of each part of the arm's file."""
    for part, count in bytes_by_part(read_edge(pair.arm).tensors).items():
        yield {"claim": "branching.bytes", "detail": part, "measured": count, "n": 1}


def chunks(pair: Pair, bench: Bench, amounts: Mapping[str, int | None]) -> Iterator[Row]:
    """The share of a chunk's time that is saved, with empty and with full caches."""
    first = str(bench.spoken[0].file)
    peers = [
        Peer(
            name=name,
            python=sys.executable,
            spec={"kind": "edge-packed", "first": first, "file": str(file), "evict_bytes": EVICT},
        )
        for name, file in (("arm", pair.arm), ("slow", pair.slow))
    ]
    some = {key: spread(bench.spoken, amounts[key]) for key in ("cold", "warm")}
    found = bench_peers(peers, warm=some["warm"], cold=some["cold"])
    reason = next((one["skipped"] for one in found.values() if "skipped" in one), None)
    for key, spoken in some.items():
        row: Row = {"claim": "branching.compute", "detail": f"{key} caches"}
        if reason is not None:
            yield {**row, "skipped": reason}
            continue
        ours, theirs = ([sum(told["seconds"]) for told in found[name][key]] for name in ("arm", "slow"))
        count = sum(len(told["seconds"]) for told in found["arm"][key])
        row["chunk_s"] = [sum(ours) / count, sum(theirs) / count]
        yield {**row, **_saved(ours, theirs, [one.speaker for one in spoken], bench.seed)}


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


def _read(file: Path, bench: Bench) -> list[float]:
    """Bytes of the transcriber's weights that each utterance read, a frame at a time."""
    tensors = read_edge(file).tensors
    totals = [0.0]
    with PackedModel(file) as model:
        step = model.config.stack
        for one in bench.spoken:
            with closing(model.open()) as stream:
                for at in range(0, len(one.features) - step + 1, step):
                    stream.accept(one.features[at : at + step])
            costs = costs_by_part(tensors, model.reads)
            totals.append(float(sum(cost.bytes for part, cost in costs.items() if part in _TRANSCRIBER)))
    return np.diff(totals).tolist()


def _saved(ours: Sequence[float], theirs: Sequence[float], speakers: Sequence[str | None], seed: int) -> Row:
    """The share of a cost that is saved, with its interval, as fields of a row."""
    less = np.subtract(theirs, ours)
    row: Row = {"measured": float(less.sum() / np.sum(theirs)), "n": len(less)}
    if len(less) < 2:
        return row
    return {**row, **bootstrap_ratio(less, theirs, speakers, seed=seed).as_row()}
