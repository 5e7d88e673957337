"""The settings that our recognisers ship with, and how a measurement's own differ from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

CHUNK_S = 0.12
"""Seconds of audio of a chunk: three transcriber frames of 40 ms."""
BEAM = 16
"""Hypotheses that the search keeps by default, chosen on tuning speech (`replication/rnnt/tune_mean.py`): half as
many make more errors, in noise above all; more gain little for the time that they take."""
FINAL_S = 0.8
"""Pause of the decoder after which the user has finished. It cuts off 3 of 60 utterances of `assistant_dev` with
noise behind them, 1.0 s cuts off 1; with pauses of up to 1.2 s put between words, no such rule is of use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """How a transducer searches. The defaults are those of the recognisers that ship.

    Attributes:
        beam: hypotheses that are kept; 1 is greedy search.
        language_model: whether the model's language model adds to the scores. Greedy search goes without.
        final_s: pause of the decoder that ends an utterance, in seconds; None: the end of the audio does.
        chunk_s: seconds of audio of a chunk; None: all of an utterance at once.
    """

    beam: int = BEAM
    language_model: bool = True
    final_s: float | None = FINAL_S
    chunk_s: float | None = CHUNK_S

    @property
    def fused(self) -> bool:
        """Whether a language model adds to the scores in fact."""
        return self.language_model and self.beam > 1

    def differences(self) -> dict[str, float | bool | None]:
        """The settings that are not those that ship, by their names.

        `beam=1` alone is both: another beam, and no language model.
        """
        found = {
            name: getattr(self, name) for name in _NAMES if getattr(self, name) != getattr(SHIPPED, name)
        }
        if self.fused != SHIPPED.fused:
            found["language_model"] = self.fused
        return found

    def describe(self) -> str:
        """`as it ships`, or what differs from that, such as `beam 4 (ships: 16), no language model`."""
        words = [_WORDS[name](value) for name, value in self.differences().items()]
        return ", ".join(words) if words else "as it ships"


SHIPPED = SearchSettings()
"""What the recognisers ship with."""
GREEDY = SearchSettings(beam=1, language_model=False)
"""Greedy search without a language model: what the network alone recognises."""

_NAMES = [field.name for field in fields(SearchSettings)]
_WORDS: dict[str, Callable[[Any], str]] = {
    "beam": lambda value: "greedy search" if value == 1 else f"beam {value} (ships: {BEAM})",
    "language_model": lambda value: "with the language model" if value else "no language model",
    "final_s": lambda value: (
        "no end-point" if value is None else f"end-point after {value:g} s (ships: {FINAL_S:g} s)"
    ),
    "chunk_s": lambda value: (
        "whole utterances at once" if value is None else f"chunks of {value:g} s (ships: {CHUNK_S:g} s)"
    ),
}
