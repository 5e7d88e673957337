"""Tuning speech as a model is tried on it: in rooms with household noise, and what the model says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgespeech.audio.augment import AugmentConfig, Augmenter
from edgespeech.audio.features import Features, log_mel_at_once
from edgespeech.compression.pack import Encoding, Layout, pack
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.decoding.partials import TAIL_S
from edgespeech.engine.runtime import PackedModel
from edgespeech.model.checkpoint import Trained
from edgespeech.training.speech import load_noises

SEED = 77
_NOISES = "noise_household"
_ROOMS: Mapping[str, Any] = {
    "speed_prob": 0.0,
    "pitch_prob": 0.0,
    "silence_before_s": (0.2, 0.8),
    "silence_after_s": (0.2, 0.6),
    "noise_prob": 1.0,
}
"""What is done to speech in a room with noise; the rest as in `AugmentConfig`."""


def in_noise(snr_db: tuple[float, float]) -> Augmenter:
    """What puts utterances into rooms with household noise.

    Args:
        snr_db: the ratio of speech to noise, from and to.

    Raises:
        EdgeSpeechError: the noises cannot be had.
    """
    config = AugmentConfig.from_mapping({**_ROOMS, "noise_snr_db": snr_db})
    return Augmenter(config, load_noises(_NOISES), SEED)


def features_of(samples: Samples) -> Features:
    """Of an utterance and the silence after it, with shape `(F, 80)`."""
    return log_mel_at_once(np.pad(samples, (0, round(TAIL_S * SAMPLE_RATE))))


def said(trained: Trained, spoken: Sequence[Features], beam: int) -> list[str]:
    """What the native engine makes of utterances, in single precision: it says what torch says, and sooner."""
    texts = []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.edge"
        pack(trained, Layout(matrices=Encoding(bits=32)), file)
        with PackedModel(file) as model:
            for features in spoken:
                stream = model.open(beam)
                stream.accept(features)
                texts.append(trained.tokeniser.decode(stream.best.labels))
                stream.close()
    return texts
