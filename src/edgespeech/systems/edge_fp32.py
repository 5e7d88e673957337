"""The on-device model in single precision, as trained; every technique modifies it."""

from __future__ import annotations

from pathlib import Path

from edgespeech.biasing.phrases import BOOST
from edgespeech.core.places import edge_model
from edgespeech.search.settings import FINAL_S, GREEDY
from edgespeech.systems._edge import EdgeTransducer


class EdgeFp32(EdgeTransducer):
    """The on-device streaming RNN-T in single precision."""

    name = "edge-fp32"
    summary = "our streaming RNN-T on the device, fp32, by torch"

    def folder(self) -> Path:
        """The folder that the environment names, else the shipped model's."""
        return edge_model()


class EdgeFp32Greedy(EdgeFp32):
    """The same model with greedy search and without its language model, which measures the network alone."""

    name = "edge-fp32-greedy"
    summary = "edge-fp32 by greedy search, without a language model"
    shipped = GREEDY

    def __init__(self, *, final_s: float | None = FINAL_S, boost: float = BOOST) -> None:
        """`final_s`, `boost`: see `EdgeFp32`."""
        super().__init__(beam=1, final_s=final_s, boost=boost)
