"""Tiny language models and lattices for tests."""

from __future__ import annotations

import random

import torch

from edgespeech.lattice.lattice import Arc, Final, Lattice, arranged
from edgespeech.lattice.paths import Scales
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.secondpass.config import LmShape
from edgespeech.secondpass.model import LanguageModel, TrainedLm

WORDS = ("turn", "the", "light", "lights", "on", "off", "a", "lamp")
SCALES = Scales(language=0.7, prediction=0.2, word=0.3)


def tiny_lm(seed: int = 0, width: int = 8, layers: int = 2) -> TrainedLm:
    """Random weights, large enough that histories matter."""
    tokeniser = Tokeniser.train([" ".join(WORDS), "the lights", "turn off the lamp"], 40)
    torch.manual_seed(seed)
    model = LanguageModel(LmShape(vocabulary=40, width=width, layers=layers))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return TrainedLm(model.eval().requires_grad_(False), tokeniser, {"run": "tiny"})


def random_lattice(seed: int, nodes: int = 6) -> Lattice:
    """Two different words from every node to one of the next two, so that many paths meet again."""
    rng = random.Random(seed)
    arcs = [
        Arc(
            source, min(source + n, nodes - 1), word, -rng.random() * 3, -rng.random() * 2, source, source + n
        )
        for source in range(nodes - 1)
        for n, word in zip((1, rng.choice((1, 2))), rng.sample(WORDS, 2), strict=True)
    ]
    return arranged(arcs, [Final(nodes - 1, -0.1), Final(nodes - 2, -2.0)])
