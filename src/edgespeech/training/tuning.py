"""Decoding of tuning speech, clean and in rooms with household noise."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from edgespeech.audio.augment import Augmenter
from edgespeech.audio.augment_config import AugmentConfig
from edgespeech.audio.features import Features, log_mel_at_once
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.places import work_dir
from edgespeech.corpora.manifest import Utterance, load_manifest
from edgespeech.model.checkpoint import Trained
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel
from edgespeech.search.beam import BeamDecoder, LabelScores
from edgespeech.search.partials import TAIL_S
from edgespeech.synthesis.step import CORPORA
from edgespeech.training.speech import load_noises

_SEED = 77
_NOISES = "noise_household"
_ROOMS: Mapping[str, Any] = {
    "speed_prob": 0.0,
    "pitch_prob": 0.0,
    "silence_before_s": (0.2, 0.8),
    "silence_after_s": (0.2, 0.6),
    "noise_prob": 1.0,
}
"""Augmentation of speech in a room with noise; other values as in `AugmentConfig`."""


def hear(
    name: str, utterances: int, snr_db: Sequence[tuple[float, float]]
) -> tuple[list[Utterance], list[list[Features]]]:
    """Utterances of a synthetic corpus for tuning, clean and in rooms with household noise.

    Args:
        name: of the corpus, such as `assistant_dev`.
        utterances: maximum number.
        snr_db: ranges of signal-to-noise ratios.

    Returns:
        The utterances, and for each condition (clean, then each ratio) the features of all of them, including trailing
        silence, each with shape `(F, 80)`.

    Raises:
        EdgeSpeechError: the corpus or the noises are not available.
    """
    manifest = load_manifest(work_dir() / CORPORA / f"{name}.jsonl")
    every = list(manifest.utterances)
    items = random.Random(_SEED).sample(every, min(utterances, len(every)))
    clean = [manifest.read(item) for item in items]
    conditions = [[_features_of(samples) for samples in clean]]
    noises = load_noises(_NOISES)
    for ratio in snr_db:
        config = AugmentConfig.from_mapping({**_ROOMS, "noise_snr_db": ratio})
        augmenter = Augmenter(config, noises, _SEED)
        noisy = (augmenter(samples, key=item.id) for samples, item in zip(clean, items, strict=True))
        conditions.append([_features_of(samples) for samples in noisy])
    return items, conditions


def _features_of(samples: Samples) -> Features:
    return log_mel_at_once(np.pad(samples, (0, round(TAIL_S * SAMPLE_RATE))))


def led(trained: Trained, spoken: Sequence[Features], beam: int, scores: LabelScores) -> list[str]:
    """Transcripts by torch, with other scores than those of the model's own language model."""
    texts = []
    for features in spoken:
        with torch.inference_mode():
            encoded, _, _ = trained.model.transcribe(
                torch.from_numpy(features[None]), torch.tensor([len(features)])
            )
        decoder = BeamDecoder(trained.model, beam, fusion=scores)
        decoder.accept(encoded[0])
        texts.append(trained.tokeniser.decode(decoder.best.labels))
    return texts


def said(trained: Trained, spoken: Sequence[Features], beam: int) -> list[str]:
    """Transcripts by the native engine in single precision, which equal torch's and are faster."""
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
