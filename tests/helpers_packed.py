"""Tiny models to pack: random, but with something to say."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from edgespeech.audio.features import Features
from edgespeech.core.labels import BLANK
from edgespeech.model.checkpoint import Trained
from edgespeech.model.config import ModelConfig, PredictorKind
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer

VOCABULARY = 40


@lru_cache
def tokeniser() -> Tokeniser:
    return Tokeniser.train(["turn on the light", "play some music"] * 3, VOCABULARY)


def tiny(
    predictor: PredictorKind = "stateless", *, layers: int = 2, hidden: int = 70, seed: int = 0
) -> Trained:
    """A model of odd widths, whose every weight and statistic is random, and whose labels are clear."""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocabulary=VOCABULARY, layers=layers, hidden=hidden, joiner=66, predictor=predictor, context=3
    )
    model = Transducer(config)
    with torch.no_grad():
        for values in model.parameters():
            if values.ndim == 1:
                values.add_(torch.randn_like(values), alpha=0.1)
        model.transcriber.set_statistics(torch.randn(config.features), 0.5 + torch.rand(config.features))
        model.joiner.weight *= 30
        model.joiner.bias[BLANK] += 3
    return Trained(model.eval().requires_grad_(False), tokeniser(), {"run": "trial"})


def prune(model: Transducer, share: float) -> None:
    """Set this share of each matrix to zero, the smallest weights first."""
    for values in model.parameters():
        if values.ndim > 1:
            smallest = values.abs().flatten().argsort()[: round(share * values.numel())]
            values.data.flatten()[smallest] = 0


def features(frames: int, seed: int = 0) -> Features:
    noise: Features = np.random.default_rng(seed).standard_normal((frames, 80)).astype(np.float32)
    return noise
