"""Tiny models to pack: random, but with something to say."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from edgespeech.audio.features import Features
from edgespeech.core.labels import BLANK
from edgespeech.model.checkpoint import Trained
from edgespeech.model.config import ModelConfig, PredictorKind
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.packed.pack import Encoding
from edgespeech.packed.runtime import PackedModel
from edgespeech.search.hypothesis import Hypothesis

VOCABULARY = 40
ENCODINGS = {
    "fp32": Encoding(bits=32),
    "fp16": Encoding(bits=16),
    "int8": Encoding(bits=8),
    "4 bits with zeros": Encoding(bits=4, group=64, store="sparse"),
    "codebook": Encoding(bits=3, codebook=True),
}

Make = Callable[[str, PredictorKind], Path]
"""Gives the file of a tiny model by its encoding and predictor."""


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


def decoded(model: PackedModel, x: Features, beam: int = 1, ends: tuple[int, ...] = ()) -> list[Hypothesis]:
    """The hypotheses for features that arrive in pieces with these ends."""
    stream = model.open(beam)
    for piece in np.split(x, ends):
        stream.accept(piece)
    found = stream.n_best
    assert stream.best == found[0]
    stream.close()
    return found
