"""The on-device model told what kind of request will come, as recognisers of commands are told their grammar."""

from __future__ import annotations

import re
from pathlib import Path

from edgespeech.decoding.fusion import FUSION
from edgespeech.errors import bad
from edgespeech.systems._edge import BEAM, FINAL_S, EdgeTransducer, shipped_models
from edgespeech.systems.edge_fp32 import EdgeFp32

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class EdgeCommand(EdgeTransducer):
    """`edge-fp32` with the language model of one domain in place of that of all text.

    Nothing else changes: the weights are the same, and what the domain's model does not know can still be said.
    """

    name = "edge-command"
    summary = "edge-fp32 given one domain's language model, as command recognisers are given a grammar"

    def __init__(self, *, domain: str = "coffee", beam: int = BEAM, final_s: float | None = FINAL_S) -> None:
        """Set the options.

        Args:
            domain: a folder of `results/models/domains`.
            beam: how many hypotheses the search keeps.
            final_s: pause of the decoder that ends the utterance, in seconds; None: the end of the audio does.

        Raises:
            EdgeSpeechError: an option is out of range.
        """
        super().__init__(beam=beam, final_s=final_s)
        if not _NAME.fullmatch(domain):
            raise bad(self.name, "domain", domain, "a name of small letters, digits and _")
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

    def domain(self) -> Path | None:
        """Where the domain's language model is."""
        return self._domain

    def _notes(self) -> tuple[str, ...]:
        return (f"knows that requests are of the domain {self._domain.name}",)
