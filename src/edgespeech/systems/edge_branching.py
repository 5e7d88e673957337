"""The on-device model with two branches, one of which runs in each frame; by the native engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgespeech.core.places import shipped_models
from edgespeech.errors import bad
from edgespeech.systems.edge_packed import PACKED, EdgePacked

if TYPE_CHECKING:
    from edgespeech.packed.runtime import PackedModel

BRANCHING_VARIABLE = "EDGESPEECH_BRANCHING_MODEL"
"""Environment variable that names a `.edge` file of two branches to use instead of the published one."""


class EdgeBranching(EdgePacked):
    """The streaming RNN-T whose transcriber decides frame by frame which of two branches runs (arXiv 2108.01553)."""

    name = "edge-branching"
    summary = "our streaming RNN-T on the device, packed, with a slow and a fast branch"

    def path(self) -> Path:
        """The file that the environment names, else the published one."""
        named = os.environ.get(BRANCHING_VARIABLE)
        return Path(named) if named else shipped_models() / self.name / PACKED

    def missing(self) -> str | None:
        """Why it cannot run: no engine, or no published model of two branches."""
        reason = super().missing()
        if reason is None or self.path().is_file():
            return reason
        return (
            f"no model {self.path()}: none is published yet; `edgespeech pack` makes one of a trained branching model, "
            f"which {BRANCHING_VARIABLE} names"
        )

    def _further(self, model: PackedModel) -> dict[str, object]:
        """The branches, the bytes of each part, and what a frame costs by each.

        Raises:
            EdgeSpeechError: the file's model has one branch.
        """
        from edgespeech.packed.branches import bytes_by_part, frame_costs, state_bytes
        from edgespeech.packed.edge_file import read_edge

        if model.branching is None:
            self.close()
            raise bad(str(model.path), "branching", None, "a model of two branches")
        tensors = read_edge(model.path).tensors
        return {
            **super()._further(model),
            "bytes": bytes_by_part(tensors),
            "frame": {branch: cost._asdict() for branch, cost in frame_costs(tensors).items()},
            "transcriber_state_bytes": state_bytes(model.config, model.branching),
        }
