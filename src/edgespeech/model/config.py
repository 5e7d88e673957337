"""The configuration of a transducer, which determines the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from edgespeech.errors import bad

PredictorKind = Literal["stateless", "lstm"]
FRAME_S = 0.010
"""Seconds from one feature frame to the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The shape of a `Transducer`.

    Attributes:
        vocabulary: number of word pieces, the blank included.
        features: mel bands of a feature frame.
        stack: feature frames per transcriber frame; 4 gives 40 ms.
        layers: of the transcriber, all of one width, with a residual around each.
        hidden: width of the transcriber's layers.
        joiner: width of the joiner's inputs.
        predictor: `stateless` uses the last `context` labels only; `lstm` all of them.
        context: number of labels that the stateless predictor uses.
        dropout: share of activations dropped after each layer in training.
    """

    vocabulary: int
    features: int = 80
    stack: int = 4
    layers: int = 5
    hidden: int = 320
    joiner: int = 256
    predictor: PredictorKind = "stateless"
    context: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("features", "stack", "layers", "hidden", "joiner", "context"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise bad("model", name, value, "a whole number of at least 1")
        if not isinstance(self.vocabulary, int) or self.vocabulary < 2:
            raise bad("model", "vocabulary", self.vocabulary, "at least 2: the blank and a word piece")
        if self.predictor not in get_args(PredictorKind):
            raise bad("model", "predictor", self.predictor, f"one of {', '.join(get_args(PredictorKind))}")
        if not 0 <= self.dropout < 1:
            raise bad("model", "dropout", self.dropout, "0 or more, below 1")

    @property
    def frame_s(self) -> float:
        """Seconds of audio that one transcriber frame covers."""
        return self.stack * FRAME_S

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "model") -> Self:
        """From a file's content.

        Raises:
            EdgeSpeechError: an unknown or a missing key, or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise bad(where, "key", unknown[0], "one of " + ", ".join(sorted(known)))
        if "vocabulary" not in values:
            raise bad(where, "vocabulary", None, "a whole number of at least 2")
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """The mapping for `from_mapping`."""
        return asdict(self)
