"""The engine's two branches against the torch model that simulates them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgespeech.audio.features import Features
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.config import FRAME_S
from edgespeech.packed.branches import Decisions, Usage, usage_of
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.runtime import PackedModel
from edgespeech.packed.simulate import simulate, transcriptions
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.settings import CHUNK_S

_CHUNK = round(CHUNK_S / FRAME_S)
"""Feature frames of a chunk."""


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
                for start in range(0, len(x), _CHUNK):
                    stream.accept(x[start : start + _CHUNK])
                best, decisions = stream.best, stream.decisions
            other = int((decisions != (logits > 0)).sum())
            said.append(decisions)
            differ += other
            same_labels += best.labels == search.best.labels
            same += not other and (best.labels, best.frames) == (search.best.labels, search.best.frames)
    return Deployed(len(heard), same, same_labels, usage_of(said), differ, nearest)
