"""Fits the network of `edgespeech.synthesis.envelope` to speech of Kokoro's own vocoder.

    python -m edgespeech.synthesis.fit_envelope data_manifests/assistant/train_5.yaml --utterances 700

takes the first utterances of a recipe whose speech is in the work folder and writes
`data_manifests/voices/envelope.safetensors`. The hash that it prints goes into `envelope.SHA256`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from edgespeech.audio.io import read_audio
from edgespeech.core.files import sha256_file
from edgespeech.corpora.weights import resolve_weights
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.synthesis import envelope
from edgespeech.synthesis.kokoro import RATE, Kokoro, session
from edgespeech.synthesis.recipe import load_recipe
from edgespeech.synthesis.synthesis import cached, planned
from edgespeech.synthesis.vocoder import cut

_STEPS, _BATCH, _FRAMES = 1500, 20, 64
_RATE = 2e-3
_KEPT = 40
"""The number of utterances at the end on which the error is measured."""


@dataclass(frozen=True, slots=True)
class Example:
    """Features `(512, T)`, style `(128,)` and log energies of the bands `(BANDS, T)` of an utterance."""

    features: Tensor
    style: Tensor
    bands: Tensor


def filters() -> NDArray[np.float32]:
    """The mean over a triangle of each band, with shape `(BANDS, bins)`."""
    centres, bins = envelope.centres(), envelope.mel(envelope.frequencies())
    width = centres[1] - centres[0]
    rising = (bins[None] - centres[:-2, None]) / width
    falling = (centres[2:, None] - bins[None]) / width
    weights = np.maximum(0, np.minimum(rising, falling))
    for band in np.flatnonzero(weights.sum(1) == 0):  # narrower than the distance of two bins
        weights[band, np.argmin(np.abs(bins - centres[band + 1]))] = 1
    return np.asarray(weights / weights.sum(1, keepdims=True), dtype=np.float32)


def energies(samples: NDArray[np.float32], frames: int) -> Tensor:
    """Log energies of the bands, with shape `(BANDS, frames)`."""
    window = torch.hann_window(envelope.WINDOW)
    spectrum = torch.stft(
        torch.from_numpy(samples), envelope.FFT, envelope.HOP, envelope.WINDOW, window, return_complex=True
    )
    power = torch.from_numpy(filters()) @ spectrum.abs().square()
    return torch.log(power + 1e-9)[:, :frames]


def examples(recipe: Path) -> Iterator[Example]:
    """The utterances of a recipe that have been synthesised, in the plan's order."""
    described = load_recipe(recipe)
    talker = Kokoro(None, described.vocoder)
    front = session(cut(onnx.load(resolve_weights("kokoro", None).folder / "model.onnx"), envelope.INPUTS))
    for what in planned(described):
        file = cached(talker, what)
        if file.is_file():
            inputs = talker.inputs(what.sentence.text, what.speaker, what.speed)
            features, style, _ = front.run(None, inputs)
            bands = energies(read_audio(file, sample_rate=RATE), features.shape[2])
            yield Example(torch.from_numpy(features[0]), torch.from_numpy(style[0]), bands)


def fit(data: Sequence[Example]) -> tuple[envelope.Network, float]:
    """A network, and its mean absolute error in dB on the last utterances.

    Raises:
        EdgeSpeechError: there are too few utterances.
    """
    if len(data) <= _KEPT:
        raise bad("fit of the envelope", "utterances", len(data), f"more than {_KEPT} synthesised ones")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    features = torch.cat([one.features for one in data], 1)[:, ::7]
    network = envelope.Network(features.shape[0], len(data[0].style))
    network.get_buffer("mean").copy_(features.mean(1))
    network.get_buffer("scale").copy_(features.std(1) + 1e-3)
    network.get_buffer("level").copy_(torch.cat([one.bands for one in data], 1).mean(1))
    optimiser = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=_STEPS)
    for _ in range(_STEPS):
        x, y, styles = [], [], []
        for number in rng.choice(len(data) - _KEPT, _BATCH):
            one = data[number]
            if (spare := one.features.shape[1] - _FRAMES) >= 0:
                at = int(rng.integers(spare + 1))
                x.append(one.features[:, at : at + _FRAMES])
                y.append(one.bands[:, at : at + _FRAMES])
                styles.append(one.style)
        loss = (network(torch.stack(x), torch.stack(styles)) - torch.stack(y)).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        errors = [
            (network(one.features[None], one.style[None])[0] - one.bands).abs().mean()
            for one in data[-_KEPT:]
        ]
    return network.eval(), float(torch.stack(errors).mean()) * 10 / float(np.log(10))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m edgespeech.synthesis.fit_envelope", description="fit it")
    parser.add_argument("recipe", type=Path, help="its speech, as far as it has been made, is learned from")
    parser.add_argument("--utterances", type=int, default=700, help="how many of them")
    options = parser.parse_args(arguments)
    try:
        data = [one for one, _ in zip(examples(options.recipe), range(options.utterances), strict=False)]
        network, error_db = fit(data)
    except EdgeSpeechError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    state = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, envelope.weights_file())
    print(
        f"{len(data)} utterances, {error_db:.2f} dB on {_KEPT} of them, sha256 {sha256_file(envelope.weights_file())}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
