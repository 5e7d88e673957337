"""Pairs of voiced and whispered utterances: the same words, level, noise and treatment, but for the voice."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgespeech.audio.features import log_mel
from edgespeech.audio.mix import mix_at_snr
from edgespeech.audio.voicing import FRAME
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest
from edgespeech.corpora.needed import recording
from edgespeech.corpora.utterances import spoken_of
from edgespeech.training.speech import load_noises, trainable, tuning_manifest
from edgespeech.whispers.making import Treatment, revoiced, whispered
from edgespeech.whispers.rules import features_of
from edgespeech.whispers.training import Crops

LEVEL_DB = -26.0
"""Of the loud frames of utterances that are measured, below full scale."""
_LOUD_DB = 20.0
_SHIFT = 160


@dataclass(frozen=True, slots=True)
class Example:
    """An utterance of one class.

    Attributes:
        id: of the recording.
        speaker: of it.
        text: what is said.
        samples: as a detector hears it.
        is_whispered: what was made of it.
    """

    id: str
    speaker: str | None
    text: str
    samples: Samples
    is_whispered: bool


def crops_of(config: Mapping[str, Any]) -> Crops:
    """The crops to train on: of each drawn utterance a voiced and a whispered one, each with noise of its own."""
    noises = _noises(config)
    seconds = config["crop_s"]
    length = round(seconds * SAMPLE_RATE)
    features, speech, by_hand, labels = [], [], [], []
    for name in config["train"]:
        manifest = _subset(trainable(name), config["per_corpus"], config["seed"])
        for one in spoken_of(manifest):
            samples = one.samples()
            if len(samples) < FRAME:
                continue
            rng = _rng(config["seed"], name, one.id)
            voiced, whisper = _pair(samples, rng, treated=rng.random() < 0.5)
            for clean, label in ((voiced, 0), (whisper, 1)):
                start = int(rng.integers(max(1, len(clean) - length + 1)))
                cut = np.pad(clean[start : start + length], (0, max(0, length - len(clean))))
                if not np.abs(cut).max() > 0:
                    continue
                heard = _levelled(cut, rng.uniform(-40, -16))
                loud = _loud(heard)
                if rng.random() < config["noise_share"]:
                    noise = noises[int(rng.integers(len(noises)))]
                    ratio = rng.uniform(*config["noise_snr_db"])
                    heard = mix_at_snr(heard, noise, ratio, rule="mean", seed=int(rng.integers(2**31)))
                found = log_mel(heard)
                features.append(found)
                speech.append(loud[: len(found)])
                by_hand.append(features_of(heard))
                labels.append(label)
    return Crops(np.stack(features), np.stack(speech), np.stack(by_hand), np.array(labels, np.float32))


def _noises(config: Mapping[str, Any]) -> list[Samples]:
    """The recordings to mix in, without their silent stretches: silence has no level."""
    made = []
    for noise in load_noises(*config["noises"]).values():
        blocks = noise[: len(noise) // _SHIFT * _SHIFT].reshape(-1, _SHIFT)
        made.append(blocks[np.abs(blocks).max(axis=1) > 0].ravel())
    return made


def tuning(config: Mapping[str, Any]) -> Iterator[Example]:
    """Both classes of the tuning speakers, half of them in noise."""
    noises = _noises(config)
    manifest = _subset(tuning_manifest(config["tuning"]), config["tuning_utterances"], config["seed"])
    for n, example in enumerate(_examples(manifest, config["seed"])):
        if n // 2 % 2:
            noise = noises[n // 2 % len(noises)]
            noisy = mix_at_snr(
                example.samples,
                noise,
                config["snr_db"],
                rule="mean",
                seed=config["seed"],
                utterance_id=example.id,
            )
            yield replace(example, samples=noisy)
        else:
            yield example


def test(
    config: Mapping[str, Any], corpus: str, noise: Samples | None, *, treated: bool
) -> Iterator[Example]:
    """Both classes of a test set's speakers, in noise or not.

    Args:
        config: of the page.
        corpus: the split.
        noise: mixed in at `snr_db`; None: none.
        treated: whether the voiced ones get the treatment of whispers too.
    """
    manifest = _subset(manifest_of(corpus), config[config["profile"]], config["seed"])
    for example in _examples(manifest, config["seed"], treated=treated):
        samples = example.samples
        if noise is not None:
            samples = mix_at_snr(
                samples, noise, config["snr_db"], rule="mean", seed=config["seed"], utterance_id=example.id
            )
        yield replace(example, samples=samples)


def kitchen(config: Mapping[str, Any]) -> Samples:
    """The noise that is for evaluation only."""
    return recording("noise", config["test_noise"])


def _examples(manifest: Manifest, seed: int, *, treated: bool = False) -> Iterator[Example]:
    for one in spoken_of(manifest):
        samples = one.samples()
        if len(samples) < FRAME:
            continue
        voiced, whisper = _pair(samples, _rng(seed, manifest.name, one.id), treated)
        for made, is_whispered in ((voiced, False), (whisper, True)):
            yield Example(one.id, one.speaker, one.text, _levelled(made, LEVEL_DB), is_whispered)


def _pair(samples: Samples, rng: np.random.Generator, treated: bool) -> tuple[Samples, Samples]:
    """The voiced utterance, treated as whispers are or as it is, and the whispered one."""
    voiced = revoiced(samples, Treatment.drawn(rng)) if treated else samples
    return voiced, whispered(samples, Treatment.drawn(rng), rng)


def _subset(manifest: Manifest, count: int | None, seed: int) -> Manifest:
    return manifest if count is None or count >= len(manifest.utterances) else manifest.subset(count, seed)


def _rng(seed: int, corpus: str, utterance: str) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(f"{corpus}/{utterance}".encode())))


def _loud(samples: Samples) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which frames of 10 ms are speech: at most 20 dB below the loudest."""
    count = len(samples) // _SHIFT
    energy = (samples[: count * _SHIFT].astype(np.float64) ** 2).reshape(count, _SHIFT).mean(1)
    found: np.ndarray[Any, np.dtype[np.bool_]] = energy >= energy.max() * 10 ** (-_LOUD_DB / 10)
    return found


def _levelled(samples: Samples, level_db: float) -> Samples:
    """The samples with their loud frames at a level, clipped at full scale."""
    loud = np.repeat(_loud(samples), _SHIFT)
    now = np.sqrt((samples[: len(loud)][loud].astype(np.float64) ** 2).mean())
    found: Samples = np.clip(samples * (10 ** (level_db / 20) / max(now, 1e-9)), -1, 1).astype(np.float32)
    return found


def speakers(examples: Sequence[Example]) -> list[str | None]:
    """The speaker of each."""
    return [one.speaker for one in examples]
