"""Training the whisper detector on crops whose features are made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgespeech.errors import bad
from edgespeech.whispers.network import Pooling, WhisperNet

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Crops:
    """What is trained on.

    Attributes:
        features: log-mel, with shape `(N, T, 80)`.
        speech: which frames are speech, with shape `(N, T)`; the others have no loss.
        by_hand: features for the controls (`edgespeech.whispers.rules`), with shape `(N, 6)`.
        labels: 1 for whispers, with shape `(N,)`.
    """

    features: NDArray[np.float32]
    speech: NDArray[np.bool_]
    by_hand: Floats
    labels: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, and how fast: updates, crops of each, and the highest learning rate, which falls to nothing."""

    steps: int = 800
    batch: int = 32
    rate: float = 0.003

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rate"):
            if not 0 < (value := getattr(self, name)) < 1e6:
                raise bad("whispers: training", name, value, "above 0")


def train(crops: Crops, schedule: Schedule, seed: int) -> WhisperNet:
    """Train a network; the same seed gives the same one.

    Args:
        crops: voiced and whispered.
        schedule: of the training.
        seed: of the initial weights and the order of the crops.

    Raises:
        EdgeSpeechError: one of the classes is missing.
    """
    if not 0 < crops.labels.mean() < 1:
        raise bad("whispers: training", "labels", sorted(set(crops.labels.tolist())), "both 0 and 1")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = WhisperNet()
    flat = torch.from_numpy(crops.features[crops.speech])
    network.set_statistics(flat.mean(0), flat.std(0))
    optimiser = torch.optim.AdamW(network.parameters(), schedule.rate, weight_decay=0.01)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimiser, schedule.rate, total_steps=schedule.steps)
    for _ in range(schedule.steps):
        chosen = rng.choice(len(crops.labels), min(schedule.batch, len(crops.labels)), replace=False)
        log_odds, _ = network(torch.from_numpy(crops.features[chosen]))
        speech = torch.from_numpy(crops.speech[chosen])
        wanted = torch.from_numpy(crops.labels[chosen])[:, None].expand_as(log_odds)
        loss = nn.functional.binary_cross_entropy_with_logits(log_odds[speech], wanted[speech])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        falling.step()
    return network.eval()


def chosen_pooling(
    log_odds: Sequence[torch.Tensor], labels: NDArray[np.bool_], lasts: Sequence[int | None]
) -> Pooling:
    """The frames and the threshold that decide most tuning utterances rightly.

    Args:
        log_odds: of each utterance's frames.
        labels: which utterances are whispered.
        lasts: candidates for `Pooling.last`.
    """
    found: list[tuple[float, Pooling]] = []
    for last in lasts:
        scores = np.array([Pooling(last).score(one) for one in log_odds])
        threshold = best_threshold(scores, labels)
        found.append((float(((scores >= threshold) == labels).mean()), Pooling(last, threshold)))
    return max(found, key=lambda item: item[0])[1]


def best_threshold(scores: Floats, labels: NDArray[np.bool_]) -> float:
    """The threshold from which on scores count as the event, with most utterances right; in the middle of its gap.

    Args:
        scores: with shape `(N,)`.
        labels: which utterances are the event.
    """
    order = np.argsort(scores)
    own, wanted = scores[order], labels[order]
    # With the first k below the threshold: the others of them are right, and the events from there on.
    right = (
        np.concatenate([[0], np.cumsum(~wanted)]) + wanted.sum() - np.concatenate([[0], np.cumsum(wanted)])
    )
    ends = np.concatenate([[own[0] - 1], own, [own[-1] + 1]])
    middles = (ends[:-1] + ends[1:]) / 2
    distinct = np.concatenate([[True], own[1:] > own[:-1], [True]])
    return float(middles[np.where(distinct, right, -1).argmax()])
