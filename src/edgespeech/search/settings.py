"""The default settings of the shipped recognisers, and how those of a measurement differ from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CHUNK_S = 0.12
"""Seconds of audio of a chunk: three transcriber frames of 40 ms."""
BEAM = 16
"""Default beam of the search, chosen on tuning speech (`replication/rnnt/tune_average.py`): half as many hypotheses
make more errors, above all in noise; more gain little for their time."""
MAX_LABELS = 4
"""Maximum number of labels per transcriber frame: 100 a second at 40 ms."""
FINAL_S = 0.8
"""Pause of the decoder that ends an utterance. It cuts off 3 of 60 utterances of `assistant_dev` with trailing noise,
1.0 s cuts off 1; with pauses of up to 1.2 s between words no such rule works."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """Settings of a transducer's search. The defaults are those of the shipped recognisers.

    Attributes:
        beam: number of hypotheses; 1 is greedy search.
        language_model: whether to use the model's language model. Greedy search never does.
        final_s: pause of the decoder that ends an utterance, in seconds; None: only the end of the audio does.
        chunk_s: seconds of audio of a chunk; None: all of an utterance at once.
    """

    beam: int = BEAM
    language_model: bool = True
    final_s: float | None = FINAL_S
    chunk_s: float | None = CHUNK_S

    @property
    def fused(self) -> bool:
        """Whether a language model is actually used."""
        return self.language_model and self.beam > 1

    def differences(self, shipped: SearchSettings | None = None) -> dict[str, float | bool | None]:
        """The settings that differ from the shipped ones, by name.

        `beam=1` implies two differences: the beam, and no language model.

        Args:
            shipped: settings to compare with; None: `SHIPPED`.
        """
        ours, theirs = self._values(), (shipped or SHIPPED)._values()
        return {name: value for name, value in ours.items() if value != theirs[name]}

    def describe(self, shipped: SearchSettings | None = None) -> str:
        """`as it ships`, or the differences from it, such as `beam 4 (ships: 16), no language model`."""
        shipped = shipped or SHIPPED
        words = [
            _WORDS[name](value, getattr(shipped, name)) for name, value in self.differences(shipped).items()
        ]
        return ", ".join(words) if words else "as it ships"

    def _values(self) -> dict[str, float | bool | None]:
        return {
            "beam": self.beam,
            "language_model": self.fused,
            "final_s": self.final_s,
            "chunk_s": self.chunk_s,
        }


SHIPPED = SearchSettings()
"""Settings of the shipped recognisers."""
GREEDY = SearchSettings(beam=1, language_model=False)
"""Greedy search without a language model, which measures the network alone."""

_WORDS: dict[str, Callable[[Any, Any], str]] = {
    "beam": lambda value, shipped: "greedy search" if value == 1 else f"beam {value} (ships: {shipped})",
    "language_model": lambda value, _: "with the language model" if value else "no language model",
    "final_s": lambda value, shipped: (
        "no end-point" if value is None else f"end-point after {value:g} s (ships: {shipped:g} s)"
    ),
    "chunk_s": lambda value, shipped: (
        "whole utterances at once" if value is None else f"chunks of {value:g} s (ships: {shipped:g} s)"
    ),
}
