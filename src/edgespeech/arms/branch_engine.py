"""What two branches are worth in the engine: against their simulation, and the slow branch in a file of its own.

`chunk_compute` takes times, so that it needs an idle machine; everything else here is counted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgespeech.arms.packed_bench import EVICT
from edgespeech.arms.peer_bench import Peer, Prepared, bench_peers, chunk_figures, spread
from edgespeech.audio.features import Features
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.model.config import FRAME_S
from edgespeech.packed.branches import Decisions, Usage, costs_by_part, part_of, usage_of
from edgespeech.packed.edge_file import read_edge, write_edge
from edgespeech.packed.runtime import PackedModel
from edgespeech.packed.simulate import simulate, transcriptions
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.settings import CHUNK_S

CHUNK = round(CHUNK_S / FRAME_S)
"""Feature frames of a chunk."""
_TRANSCRIBER = ("shared", "arbitrator", "slow", "fast")


@dataclass(frozen=True, slots=True)
class Deployed:
    """The engine against the torch model that simulates it.

    Attributes:
        utterances: that fill a transcriber frame.
        same: those with equal decisions, labels and frames of labels.
        same_labels: those with equal labels, thus words.
        usage: of the engine's decisions.
        differ: decisions that differ; none does where matrices are codes, which have the same sums in any order.
        nearest: the least distance of one of the arbitrator's logits from 0, over the largest one: how close it was.
    """

    utterances: int
    same: int
    same_labels: int
    usage: Usage
    differ: int
    nearest: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the engine read of the transcriber's weights, by utterance.

    Attributes:
        frames: transcriber frames.
        bytes: read.
        macs: multiply-accumulates with stored weights.
    """

    frames: tuple[int, ...]
    bytes: tuple[int, ...]
    macs: tuple[int, ...]


def slow_alone(file: Path, out: Path) -> None:
    """Write the slow branch of a packed model as a plain one, with the same bytes of weights.

    Raises:
        EdgeSpeechError: the file has one branch, or cannot be read or written.
    """
    content = read_edge(file)
    if "branching" not in content.meta:
        raise bad(str(file), "branching", None, "a model of two branches")
    kept = {
        name: tensor
        for name, tensor in content.tensors.items()
        if part_of(name) not in ("fast", "arbitrator")
    }
    write_edge(out, kept, {key: value for key, value in content.meta.items() if key != "branching"})


def compare_deployed(file: Path, utterances: Sequence[Features]) -> Deployed:
    """The engine on every utterance, chunk by chunk, against the simulation of whole utterances; by greedy search.

    Args:
        file: a packed model of two branches.
        utterances: features of each, with shape `(F, 80)`.

    Raises:
        EdgeSpeechError: the file has one branch, or no utterance fills a frame.
    """
    said: list[Decisions] = []
    same = same_labels = differ = 0
    nearest = np.inf
    with PackedModel(file) as model, torch.inference_mode():
        if model.branching is None:
            raise bad(str(file), "branching", None, "a model of two branches")
        heard = [x for x in utterances if len(x) >= model.config.stack]
        if not heard:
            raise EdgeSpeechError(f"{file}: no utterance fills a transcriber frame")
        twin = simulate(model.config, read_edge(file).tensors, model.branching)
        for x, encoded in zip(heard, transcriptions(twin, heard), strict=True):
            search = GreedyDecoder(twin)
            search.accept(encoded)
            logits = twin.transcriber.decide(torch.from_numpy(x)[None])[0].numpy()
            nearest = min(nearest, float(np.abs(logits).min() / max(np.abs(logits).max(), 1e-30)))
            with closing(model.open()) as stream:
                for start in range(0, len(x), CHUNK):
                    stream.accept(x[start : start + CHUNK])
                best, decisions = stream.best, stream.decisions
            other = int((decisions != (logits > 0)).sum())
            said.append(decisions)
            differ += other
            same_labels += best.labels == search.best.labels
            same += not other and (best.labels, best.frames) == (search.best.labels, search.best.frames)
    return Deployed(len(heard), same, same_labels, usage_of(said), differ, nearest)


def weight_traffic(file: Path, utterances: Sequence[Features], step: int = CHUNK) -> Traffic:
    """What the engine reads of the transcriber's weights, the arbitrator's included.

    Args:
        file: a packed model, with one branch or two.
        utterances: features of each, with shape `(F, 80)`, at least one transcriber frame.
        step: feature frames that arrive together; frames of one chunk share a pass over what multiplies the input.
    """
    tensors = read_edge(file).tensors
    found: list[tuple[int, int, int]] = []
    with PackedModel(file) as model:
        for x in utterances:
            before = model.reads
            with closing(model.open()) as stream:
                for start in range(0, len(x), step):
                    stream.accept(x[start : start + step])
            costs = costs_by_part(
                tensors, {name: read.since(before[name]) for name, read in model.reads.items()}
            )
            own = [cost for part, cost in costs.items() if part in _TRANSCRIBER]
            frames = len(x) // model.config.stack
            found.append((frames, sum(cost.bytes for cost in own), sum(cost.macs for cost in own)))
    frames_, bytes_, macs = zip(*found, strict=True)
    return Traffic(frames_, bytes_, macs)


def saved(
    ours: Sequence[float], theirs: Sequence[float], speakers: Sequence[str | None], seed: int
) -> dict[str, Any]:
    """The share of a cost that is saved, with its interval, as fields of a row.

    Args:
        ours: by utterance.
        theirs: of what it is compared with, by utterance.
        speakers: of each utterance.
        seed: of the interval.
    """
    less = np.asarray(theirs, np.float64) - np.asarray(ours, np.float64)
    interval = bootstrap_ratio(less, theirs, speakers, seed=seed)
    return {"measured": float(less.sum() / np.sum(theirs)), "n": len(less), **interval.as_row()}


def chunk_compute(
    files: Mapping[str, Path], spoken: Sequence[Prepared], amounts: Mapping[str, int | None], seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Chunk times of greedy search on one thread, files in turns, and what each saves against the last one.

    Args:
        files: packed models by name, the one that others are compared with last.
        spoken: the utterances.
        amounts: the numbers of utterances `cold` and `warm`; None for all.
        seed: of the intervals.

    Returns:
        By name, `cold` and `warm`: `mean_s` and `p99_s` of a chunk, `chunks`, and but for the last file the fields of
        `saved`, of the time of utterances.

    Raises:
        EdgeSpeechError: a file cannot be run.
    """
    first = str(spoken[0].file)
    peers = [
        Peer(
            name=name,
            python=sys.executable,
            spec={"kind": "edge-packed", "first": first, "file": str(file), "evict_bytes": EVICT},
        )
        for name, file in files.items()
    ]
    some = {key: spread(spoken, amounts[key]) for key in ("cold", "warm")}
    results = bench_peers(peers, warm=some["warm"], cold=some["cold"])
    for name, found in results.items():
        if "skipped" in found:
            raise EdgeSpeechError(f"{name}: {found['skipped']}")
    reference = list(files)[-1]
    figures: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in files}
    for key, items in some.items():
        speakers = [item.speaker for item in items]
        sums = {name: [sum(answer["seconds"]) for answer in results[name][key]] for name in files}
        for name in files:
            chunks = chunk_figures(results[name][key])
            figures[name][key] = {"chunks": chunks.pop("n"), **chunks}
            if name != reference:
                figures[name][key] |= saved(sums[name], sums[reference], speakers, seed)
    return figures
