"""Resemblyzer 0.1.4 as a peer: its network and its way with an utterance, from the weights in its package's archive.

Source: resemble-ai/Resemblyzer (Apache-2.0), after L. Wan et al., "Generalized end-to-end loss for speaker
verification" (ICASSP 2018). Silence is found by Silero VAD in place of WebRTC's; all else follows the package: level,
40 mel bands without logarithm, stretches of 1.6 s that are averaged.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgespeech.audio.vad import WINDOW, SileroDetector
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.extras import missing
from edgespeech.corpora.weights import resolve_weights, weights_available
from edgespeech.errors import EdgeSpeechError
from edgespeech.speakers.network import Vector, check_length, unit

NAME = "resemblyzer"
_FILE = "pretrained.pt"
_MELS, _HIDDEN, _LAYERS = 40, 256, 3
_FFT, _HOP = 400, 160
_STRETCH = 160
"""Frames of a stretch: 1.6 s."""
_STRETCHES_PER_S = 1.3
_COVERED = 0.75
"""Share of the last stretch that must be audio."""
_LEVEL_DB = -30.0
_SPEECH = 0.5
_KEPT_WINDOWS = 3
"""Windows of 32 ms that stay on both sides of speech."""


def why_missing() -> str | None:
    """Why it cannot run here; None when it may."""
    return missing("faster_whisper") or weights_available(NAME)


class Resemblyzer(nn.Module):
    """The network: three LSTM layers over mel bands, of whose last state a linear layer makes the embedding."""

    mels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_MELS, _HIDDEN, _LAYERS, batch_first=True)
        self.linear = nn.Linear(_HIDDEN, _HIDDEN)

    @classmethod
    def loaded(cls, folder: Path | None = None) -> Resemblyzer:
        """The network with its weights.

        Args:
            folder: with the package's `pretrained.pt`; None takes it from its archive.

        Raises:
            EdgeSpeechError: the weights are missing or are others.
        """
        path = resolve_weights(NAME, folder).folder / _FILE
        made = cls()
        try:
            stored = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
            state = stored["model_state"]
            made.load_state_dict({name: value for name, value in state.items() if "similarity" not in name})
        except (OSError, RuntimeError, KeyError, TypeError, UnpicklingError) as error:
            raise EdgeSpeechError(f"{path}: no weights of {NAME}: {str(error).splitlines()[0]}") from error
        return made.eval()

    def forward(self, mels: Tensor) -> Tensor:
        """Embeddings of length 1 with shape `(B, 256)`, of mel energies with shape `(B, 160, 40)`."""
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(self.linear(hidden[-1]).relu())

    @torch.inference_mode()
    def embed(self, samples: Samples) -> Vector:
        """The embedding of an utterance at 16 kHz, with shape `(256,)` and length 1.

        Raises:
            EdgeSpeechError: as `edgespeech.speakers.network.check_length`.
        """
        check_length(samples)
        speech = without_silence(_louder(samples))
        starts = stretches(len(speech))
        wanted = (starts[-1] + _STRETCH) * _HOP
        mels = _mel_energies(np.pad(speech, (0, max(0, wanted - len(speech)))))
        batch = torch.stack([mels[start : start + _STRETCH] for start in starts])
        return unit(self(batch).mean(0).numpy())


def stretches(count: int) -> list[int]:
    """The first frames of the stretches of 1.6 s that cover `count` samples."""
    frames = math.ceil((count + 1) / _HOP)
    step = round(SAMPLE_RATE / _STRETCHES_PER_S / _HOP)
    starts = list(range(0, max(1, frames - _STRETCH + step + 1), step))
    covered = (count - starts[-1] * _HOP) / (_STRETCH * _HOP)
    return starts[:-1] if covered < _COVERED and len(starts) > 1 else starts


def without_silence(samples: Samples) -> Samples:
    """The speech of an utterance with a little around it; all of it where none is found."""
    detector = SileroDetector()
    whole = len(samples) // WINDOW
    blocks = samples[: whole * WINDOW].reshape(-1, WINDOW)
    is_speech = np.array([0.0, *(detector(block) >= _SPEECH for block in blocks)])
    kept = np.convolve(is_speech, np.ones(2 * _KEPT_WINDOWS + 1))[_KEPT_WINDOWS + 1 :][:whole] > 0.5
    found: Samples = samples[: whole * WINDOW][np.repeat(kept, WINDOW)]
    return found if len(found) else samples


def _louder(samples: Samples) -> Samples:
    """Raised to -30 dB of full scale where it is softer."""
    level = math.sqrt(float(np.dot(samples, samples)) / len(samples))
    gain = max(1.0, 10 ** (_LEVEL_DB / 20) / level) if level > 0 else 1.0
    found: Samples = (samples * np.float32(gain)).astype(np.float32)
    return found


def _mel_energies(samples: Samples) -> Tensor:
    """Mel energies with shape `(T, 40)`, as librosa's `melspectrogram` has them."""
    from faster_whisper.feature_extractor import FeatureExtractor

    bands: NDArray[np.float32] = FeatureExtractor.get_mel_filters(SAMPLE_RATE, _FFT, n_mels=_MELS)
    spectrum = torch.stft(
        torch.from_numpy(samples),
        _FFT,
        _HOP,
        window=torch.hann_window(_FFT),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return (torch.from_numpy(bands).float() @ spectrum.abs().square()).T
