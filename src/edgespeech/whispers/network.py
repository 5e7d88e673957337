"""A small network that says of each frame how likely it is whispered, and its streaming use.

Source: Z. Raeesy et al., "LSTM-based whisper detection" (SLT 2018, arXiv:1809.07832): two LSTM layers of 64 over
log-mel features, a decision for the utterance from its frames. Here the features are those of the recogniser, which are
computed anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edgespeech.audio.features import N_MELS, Features, StreamingLogMel
from edgespeech.contracts import Samples
from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.bands import BandNetwork
from edgespeech.model.perceptron import Classifier
from edgespeech.whispers.rules import FEATURES

HIDDEN, LAYERS = 64, 2
State = tuple[Tensor, Tensor]


class WhisperNet(BandNetwork):
    """Log-mel frames to the log-odds that they are whispered."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(N_MELS, HIDDEN, LAYERS, batch_first=True)
        self.out = nn.Linear(HIDDEN, 1)

    def forward(self, features: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The log-odds of frames.

        Args:
            features: with shape `(B, T, 80)`.
            state: after the frames before; None: there are none.

        Returns:
            Log-odds with shape `(B, T)`, in nats, and the state after the last frame.
        """
        heard, after = self.lstm((features - self.mean) * self.scale, state)
        return self.out(heard).squeeze(-1), after


@dataclass(frozen=True, slots=True)
class Pooling:
    """How the log-odds of frames become a decision about the utterance.

    Attributes:
        last: number of frames of 10 ms at the end whose mean counts; None: all.
        threshold: mean log-odds from which the utterance counts as whispered, in nats.
    """

    last: int | None = None
    threshold: float = 0.0

    def score(self, log_odds: Tensor) -> float:
        """The mean log-odds of an utterance's frames, `log_odds` with shape `(T,)`."""
        return float((log_odds if self.last is None else log_odds[-self.last :]).mean())


class Detector:
    """Detects whispers in a stream: samples in, the log-odds so far out.

    Args:
        network: in evaluation mode.
        pooling: of its frames.
    """

    def __init__(self, network: WhisperNet, pooling: Pooling) -> None:
        self._network, self._pooling = network, pooling
        self._features = StreamingLogMel()
        self._state: State | None = None
        self._heard = torch.zeros(0)

    def accept(self, samples: Samples) -> None:
        """Take samples at 16 kHz, with shape `(N,)`."""
        self.hear(self._features.accept(samples))

    def finish(self) -> None:
        """The audio is over."""
        self.hear(self._features.finish())

    @torch.inference_mode()
    def hear(self, features: Features) -> None:
        """Take features that the recogniser has computed already, with shape `(T, 80)`."""
        if len(features):
            found, self._state = self._network(torch.from_numpy(features)[None], self._state)
            self._heard = torch.cat([self._heard, found[0]])

    @property
    def log_odds(self) -> float | None:
        """Of the utterance so far, in nats; None before the first frame."""
        return self._pooling.score(self._heard) if len(self._heard) else None

    @property
    def is_whispered(self) -> bool:
        """Whether the utterance so far counts as whispered."""
        found = self.log_odds
        return found is not None and found >= self._pooling.threshold


class Saved(NamedTuple):
    """What a file holds.

    Attributes:
        network: in evaluation mode.
        pooling: chosen for it.
        control: the classifier on hand-made features that was fitted to the same speech.
        control_threshold: chosen for that, in nats.
        given_sha256: hash of all that decided both.
    """

    network: WhisperNet
    pooling: Pooling
    control: Classifier
    control_threshold: float
    given_sha256: str


def save_network(path: Path, saved: Saved) -> None:
    """Write a network and its control, in half precision."""
    weights = {
        f"{part}.{name}": tensor.half().contiguous()
        for part, module in (("network", saved.network), ("control", saved.control))
        for name, tensor in module.state_dict().items()
    }
    about = {
        "last": "all" if saved.pooling.last is None else str(saved.pooling.last),
        "threshold": repr(saved.pooling.threshold),
        "control_threshold": repr(saved.control_threshold),
        "given_sha256": saved.given_sha256,
    }
    write_atomic(path, save(weights, about))


def load_network(path: Path) -> Saved:
    """Read what `save_network` wrote.

    Raises:
        EdgeSpeechError: no such file, or no such network.
    """
    network, control = WhisperNet(), Classifier(len(FEATURES))
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  # it is no mapping
            about = file.metadata() or {}
        for part, module in (("network", network), ("control", control)):
            own = {
                name.removeprefix(f"{part}."): one
                for name, one in weights.items()
                if name.startswith(f"{part}.")
            }
            module.load_state_dict(own)
        pooling = Pooling(None if about["last"] == "all" else int(about["last"]), float(about["threshold"]))
        threshold, given = float(about["control_threshold"]), about["given_sha256"]
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise EdgeSpeechError(f"{path}: no whisper detector: {str(error).splitlines()[0]}") from error
    numbers = [*weights.values(), torch.tensor([pooling.threshold, threshold])]
    if not all(torch.isfinite(tensor).all() for tensor in numbers):
        raise bad(str(path), "weights", "not finite", "finite numbers")
    return Saved(network.eval(), pooling, control.eval(), threshold, given)
