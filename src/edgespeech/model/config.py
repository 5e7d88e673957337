"""The configuration of a transducer, which determines the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from edgespeech.errors import bad

PredictorKind = Literal["stateless", "lstm"]
ContextEncoderKind = Literal["blstm", "mean"]
Queries = Literal["audio", "audio_label"]
FRAME_S = 0.010
"""Seconds from one feature frame to the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BiasingConfig:
    """The shape of the attention over a list of phrases (`edgespeech.model.biasing`).

    Attributes:
        encoder: of phrases: `blstm`, or `mean` of the embeddings of their word pieces, the control.
        queries: `audio` attends once a frame; `audio_label` also once a label.
        width: of embeddings, of each direction of the BLSTM, and of the attention.
        heads: of the attention; they share the width.
    """

    encoder: ContextEncoderKind = "blstm"
    queries: Queries = "audio"
    width: int = 64
    heads: int = 4

    def __post_init__(self) -> None:
        for name in ("width", "heads"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4096:
                raise bad("model: biasing", name, value, "a whole number, 1 to 4096")
        if self.width % self.heads:
            raise bad("model: biasing", "width", self.width, f"a multiple of the heads, {self.heads}")
        for name, kind in (("encoder", ContextEncoderKind), ("queries", Queries)):
            if getattr(self, name) not in get_args(kind):
                raise bad("model: biasing", name, getattr(self, name), f"one of {', '.join(get_args(kind))}")

    @classmethod
    def from_mapping(cls, values: object, where: str) -> Self:
        """From a file's content.

        Raises:
            EdgeSpeechError: it is no mapping, has an unknown key, or a value is out of range.
        """
        if not isinstance(values, Mapping):
            raise bad(where, "biasing", values, "a mapping")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known, key=str):
            raise bad(f"{where}: biasing", "key", unknown[0], "one of " + ", ".join(sorted(known)))
        return cls(**values)


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
        biasing: the attention over a list of phrases; None: without.
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
    biasing: BiasingConfig | None = None

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
        given = dict(values)
        if given.get("biasing") is not None:
            given["biasing"] = BiasingConfig.from_mapping(given["biasing"], where)
        return cls(**given)

    def to_mapping(self) -> dict[str, Any]:
        """The mapping for `from_mapping`. Layers that a model does not have are left out, so that models and hashes of
        configurations are what they were before there were such layers.
        """
        told = asdict(self)
        if self.biasing is None:
            del told["biasing"]
        return told
