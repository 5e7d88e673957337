"""`edge-fp32` biased to one domain: a domain n-gram language model and a soft grammar constraint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgespeech.biasing.phrases import BOOST
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
GRAMMAR_PENALTY = 4.0
"""Penalty for leaving the grammar, in nats, tuned on coffee orders (`tune_average.py --grammar-penalty`)."""


class EdgeCommand(EdgeTransducer):
    """`edge-fp32` with one domain's language model instead of the general one, and with the domain's grammar.

    The weights are unchanged, and sentences outside the grammar can still be recognised.
    """

    name = "edge-command"
    summary = "edge-fp32 biased to one domain by its grammar and language model"

    def __init__(
        self,
        *,
        domain: str = "coffee",
        grammar_penalty: float = GRAMMAR_PENALTY,
        beam: int = BEAM,
        final_s: float | None = FINAL_S,
        boost: float = BOOST,
    ) -> None:
        """Set the options.

        Args:
            domain: a folder of `results/models/domains`, and the grammar of that name.
            grammar_penalty: log-probability subtracted when a hypothesis leaves the grammar, in nats; with 0 only the
                domain language model biases the search.
            beam: number of hypotheses; 1 is greedy search, which is not biased.
            final_s: pause of the decoder that ends the utterance, in seconds; None: only the end of the audio does.
            boost: bonus of a letter of a context phrase, in nats.

        Raises:
            EdgeSpeechError: an option is out of range.
        """
        super().__init__(beam=beam, final_s=final_s, boost=boost)
        if not _NAME.fullmatch(domain):
            raise bad(self.name, "domain", domain, "a name of small letters, digits and _")
        if not (isinstance(grammar_penalty, int | float) and grammar_penalty >= 0):
            raise bad(self.name, "grammar_penalty", grammar_penalty, "nats, at least 0")
        self._grammar_penalty = grammar_penalty
        self._domain = shipped_models() / "domains" / domain

    def missing(self) -> str | None:
        """Why it cannot run: no acoustic model, or no language model of the domain."""
        if (reason := super().missing()) is not None or (self._domain / FUSION).is_file():
            return reason
        known = ", ".join(sorted(file.parent.name for file in self._domain.parent.glob(f"*/{FUSION}")))
        return f"no language model of the domain {self._domain.name}, expected one of {known or 'none'}"

    def folder(self) -> Path:
        """The folder of `edge-fp32`."""
        return EdgeFp32().folder()

    def files(self) -> dict[str, Path]:
        """Those of `edge-fp32`, with the domain's language model instead of the general one."""
        return {**super().files(), FUSION: self._domain / FUSION}

    def _grammar(self, trained: Trained) -> tuple[LabelScores | None, Mapping[str, object]]:
        """The domain's grammar as a constraint of the search, and what the record says of it.

        Raises:
            EdgeSpeechError: the domain has no language model, or there is no grammar of its name.
        """
        from edgespeech.search.constraint import GrammarScores

        fusion = load_fusion(self._domain, trained.model.config.vocabulary)
        if fusion is None:
            raise EdgeSpeechError(f"{self.name}: {self.missing()}")
        grammar = load_grammar(self._domain.name)
        described = {
            "grammar": {
                "name": grammar.name,
                "sha256": grammar.sha256,
                "grammar_penalty": self._grammar_penalty,
            }
        }
        scores = GrammarScores(fusion, grammar.graph, trained.tokeniser.pieces, self._grammar_penalty)
        return scores, described

    def _notes(self) -> tuple[str, ...]:
        return (f"knows that requests are of the domain {self._domain.name}",)
