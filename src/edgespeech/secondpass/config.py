"""The configuration of a language model's training: shape, text, optimisation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from edgespeech.core.config import Strict, validated
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import bad
from edgespeech.training.text import Positive, TextSource


@dataclass(frozen=True, kw_only=True, slots=True)
class LmShape:
    """The shape of a language model.

    Attributes:
        vocabulary: number of word pieces, including the mark of a sentence's start and end.
        width: of the embedding and of every layer.
        layers: of the LSTM.
    """

    vocabulary: int
    width: int
    layers: int

    def __post_init__(self) -> None:
        for field, least in (("vocabulary", 30), ("width", 1), ("layers", 1)):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise bad("language model", field, value, f"a whole number of at least {least}")

    @classmethod
    def from_mapping(cls, values: object, where: str) -> Self:
        """From a file's content.

        Raises:
            EdgeSpeechError: not a mapping, an unknown or a missing key, or a value out of range.
        """
        known = sorted(field.name for field in fields(cls))
        if not isinstance(values, dict) or sorted(values) != known:
            raise bad(where, "shape", values, "a mapping of " + ", ".join(known))
        return cls(**values)

    def to_mapping(self) -> dict[str, int]:
        """The mapping for `from_mapping`."""
        return asdict(self)


class LmConfig(Strict):
    """The training of a language model.

    Attributes:
        name: of the run, and of its folder.
        seed: of all random draws.
        vocabulary: number of word pieces, which are learned from the sentences.
        width: see `LmShape`.
        layers: see `LmShape`.
        dropout: share of the activations dropped before, between and after the layers in training.
        text: sources of sentences.
        held_out: splits, of speech or text, whose sentences are excluded from all sources.
        steps: updates in all.
        batch: sentences per step.
        learning_rate: its maximum.
        warmup_steps: steps of linear growth of the learning rate, which then falls linearly to 2 % of the maximum.
        weight_decay: decoupled (AdamW).
        clip: maximum norm of the gradient.
        average: decay of the exponential average of the weights, which are those of the saved model.
        precision: `bf16` computes the matrix products in bfloat16; weights, sums and losses stay in float32.
        save_every: steps between checkpoints.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    seed: Annotated[int, Field(ge=0)]
    vocabulary: Annotated[int, Field(ge=30)]
    width: Positive
    layers: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    text: Annotated[tuple[TextSource, ...], Field(min_length=1)]
    held_out: Annotated[tuple[str, ...], Field(min_length=1)]
    steps: Positive
    batch: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(gt=0)] = 1.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    precision: Literal["fp32", "bf16"] = "fp32"
    save_every: Positive = 250

    @model_validator(mode="after")
    def _steps(self) -> Self:
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps: {self.warmup_steps} must not be above steps, {self.steps}")
        return self

    @property
    def shape(self) -> LmShape:
        """The shape of the model."""
        return LmShape(vocabulary=self.vocabulary, width=self.width, layers=self.layers)

    @property
    def sha256(self) -> str:
        """A hash of the configuration."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        up = (step + 1) / max(self.warmup_steps, 1)
        down = 1 - 0.98 * max(step - self.warmup_steps, 0) / max(self.steps - self.warmup_steps, 1)
        return self.learning_rate * min(1.0, up, down)


def load_lm_config(path: Path) -> LmConfig:
    """Read a run's file.

    Raises:
        EdgeSpeechError: missing, not YAML, an unknown key, a wrong type or a value out of range.
    """
    try:
        content: Any = load_yaml(path)
    except OSError as error:
        raise bad("language model", "config", str(path), "a text file that exists") from error
    return validated(LmConfig, content, str(path))
