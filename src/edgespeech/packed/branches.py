"""The two branches of a packed model: what is read of them, what lies where, and how they were used.

A frame of a branching transcriber runs one branch, slow or fast (`edgespeech.model.branching`); everything else runs in
every frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.branching_config import BranchingConfig, FastKind
from edgespeech.model.config import ModelConfig
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import EdgeFile, Tensor, sections

Part = Literal["shared", "arbitrator", "slow", "fast", "predictor", "joiner", "language model"]
"""What a tensor belongs to; `shared` is what both branches use."""

_PREFIXES: Mapping[str, Part] = {
    "transcriber.arbitrator.": "arbitrator",
    "transcriber.lstms.": "slow",
    "transcriber.fast.": "fast",
    "transcriber.": "shared",
    "predictor.": "predictor",
    "joiner.": "joiner",
    "fusion.": "language model",
}

_ARBITER = "transcriber.arbitrator.leave.weight"
"""The one matrix that may have a single row, as vectors have."""

Branch = Literal["fast", "slow"]

Decisions = NDArray[np.uint8]
"""The branch that ran in each transcriber frame, with shape `(T, D)`: 1 slow, 0 fast; D is 1, or the layers."""


class Reads(NamedTuple):
    """What the engine read of a tensor.

    Attributes:
        bytes: of the file. A pass serves up to 8 vectors, of one stream or of several. Of a sparse matrix that is
            unpacked for several products, one pass; the copy in the core's cache is not counted.
        vectors: that it was multiplied with; rows that were looked up, of an embedding.
    """

    bytes: int
    vectors: int


class Cost(NamedTuple):
    """What a part read and did.

    Attributes:
        bytes: of weights.
        macs: multiply-accumulates with weights that are stored.
    """

    bytes: int
    macs: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How often which branch ran.

    Attributes:
        decisions: frames, times layers where each layer has its own.
        slow: those that were slow.
        switches: between a frame and the next of the same utterance.
    """

    decisions: int
    slow: int
    switches: int

    @property
    def share(self) -> float:
        """Of slow decisions; 0 without any."""
        return self.slow / self.decisions if self.decisions else 0.0

    @property
    def warning(self) -> str | None:
        """What a record has to say of an arbitrator that decides nothing."""
        if not self.decisions or self.switches:
            return None
        if self.slow == self.decisions:
            return f"the arbitrator never switches: all {self.decisions} decisions are slow"
        if not self.slow:
            return f"the arbitrator never switches: all {self.decisions} decisions are fast"
        return f"the arbitrator never switches within an utterance: {self.slow} of {self.decisions} are slow"


def usage_of(utterances: Iterable[Decisions]) -> Usage:
    """How often which branch ran in some utterances."""
    decisions = slow = switches = 0
    for said in utterances:
        decisions += said.size
        slow += int(said.sum())
        switches += int((said[1:] != said[:-1]).sum())
    return Usage(decisions, slow, switches)


def part_of(name: str) -> Part:
    """What a tensor belongs to.

    Raises:
        EdgeSpeechError: it is none of a model's.
    """
    for prefix, part in _PREFIXES.items():
        if name.startswith(prefix):
            return part
    raise bad("packed model", "tensor", name, "a name that begins with one of " + ", ".join(_PREFIXES))


def bytes_by_part(tensors: Mapping[str, Tensor]) -> dict[Part, int]:
    """Bytes of the sections of each part that a file has, see `read_edge`."""
    found = dict.fromkeys(get_args(Part), 0)
    for name, tensor in tensors.items():
        found[part_of(name)] += sum(sections(tensor))
    return {part: count for part, count in found.items() if count}


def costs_by_part(tensors: Mapping[str, Tensor], reads: Mapping[str, Reads]) -> dict[Part, Cost]:
    """What each part read and did.

    Args:
        tensors: of the file, see `read_edge`.
        reads: by tensor, see `PackedModel.reads`.
    """
    found: dict[Part, Cost] = dict.fromkeys(get_args(Part), Cost(0, 0))
    for name, tensor in tensors.items():
        part, (read, vectors) = part_of(name), reads[name]
        macs = vectors * _products(name, tensor)
        found[part] = Cost(found[part].bytes + read, found[part].macs + macs)
    return {part: cost for part, cost in found.items() if cost.bytes}


def state_bytes(config: ModelConfig, branching: BranchingConfig | None) -> int:
    """Bytes of a transcriber's state between frames: one state for both branches, and the arbitrator's."""
    units = config.layers * config.hidden + (0 if branching is None else branching.arbitrator)
    return 2 * 4 * units


def frame_costs(tensors: Mapping[str, Tensor]) -> dict[Branch, Cost]:
    """What a transcriber frame of one stream reads and does by each branch, the arbitrator's part included."""
    once = costs_by_part(tensors, {name: Reads(sum(sections(tensor)), 1) for name, tensor in tensors.items()})

    def of(branch: Branch) -> Cost:
        parts = [once[part] for part in ("shared", "arbitrator", branch) if part in once]
        return Cost(sum(part.bytes for part in parts), sum(part.macs for part in parts))

    return {"slow": of("slow"), "fast": of("fast")}


def described(file: EdgeFile) -> str:
    """Bytes of every part of a file of two branches, of its state, and of a frame by each branch, in two lines."""
    config = ModelConfig.from_mapping(file.meta["config"])
    state = state_bytes(config, BranchingConfig.from_mapping(file.meta["branching"]))
    parts = ", ".join(f"{part} {count}" for part, count in bytes_by_part(file.tensors).items())
    slow, fast = frame_costs(file.tensors).values()
    return (
        f"bytes: {parts}; the transcriber's state of a stream {state}\n"
        f"a slow frame reads {slow.bytes} bytes for {slow.macs} MACs, a fast one {fast.bytes} for {fast.macs}"
    )


def read_branching(
    values: Any, found: Mapping[str, int], config: ModelConfig, where: str
) -> BranchingConfig | None:
    """The branches that a file's metadata names, in agreement with its tensors.

    Args:
        values: the metadata's `branching`, None where it has none.
        found: by the engine, of the tensors: `units`, `rank`, `arbitrator`, `decisions`; empty without branches.
        config: of the model.
        where: the file.

    Raises:
        EdgeSpeechError: they do not agree.
    """
    if values is None and not found:
        return None
    if values is None:
        raise bad(where, "branching", None, "a mapping, since there are tensors of two branches")
    if not found:
        raise bad(where, "branching", values, "nothing, since there are no tensors of a fast branch")
    try:
        branching = BranchingConfig.from_mapping(values)
    except EdgeSpeechError as error:
        raise EdgeSpeechError(f"{where}: {error}") from error
    kind: FastKind = (
        "factorised" if found["rank"] else "sparse" if found["units"] == config.hidden else "narrow"
    )
    expected: dict[str, tuple[Any, Any]] = {
        "arbitrator": (branching.arbitrator, found["arbitrator"]),
        "per_layer": (branching.per_layer and config.layers > 1, found["decisions"] > 1),
    }
    if branching.fast == "narrow":
        expected["units"] = (branching.units, found["units"])
        kind = kind if found["rank"] else "narrow"  # which may be as wide as the slow one
    if branching.fast == "factorised":
        expected["rank"] = (branching.rank, found["rank"])
    for field, (said, is_) in {"fast": (branching.fast, kind), **expected}.items():
        if said != is_:
            raise bad(where, f"branching: {field}", said, f"{is_}, as in the tensors")
    return branching


def _products(name: str, tensor: Tensor) -> int:
    """Multiply-accumulates with one vector: none of vectors and tables."""
    if part_of(name) == "language model" or name == "predictor.embedding.weight":
        return 0
    if isinstance(tensor, Codes):
        return tensor.non_zeros
    return tensor.size if len(tensor) > 1 or name == _ARBITER else 0
