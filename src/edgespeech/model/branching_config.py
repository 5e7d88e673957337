"""The configuration of a branching transcriber, beside the `ModelConfig` of its slow branch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from edgespeech.errors import bad

FastKind = Literal["sparse", "factorised", "narrow"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BranchingConfig:
    """The fast branch and the arbitrator.

    Attributes:
        fast: `sparse` has the slow branch's shape with whole blocks of zeros; `factorised` has matrices of low rank;
            `narrow` has fewer units, which are the first of the slow branch's.
        sparsity: of `sparse`: share of the blocks of each matrix that are zero, 0 or more, below 1.
        block_rows: of `sparse`: rows of a block; its columns are `BLOCK_COLUMNS`, as in a packed file's mask.
        rank: of `factorised`: numbers between its two factors.
        units: of `narrow`: width of its layers.
        arbitrator: units of the arbitrator's LSTM.
        arbitrator_share: most MACs of the arbitrator, as a share of the slow branch's.
        per_layer: one decision per frame and layer; False for one per frame.
    """

    fast: FastKind
    sparsity: float = 0.8
    block_rows: int = 16
    rank: int = 64
    units: int = 128
    arbitrator: int = 24
    arbitrator_share: float = 0.02
    per_layer: bool = False

    def __post_init__(self) -> None:
        if self.fast not in get_args(FastKind):
            raise bad("branching", "fast", self.fast, f"one of {', '.join(get_args(FastKind))}")
        if not isinstance(self.sparsity, int | float) or not 0 <= self.sparsity < 1:
            raise bad("branching", "sparsity", self.sparsity, "0 or more, below 1")
        for name in ("block_rows", "rank", "units", "arbitrator"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise bad("branching", name, value, "a whole number of at least 1")
        if not isinstance(self.arbitrator_share, int | float) or not 0 < self.arbitrator_share <= 1:
            raise bad("branching", "arbitrator_share", self.arbitrator_share, "above 0, at most 1")
        if not isinstance(self.per_layer, bool):
            raise bad("branching", "per_layer", self.per_layer, "true or false")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "branching") -> Self:
        """From a file's content.

        Raises:
            EdgeSpeechError: an unknown or a missing key, or a value out of range.
        """
        if not isinstance(values, Mapping):
            raise bad(where, "branching", values, "a mapping")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise bad(where, "key", unknown[0], "one of " + ", ".join(sorted(known)))
        if "fast" not in values:
            raise bad(where, "fast", None, f"one of {', '.join(get_args(FastKind))}")
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """The mapping for `from_mapping`."""
        return asdict(self)
