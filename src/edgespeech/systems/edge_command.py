"""The on-device model told what kind of request will come, as recognisers of commands are told their grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgespeech.core.places import shipped_models
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lm.fusion import FUSION, load_fusion
from edgespeech.search.settings import BEAM, FINAL_S
from edgespeech.systems._edge import EdgeTransducer
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.text.grammar import load_grammar

if TYPE_CHECKING:  # what needs torch is loaded with the model
    from edgespeech.model.checkpoint import Trained
    from edgespeech.search.beam import LabelScores

_NAME = re.compile(r"[a-z][a-z0-9_]*")
LEAVING = 4.0
"""Nats that leaving the grammar costs, chosen on the coffee orders of the tuning speech (`tune_mean.py --leaving`)."""


class EdgeCommand(EdgeTransducer):
    """`edge-fp32` with the language model of one domain in place of that of all text, and the domain's grammar.

    Nothing else changes: the weights are the same, and what the grammar does not know can still be said.
    """

    name = "edge-command"
    summary = "edge-fp32 given one domain's grammar and language model, as command recognisers are"

    def __init__(
        self,
        *,
        domain: str = "coffee",
        leaving: float = LEAVING,
        beam: int = BEAM,
        final_s: float | None = FINAL_S,
    ) -> None:
        """Set the options.

        Args:
            domain: a folder of `results/models/domains`, and the grammar of that name.
            leaving: what it costs to leave the grammar, in nats; 0: nothing, the language model alone tells the domain.
            beam: how many hypotheses the search keeps; 1 is greedy search, which is told nothing.
            final_s: pause of the decoder that ends the utterance, in seconds; None: the end of the audio does.

        Raises:
            EdgeSpeechError: an option is out of range.
        """
        super().__init__(beam=beam, final_s=final_s)
        if not _NAME.fullmatch(domain):
            raise bad(self.name, "domain", domain, "a name of small letters, digits and _")
        if not (isinstance(leaving, int | float) and leaving >= 0):
            raise bad(self.name, "leaving", leaving, "nats, at least 0")
        self._leaving = leaving
        self._domain = shipped_models() / "domains" / domain

    def missing(self) -> str | None:
        """That there is no model, or none of the domain."""
        if (reason := super().missing()) is not None or (self._domain / FUSION).is_file():
            return reason
        known = ", ".join(sorted(file.parent.name for file in self._domain.parent.glob(f"*/{FUSION}")))
        return f"no language model of the domain {self._domain.name}, expected one of {known or 'none'}"

    def folder(self) -> Path:
        """That of `edge-fp32`."""
        return EdgeFp32().folder()

    def files(self) -> dict[str, Path]:
        """Those of `edge-fp32`, with the domain's language model in place of that of all text."""
        return {**super().files(), FUSION: self._domain / FUSION}

    def _grammar(self, trained: Trained) -> tuple[LabelScores | None, Mapping[str, object]]:
        """The domain's grammar, which leads the search.

        Raises:
            EdgeSpeechError: the domain has no language model, or there is no grammar of its name.
        """
        from edgespeech.search.constraint import GrammarScores

        fusion = load_fusion(self._domain, trained.model.config.vocabulary)
        if fusion is None:
            raise EdgeSpeechError(f"{self.name}: {self.missing()}")
        grammar = load_grammar(self._domain.name)
        told = {"grammar": {"name": grammar.name, "sha256": grammar.sha256, "leaving": self._leaving}}
        scores = GrammarScores(fusion, grammar.graph, trained.tokeniser.pieces, self._leaving)
        return scores, told

    def _notes(self) -> tuple[str, ...]:
        return (f"knows that requests are of the domain {self._domain.name}",)
