"""The on-device model as it was trained: every technique is a change to it."""

from __future__ import annotations

import os
from pathlib import Path

from edgespeech.core.places import shipped_models
from edgespeech.systems._edge import EdgeTransducer

MODEL_VARIABLE = "EDGESPEECH_EDGE_MODEL"
"""Environment variable that names a folder with the model to use instead of the shipped one."""


class EdgeFp32(EdgeTransducer):
    """The on-device streaming RNN-T in single precision."""

    name = "edge-fp32"
    summary = "our streaming RNN-T on the device, fp32, by torch"

    def folder(self) -> Path:
        """The folder that the environment names, else the shipped model's."""
        named = os.environ.get(MODEL_VARIABLE)
        return Path(named) if named else shipped_models() / self.name
