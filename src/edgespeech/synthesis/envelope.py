"""A pulse-and-noise vocoder for Kokoro-82M, with an eighth of the work of its own vocoder, for training speech.

The model's features before its vocoder determine the spectrum, and its pitch curve the pulses. A small network
estimates the energies of mel bands from the features and the style, and pulses and noise are filtered to match them,
frame by frame. The fine structure of a real voice is lost, but mel features of 25 ms show little of it.

Source: of pulses and noise mixed by band, M. Morise et al., "WORLD: a vocoder-based high-quality speech synthesis
system" (2016). The network is fitted to the model's own speech (`edgespeech.synthesis.fit_envelope`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from edgespeech.contracts import Samples
from edgespeech.core.files import sha256_file
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.synthesis.vocoder import INPUTS as VOCODER_INPUTS

INPUTS = (*VOCODER_INPUTS[:2], "/decoder/decoder/Unsqueeze_output_0")
"""As the graph names them: features with shape `(1, 512, T)`, the acoustic half of the style with shape `(1, 128)`, and
the pitch in Hz with shape `(1, 1, T)`, 0 where there is no voice."""
RATE, HOP = 24_000, 300
"""Samples a second, and of a frame of the features."""
BANDS = 96
FFT, WINDOW = 1024, 600
SHA256 = "738eab6175ce4e9d64baaed9147365f78f24c58d28e5d13a08a9431c2d1c46b1"
"""Hash of the network's weights; part of the cache key of its speech."""
VERSION = f"envelope-1 {SHA256}"
_STEP = 150
_PEAK = 0.95
_VOICED_HZ = 10.0
_NOISE = ((0, 0.01), (1500, 0.03), (4000, 0.25), (7000, 0.7), (12000, 0.9))
"""Hz, and the share of noise in the power of voiced sounds there."""


def weights_file() -> Path:
    """The file of the network's weights."""
    return project_root() / "data_manifests" / "voices" / "envelope.safetensors"


def mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequency on the mel scale."""
    return 1127 * np.log1p(hz / 700)


def frequencies() -> NDArray[np.float64]:
    """Of the bins of a spectrum, in Hz."""
    return np.linspace(0, RATE / 2, FFT // 2 + 1)


def centres() -> NDArray[np.float64]:
    """Of the bands, on the mel scale, with one more at either end."""
    low, high = mel(np.array([0.0, RATE / 2]))
    return np.linspace(low, high, BANDS + 2)


class Network(nn.Module):
    """Log energies of bands, from features `(B, 512, T)` and styles `(B, 128)`; with shape `(B, BANDS, T)`."""

    def __init__(self, features: int = 512, style: int = 128, hidden: int = 256) -> None:
        super().__init__()
        self.first = nn.Conv1d(features, hidden, 3, padding=1)
        self.first_style = nn.Linear(style, hidden)
        self.second = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.second_style = nn.Linear(style, hidden)
        self.last = nn.Conv1d(hidden, BANDS, 1)
        self.skip = nn.Conv1d(features, BANDS, 1)
        for name, size, value in (("mean", features, 0.0), ("scale", features, 1.0), ("level", BANDS, 0.0)):
            self.register_buffer(name, torch.full((size,), value))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Of one or more utterances of the same length."""
        mean, scale, level = (self.get_buffer(name)[:, None] for name in ("mean", "scale", "level"))
        x = (x - mean) / scale
        y = functional.silu(self.first(x) + self.first_style(style)[:, :, None])
        y = functional.silu(self.second(y) + self.second_style(style)[:, :, None])
        out: Tensor = self.last(y) + self.skip(x) + level
        return out


def load_network() -> Network:
    """The fitted network.

    Raises:
        EdgeSpeechError: its weights are missing or have another hash.
    """
    path = weights_file()
    if (found := sha256_file(path)) != SHA256:
        raise EdgeSpeechError(f"{path}: sha256 is {found}, expected {SHA256}")
    network = Network()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return network.eval()


class EnvelopeVocoder:
    """Speech of the graph's tensors `INPUTS`.

    Args:
        network: estimates the bands.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        place = np.clip(np.interp(mel(frequencies()), centres()[1:-1], np.arange(BANDS)), 0, BANDS - 1)
        self._low = torch.from_numpy(np.floor(place).astype(np.int64))
        self._high = torch.clamp(self._low + 1, max=BANDS - 1)
        self._share = torch.from_numpy((place - np.floor(place)).astype(np.float32))
        hz, share = np.array(_NOISE).T
        noise = np.interp(frequencies(), hz, share).astype(np.float32)
        self._noise = torch.from_numpy(noise)[:, None]
        self._window = torch.hann_window(WINDOW)

    @torch.inference_mode()
    def __call__(self, features: Samples, style: Samples, pitch: Samples, seed: int) -> Samples:
        """Samples at 24 kHz, with shape `(300 T,)`; the noise is drawn from the seed."""
        bands = self._network(torch.from_numpy(features), torch.from_numpy(style))[0].t()
        return self.filtered(bands, pitch.ravel(), seed)

    def filtered(self, bands: Tensor, pitch: Samples, seed: int) -> Samples:
        """Pulses and noise with the log energies `bands`, with shape `(T, BANDS)`; turned down where it would clip."""
        frames, voiced = len(pitch), pitch > _VOICED_HZ
        pulses, noise = (
            torch.stft(torch.from_numpy(x), FFT, _STEP, WINDOW, self._window, return_complex=True)
            for x in _excitation(pitch, voiced, seed)
        )
        smooth = functional.pad(bands[:, None], (1, 1), mode="replicate")
        bands = functional.conv1d(smooth, torch.tensor([[[0.25, 0.5, 0.25]]]))[:, 0]
        place = torch.arange(pulses.shape[1]) * (_STEP / HOP)
        before = place.floor().long().clamp(max=frames - 1)
        after, share = (before + 1).clamp(max=frames - 1), (place - place.floor())[:, None]
        bands = bands[before] * (1 - share) + bands[after] * share
        power = bands[:, self._low] * (1 - self._share) + bands[:, self._high] * self._share
        gain = torch.exp(power.t() / 2) / float(torch.sum(self._window**2)) ** 0.5
        sounds = torch.from_numpy(voiced.astype(np.float32))[before]
        mixed = self._noise * sounds + (1 - sounds)
        spectrum = gain * (torch.sqrt(1 - mixed) * pulses + torch.sqrt(mixed) * noise)
        signal = torch.istft(spectrum, FFT, _STEP, WINDOW, self._window, length=frames * HOP)
        samples: Samples = (signal * min(1.0, _PEAK / max(float(signal.abs().max()), 1e-9))).numpy()
        return samples


def _excitation(pitch: Samples, voiced: NDArray[np.bool_], seed: int) -> tuple[Samples, Samples]:
    """A pulse a period where there is voice, and noise everywhere, both with a power of 1 and `(300 T,)` samples."""
    frames = np.arange(len(pitch))
    hz = np.interp(frames, frames[voiced], pitch[voiced]) if voiced.any() else np.full(len(pitch), 100.0)
    hz = np.interp(np.arange(HOP * len(pitch)) / HOP - 0.5, frames, hz)
    turns = np.floor(np.cumsum(hz / RATE))
    starts = np.diff(turns, prepend=0) > 0
    pulses = np.where(starts & np.repeat(voiced, HOP), np.sqrt(RATE / hz), 0).astype(np.float32)
    return pulses, np.random.default_rng(seed).standard_normal(len(pulses)).astype(np.float32)
