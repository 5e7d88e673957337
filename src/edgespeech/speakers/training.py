"""Training of the speaker network: crops of known speakers, each through a microphone of its own, and a margin.

Source of the loss: F. Wang et al., "Additive margin softmax for face verification" (arXiv:1801.05599), equation 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgespeech.audio.augment import spec_augment
from edgespeech.audio.augment_config import AugmentConfig
from edgespeech.audio.features import FRAME_SHIFT_S, N_MELS
from edgespeech.errors import bad
from edgespeech.speakers.network import DIMENSIONS, SpeakerNet, prepared

_MASKS = AugmentConfig(time_masks=1, time_mask_s=0.2, frequency_masks=1, frequency_mask_bands=10)
_KNOTS = 7
"""Of a microphone's gain, evenly over the mel bands, with straight lines between them."""
_NATS_PER_DB = np.log(10) / 10
_STATISTICS_FROM = 200
"""Utterances whose mean and deviation normalise the features."""

Frames = NDArray[np.float16]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Voices:
    """What is trained on.

    Attributes:
        frames: log-mel of all utterances, one after the other, with shape `(N, 80)`; may be mapped from a file.
        starts: of each utterance in `frames`, with shape `(U,)`.
        lengths: of each, in frames, with shape `(U,)`, all above 0.
        speakers: of each, a number from 0 on, with shape `(U,)`; none is left out.
    """

    frames: Frames
    starts: Numbers
    lengths: Numbers
    speakers: Numbers

    def __post_init__(self) -> None:
        if not len(self.starts) == len(self.lengths) == len(self.speakers) > 0:
            raise bad("speakers: training", "utterances", len(self.starts), "as many lengths and speakers")
        if len(set(self.speakers.tolist())) != self.count or self.count < 2:
            raise bad("speakers: training", "speakers", self.count, "at least 2, numbered without a gap")

    @property
    def count(self) -> int:
        """How many speakers there are."""
        return int(self.speakers.max()) + 1

    def utterance(self, number: int) -> Frames:
        """The features of an utterance, with shape `(T, 80)`."""
        return self.frames[self.starts[number] : self.starts[number] + self.lengths[number]]

    def crop(self, number: int, length: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """A stretch of an utterance with shape `(length, 80)`; one that is too short is repeated."""
        whole = self.utterance(number)
        start = int(rng.integers(max(1, len(whole) - length + 1)))
        return np.take(whole, np.arange(start, start + length), axis=0, mode="wrap").astype(np.float32)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How training goes.

    Attributes:
        steps: updates.
        batch: crops of each, every one of another speaker where there are enough.
        rate: the highest learning rate; it rises to it and falls to nothing.
        crop_s: shortest and longest crop; one length is drawn for each update.
        scale: factor of the cosines.
        margin: taken from the cosine with the right speaker; it grows over the first half of the updates.
        microphone_db: standard deviation of the gains of the microphone that is drawn for each crop.
    """

    steps: int = 600
    batch: int = 48
    rate: float = 0.004
    crop_s: tuple[float, float] = (0.5, 2.5)
    scale: float = 30.0
    margin: float = 0.2
    microphone_db: float = 4.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rate", "scale"):
            if not 0 < (value := getattr(self, name)) < 1e6:
                raise bad("speakers: training", name, value, "above 0")
        if self.batch < 2:
            raise bad("speakers: training", "batch", self.batch, "at least 2")
        if not 0 <= self.margin < 1:
            raise bad("speakers: training", "margin", self.margin, "at least 0, below 1")
        if not 0 <= self.microphone_db <= 30:
            raise bad("speakers: training", "microphone_db", self.microphone_db, "0 to 30")
        if len(self.crop_s) != 2 or not FRAME_SHIFT_S <= self.crop_s[0] <= self.crop_s[1] <= 60:
            raise bad("speakers: training", "crop_s", self.crop_s, "shortest and longest, 0.01 to 60 s")


class MarginLoss(nn.Module):
    """Additive-margin softmax over the training speakers.

    Args:
        speakers: how many.
        scale: see `Schedule`.
    """

    def __init__(self, speakers: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(speakers, DIMENSIONS) * 0.01)
        self._scale = scale

    def forward(self, embeddings: Tensor, speakers: Tensor, margin: float) -> Tensor:
        """The mean loss, in nats.

        Args:
            embeddings: with shape `(B, 128)`, of any length.
            speakers: with shape `(B,)`.
            margin: taken from the cosine with the right speaker.
        """
        cosines = nn.functional.normalize(embeddings) @ nn.functional.normalize(self.weight).T
        right = nn.functional.one_hot(speakers, len(self.weight))
        return nn.functional.cross_entropy(self._scale * (cosines - margin * right), speakers)


def train(voices: Voices, schedule: Schedule, seed: int) -> SpeakerNet:
    """Train a network; the same seed gives the same one.

    Args:
        voices: of the training speakers.
        schedule: of the training.
        seed: of the initial weights and of all that is drawn.

    Returns:
        In evaluation mode.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = SpeakerNet()
    network.set_statistics(*_statistics(voices))
    loss = MarginLoss(voices.count, schedule.scale)
    optimiser = torch.optim.AdamW(
        [*network.parameters(), *loss.parameters()], schedule.rate, weight_decay=0.02
    )
    falling = torch.optim.lr_scheduler.OneCycleLR(optimiser, schedule.rate, total_steps=schedule.steps)
    of_speaker = [np.flatnonzero(voices.speakers == number) for number in range(voices.count)]
    shortest, longest = (round(seconds / FRAME_SHIFT_S) for seconds in schedule.crop_s)
    for step in range(schedule.steps):
        drawn = rng.choice(voices.count, min(schedule.batch, voices.count), replace=False)
        length = int(rng.integers(shortest, longest + 1))
        crops = [voices.crop(int(rng.choice(of_speaker[one])), length, rng) for one in drawn]
        given = np.stack([spec_augment(crop + _microphone(schedule, rng), _MASKS, rng) for crop in crops])
        margin = schedule.margin * min(1.0, 2 * step / schedule.steps)
        value = loss(network(torch.from_numpy(given)), torch.from_numpy(drawn), margin)
        optimiser.zero_grad()
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        falling.step()
    return network.eval()


def _microphone(schedule: Schedule, rng: np.random.Generator) -> NDArray[np.float32]:
    """What a microphone adds to each band, in nats, with shape `(80,)`."""
    gains = rng.standard_normal(_KNOTS) * schedule.microphone_db * _NATS_PER_DB
    bands = np.interp(np.arange(N_MELS), np.linspace(0, N_MELS - 1, _KNOTS), gains)
    found: NDArray[np.float32] = bands.astype(np.float32)
    return found


def _statistics(voices: Voices) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band over the speech of some utterances."""
    spread = np.linspace(0, len(voices.starts) - 1, min(_STATISTICS_FROM, len(voices.starts)))
    speech = []
    for number in spread.round().astype(int):
        level, is_speech = prepared(torch.from_numpy(voices.utterance(number).astype(np.float32))[None])
        speech.append(level[0, is_speech[0, :, 0] > 0])
    together = torch.cat(speech)
    return together.mean(0), together.std(0)
