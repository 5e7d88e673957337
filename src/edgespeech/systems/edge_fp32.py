"""The on-device model as it was trained: every technique is a change to it."""

from __future__ import annotations

from pathlib import Path

from edgespeech.core.places import edge_model
from edgespeech.systems._edge import EdgeTransducer


class EdgeFp32(EdgeTransducer):
    """The on-device streaming RNN-T in single precision."""

    name = "edge-fp32"
    summary = "our streaming RNN-T on the device, fp32, by torch"

    def folder(self) -> Path:
        """The folder that the environment names, else the shipped model's."""
        return edge_model()
