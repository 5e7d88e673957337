"""A made model of the page of the on-device model."""

from __future__ import annotations

from pathlib import Path

import torch

from edgespeech.core.labels import BLANK
from edgespeech.model.checkpoint import save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer

PROVENANCE = {
    "run": "rnnt_1", "step": "8", "audio_s": "7200", "utterances": "30", "processes": "2", "device": "x86_64",
}  # fmt: skip


def save_tiny(folder: Path, made: dict[str, str], *, half: bool = True) -> Path:
    """A model that says something now and then."""
    torch.manual_seed(0)
    model = Transducer(ModelConfig(vocabulary=40, layers=1, hidden=16, joiner=16))
    with torch.no_grad():
        model.joiner.weight *= 10
        model.joiner.bias[BLANK] += 3
    tokeniser = Tokeniser.train(["turn on the light", "play some music"] * 3, 40)
    save_model(folder, model, tokeniser, made, half=half)
    return folder
