"""Tiny transducers with attention over phrases: random, but attending to something."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgespeech.model.biasing import MAX_PHRASES, MAX_PIECES
from edgespeech.model.checkpoint import Trained
from edgespeech.model.config import BiasingConfig, PredictorKind
from edgespeech.model.transducer import Transducer
from helpers_packed import tiny

of_wrong_lists = pytest.mark.parametrize(
    ("phrases", "message"),
    [
        ([[5], []], "word pieces of phrase 2 is 0"),
        ([[5] * (MAX_PIECES + 1)], f"word pieces of phrase 1 is {MAX_PIECES + 1}"),
        ([[5]] * (MAX_PHRASES + 1), f"phrases is {MAX_PHRASES + 1}"),
        ([[5, 0]], "label in phrase 1 is 0"),
        ([[5], [40]], "label in phrase 2 is 40, expected 1 to 39"),
    ],
)
"""A test of every list that no model takes."""
PHRASES = [[5, 9, 12, 20], [7], [30, 31, 7], [12, 11, 10, 9, 8, 7, 6]]


def attentive(
    biasing: BiasingConfig | None = None, predictor: PredictorKind = "stateless", seed: int = 0
) -> Trained:
    """The model of `tiny` with attention whose every weight is random."""
    base = tiny(predictor, seed=seed)
    config = replace(base.model.config, biasing=biasing or BiasingConfig(width=24, queries="audio_label"))
    torch.manual_seed(seed)
    model = Transducer(config)
    model.load_state_dict(model.state_dict() | base.model.state_dict())
    assert model.biasing is not None
    with torch.no_grad():
        for name, values in model.biasing.named_parameters():
            values.copy_(torch.randn_like(values) * (0.3 if values.ndim > 1 else 0.1))
            if name.endswith("norm.weight"):
                values.add_(1)
    return Trained(model.eval().requires_grad_(False), base.tokeniser, base.provenance)
