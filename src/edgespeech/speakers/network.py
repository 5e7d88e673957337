"""A small network that turns an utterance into a vector: alike for utterances of one speaker, unlike for others.

Sources: D. Snyder et al., "X-vectors: robust DNN embeddings for speaker recognition" (ICASSP 2018), whose layers over
time and pooling by mean and deviation it has, with a fiftieth of the weights; F. Wang et al., "Additive margin softmax
for face verification" (arXiv:1801.05599), for its loss (`edgespeech.speakers.training`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edgespeech.audio.features import N_MELS, log_mel_at_once
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.bands import BandNetwork
from edgespeech.packed.codes import quantise

CHANNELS, POOLED, DIMENSIONS = 128, 384, 128
"""Of the layers over time, of what is pooled, and of the embedding."""
SHORTEST_S = 0.1
"""Shortest utterance that has an embedding; what a good one needs is for `edgespeech.speakers.enrolment` to ask."""
_STRIDE = 2
_SPEECH_NATS = 30.0 * math.log(10) / 10
"""Frames at most 30 dB below the loudest count as speech."""
_LOWEST = -8.0
"""Nats below the mean level of the speech (35 dB) at which features end: how silent a pause is tells of the room."""
_CODE, _SCALE = ".int8", ".scale"

Vector = NDArray[np.float32]


def prepared(features: Tensor) -> tuple[Tensor, Tensor]:
    """Log-mel features without their level, and which frames are speech.

    Args:
        features: with shape `(B, T, 80)`, T >= 1.

    Returns:
        Features whose mean over the speech of an utterance and over all bands is 0, and none of which is far below it,
        with shape `(B, T, 80)`; and 1 for speech, 0 for the rest, with shape `(B, T, 1)`.
    """
    levels = features.logsumexp(-1, keepdim=True)
    speech = (levels >= levels.amax(1, keepdim=True) - _SPEECH_NATS).to(features.dtype)
    level = (features.mean(-1, keepdim=True) * speech).sum(1, keepdim=True) / speech.sum(1, keepdim=True)
    return (features - level).clamp(min=_LOWEST), speech


def pooled(values: Tensor, speech: Tensor) -> Tensor:
    """Mean and standard deviation over the speech.

    Args:
        values: with shape `(B, T, C)`.
        speech: with shape `(B, T, 1)`, 1 or 0.

    Returns:
        With shape `(B, 2 C)`.
    """
    count = speech.sum(1)
    mean = (values * speech).sum(1) / count
    spread = ((values - mean[:, None]) ** 2 * speech).sum(1) / count
    return torch.cat([mean, (spread + 1e-5).sqrt()], -1)


class _Layer(nn.Module):
    """A dilated convolution over time with a residual connection."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(CHANNELS, CHANNELS, 3, padding=dilation, dilation=dilation)
        self.norm = nn.BatchNorm1d(CHANNELS)

    def forward(self, values: Tensor) -> Tensor:
        """Shape `(B, C, T)` in and out."""
        found: Tensor = values + self.norm(self.convolution(values).relu())
        return found


class SpeakerNet(BandNetwork):
    """Log-mel frames to an embedding; the statistics of its bands are those of `prepared` features."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(N_MELS, CHANNELS, 5, stride=_STRIDE, padding=2)
        self.norm = nn.BatchNorm1d(CHANNELS)
        self.layers = nn.Sequential(*(_Layer(dilation) for dilation in (1, 2, 3)))
        self.widen = nn.Conv1d(CHANNELS, POOLED, 1)
        self.pooled_norm = nn.BatchNorm1d(2 * (POOLED + N_MELS))
        self.out = nn.Linear(2 * (POOLED + N_MELS), DIMENSIONS)

    def forward(self, features: Tensor) -> Tensor:
        """The embeddings of utterances of one length.

        Args:
            features: log-mel with shape `(B, T, 80)`, T >= 1.

        Returns:
            With shape `(B, 128)`, of any length.
        """
        level, speech = prepared(features)
        frames = (level - self.mean) * self.scale
        values = self.layers(self.norm(self.enter(frames.transpose(1, 2)).relu()))
        wide = self.widen(values).relu().transpose(1, 2)
        # The long-term spectrum, which tells much by itself, goes past the layers.
        both = torch.cat([pooled(wide, speech[:, ::_STRIDE]), pooled(frames, speech)], -1)
        found: Tensor = self.out(self.pooled_norm(both))
        return found

    @property
    def parameters_count(self) -> int:
        """How many numbers it has, those of its normalisation included."""
        return sum(value.numel() for value in self.state_dict().values() if value.is_floating_point())

    @torch.inference_mode()
    def embed(self, samples: Samples) -> Vector:
        """The embedding of an utterance, in evaluation mode.

        Args:
            samples: at 16 kHz, with shape `(N,)`.

        Returns:
            With shape `(128,)` and length 1.

        Raises:
            EdgeSpeechError: shorter than `SHORTEST_S`, or not one channel.
        """
        check_length(samples)
        return unit(self(torch.from_numpy(log_mel_at_once(samples))[None])[0].numpy())


def check_length(samples: Samples) -> None:
    """Refuse samples that have no embedding.

    Raises:
        EdgeSpeechError: shorter than `SHORTEST_S`, or not one channel.
    """
    if samples.ndim != 1 or len(samples) < SHORTEST_S * SAMPLE_RATE:
        raise bad("speakers", "samples", samples.shape, f"one channel of at least {SHORTEST_S} s")


def unit(vector: NDArray[np.floating]) -> Vector:
    """A vector, or each row of a matrix, at length 1."""
    found: Vector = (vector / np.linalg.norm(vector, axis=-1, keepdims=True)).astype(np.float32)
    return found


def voice_of(embeddings: NDArray[np.floating]) -> Vector:
    """The voice that utterances of one speaker enrol: the direction of their mean.

    Args:
        embeddings: of length 1, with shape `(N, D)`.

    Returns:
        With shape `(D,)` and length 1; its product with an embedding is their cosine.
    """
    return unit(embeddings.mean(0))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Cosines from which on two voices count as one, chosen on tuning speakers.

    Attributes:
        voice: of an utterance with an enrolled voice.
        pair: of two utterances with each other, which vary more.
    """

    voice: float
    pair: float


class Saved(NamedTuple):
    """What a file holds.

    Attributes:
        network: in evaluation mode.
        thresholds: chosen for it.
        given_sha256: hash of all that decided both.
    """

    network: SpeakerNet
    thresholds: Thresholds
    given_sha256: str


def rounded(network: SpeakerNet) -> SpeakerNet:
    """The network with every matrix rounded to 8 bits, as a packed file has it."""
    made = SpeakerNet()
    made.load_state_dict(_unpacked(_packed(network)))
    return made.eval()


def _packed(network: SpeakerNet) -> dict[str, Tensor]:
    """Matrices in 8 bits with a scale for each row; the rest, such as biases, in half precision."""
    found = {}
    for name, tensor in _weights(network).items():
        if tensor.ndim < 2:
            found[name] = tensor.half()
            continue
        codes = quantise(tensor.flatten(1).float().numpy(), bits=8)
        found[name + _CODE] = torch.from_numpy(codes.int8().reshape(tensor.shape))
        found[name + _SCALE] = torch.from_numpy(codes.scales[:, 0])
    return found


def _weights(network: SpeakerNet) -> dict[str, Tensor]:
    """The state without the counters of batches, which only training needs."""
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


def _unpacked(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in stored.items():
        if name.endswith(_SCALE):
            continue
        if name.endswith(_CODE):
            scale = stored[name.removesuffix(_CODE) + _SCALE]
            shape = (-1, *[1] * (tensor.ndim - 1))
            found[name.removesuffix(_CODE)] = tensor.float() * scale.reshape(shape)
        else:
            found[name] = tensor.float()
    counters = SpeakerNet().state_dict()
    return found | {name: value for name, value in counters.items() if not value.is_floating_point()}


def save_network(path: Path, saved: Saved, *, packed: bool = False) -> None:
    """Write a network, with matrices in 8 bits if `packed`, else all in half precision."""
    network = saved.network
    stored = _packed(network) if packed else {name: v.half() for name, v in _weights(network).items()}
    about = {
        "voice": repr(saved.thresholds.voice),
        "pair": repr(saved.thresholds.pair),
        "given_sha256": saved.given_sha256,
    }
    write_atomic(path, save({name: tensor.contiguous() for name, tensor in stored.items()}, about))


def load_network(path: Path) -> Saved:
    """Read what `save_network` wrote.

    Raises:
        EdgeSpeechError: no such file, or no such network.
    """
    network = SpeakerNet()
    try:
        with safe_open(path, "pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            about = file.metadata() or {}
        weights = _unpacked(stored)
        network.load_state_dict(weights)
        thresholds = Thresholds(float(about["voice"]), float(about["pair"]))
        given = about["given_sha256"]
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise EdgeSpeechError(f"{path}: no speaker network: {str(error).splitlines()[0]}") from error
    numbers = [*weights.values(), torch.tensor([thresholds.voice, thresholds.pair])]
    if not all(torch.isfinite(tensor).all() for tensor in numbers):
        raise bad(str(path), "weights", "not finite", "finite numbers")
    return Saved(network.eval(), thresholds, given)
