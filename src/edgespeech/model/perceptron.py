"""A multilayer perceptron on a few features made by hand, which says how likely an utterance is of one of two kinds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

HIDDEN = 32

Floats = NDArray[np.float64]


class Classifier(nn.Module):
    """Features to 32 to 1.

    Args:
        features: how many.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.layers = nn.Sequential(nn.Linear(features, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))

    def scores(self, features: Floats) -> Floats:
        """The log-odds of utterances, `features` with shape `(N, F)`; with shape `(N,)`."""
        with torch.inference_mode():
            found: Floats = self(torch.from_numpy(features).float()).double().numpy()
        return found

    def forward(self, features: Tensor) -> Tensor:
        """The log-odds of utterances, as `scores`."""
        found: Tensor = self.layers((features - self.mean) * self.scale)[:, 0]
        return found


def learn(features: Floats, labels: Floats, seed: int, steps: int = 1000) -> Classifier:
    """Fit a classifier.

    Args:
        features: of the training utterances, with shape `(N, F)`.
        labels: 1 for the kind that is sought, with shape `(N,)`.
        seed: of the initial weights.
        steps: over all utterances.
    """
    torch.manual_seed(seed)
    classifier = Classifier(features.shape[1])
    classifier.mean.copy_(torch.from_numpy(features.mean(0)))
    classifier.scale.copy_(torch.from_numpy(1 / np.maximum(features.std(0), 1e-9)))
    given, wanted = torch.from_numpy(features).float(), torch.from_numpy(labels).float()
    optimiser = torch.optim.AdamW(classifier.parameters(), 0.01, weight_decay=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(classifier(given), wanted)
        torch.autograd.backward(loss)
        optimiser.step()
    return classifier.eval()
