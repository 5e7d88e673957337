"""The material: features of the training speakers, the tuning speakers, and test utterances under their conditions."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespeech.audio.augment import Augmenter
from edgespeech.audio.augment_config import AugmentConfig
from edgespeech.audio.features import log_mel_at_once
from edgespeech.audio.mix import mix_at_snr
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest, Utterance
from edgespeech.corpora.needed import recording
from edgespeech.errors import EdgeSpeechError
from edgespeech.speakers.network import SHORTEST_S
from edgespeech.speakers.spectrum import Floats, spectrum_of
from edgespeech.speakers.training import Voices
from edgespeech.training.speech import load_noises, trainable, tuning_manifest

CLEAN, KITCHEN, MICROPHONE = "clean", "kitchen", "microphone"
_COMMON_VOICE = "commonvoice"
_AT_ONCE = (0.0, 0.0)
"""No silence is added around an utterance."""

Condition = Callable[[Samples, str], Samples]
"""Samples as a condition leaves them, of an utterance's samples and id."""


def corpora_of(config: Mapping[str, Any]) -> list[str]:
    """The splits to train on."""
    return [*config["train"], *(f"{_COMMON_VOICE}_{language}" for language in config["languages"])]


def chosen(config: Mapping[str, Any]) -> list[tuple[str, Manifest, Utterance]]:
    """The training utterances with their speakers, in a fixed order: of each speaker with enough, up to a number.

    Speakers of Common Voice have one name in all languages; those of other corpora are named with their corpus.
    """
    by_speaker: dict[str, list[tuple[Manifest, Utterance]]] = defaultdict(list)
    for corpus in corpora_of(config):
        manifest = trainable(corpus)
        group = _COMMON_VOICE if corpus.startswith(f"{_COMMON_VOICE}_") else corpus
        for one in manifest.utterances:
            if one.speaker is not None and one.duration >= SHORTEST_S:
                by_speaker[f"{group}/{one.speaker}"].append((manifest, one))
    found = []
    for speaker in sorted(by_speaker):
        own = sorted(by_speaker[speaker], key=lambda item: _rank(config["seed"], item[0].name, item[1].id))
        if len(own) >= config["least"]:
            found += [(speaker, *item) for item in own[: config["per_speaker"]]]
    return found


def voices_of(config: Mapping[str, Any]) -> tuple[Voices, Floats]:
    """The features to train on, and the long-term spectra for the controls.

    Each utterance is there as it was recorded, and in another room, through another microphone and in noise. Nothing
    that changes a voice (speed, pitch, vocal tract) is done to it.

    Returns:
        The features; and of each utterance in them its spectrum, with shape `(U, 160)`.

    Raises:
        EdgeSpeechError: an utterance of one of the speakers cannot be read.
    """
    augment = _augmenter(config, config["augment"], config["seed"])
    longest = round(config["longest_s"] * SAMPLE_RATE)
    numbers: dict[str, int] = {}
    parts, lengths, speakers, spectra = [], [], [], []
    for speaker, manifest, one in chosen(config):
        samples = manifest.read(one)
        start = max(0, (len(samples) - longest) // 2)
        samples = samples[start : start + longest]
        try:
            changed = augment(samples, key=f"{manifest.name}/{one.id}", silence_s=_AT_ONCE)
        except EdgeSpeechError:  # silent or too short: there is no speaker in it
            continue
        for version in (samples, changed):
            features = log_mel_at_once(version)
            parts.append(features.astype(np.float16))
            lengths.append(len(features))
            speakers.append(numbers.setdefault(speaker, len(numbers)))
            spectra.append(spectrum_of(features))
    ends = np.cumsum(lengths)
    starts = np.concatenate([[0], ends[:-1]])
    voices = Voices(
        np.concatenate(parts),
        starts.astype(np.int64),
        np.array(lengths, np.int64),
        np.array(speakers, np.int64),
    )
    return voices, np.stack(spectra)


def tuning(config: Mapping[str, Any]) -> Manifest:
    """The tuning speakers, of the corpora that have no test speaker among them."""
    manifest = tuning_manifest(config["tuning"])
    own = tuple(f"{name}/" for name in config["tuning_from"])
    return replace(manifest, utterances=tuple(one for one in manifest.utterances if one.id.startswith(own)))


def tuning_condition(config: Mapping[str, Any]) -> Condition:
    """Every second utterance in household noise, which is not the noise of the tests."""
    noises = [noise for _, noise in sorted(load_noises(*config["noises"]).items())]

    def changed(samples: Samples, name: str) -> Samples:
        number = _number(config["seed"], name)
        if number % 2:
            return samples
        noise = noises[number // 2 % len(noises)]
        try:
            return _noisy(samples, noise, config["snr_db"], config["seed"], name)
        except EdgeSpeechError:  # a silent stretch of the noise has no level
            return samples

    return changed


def condition_of(config: Mapping[str, Any], name: str) -> Condition:
    """What a condition does to a test utterance.

    Raises:
        EdgeSpeechError: its noise is not here.
    """
    if name == CLEAN:
        return lambda samples, _: samples
    if name == KITCHEN:
        noise = recording("noise", config["test_noise"])
        return lambda samples, one: _noisy(samples, noise, config["snr_db"], config["seed"], one)
    # Simulated rooms of another seed than in training, no recorded ones.
    augment = Augmenter(AugmentConfig.from_mapping(config["microphone"]), {}, config["seed"] + 1)
    return lambda samples, one: augment(samples, key=one, silence_s=_AT_ONCE)


def utterances_of(corpus: str) -> tuple[Manifest, Sequence[Utterance]]:
    """A test corpus, and those of its utterances that are long enough for an embedding."""
    manifest = manifest_of(corpus)
    return manifest, [one for one in manifest.utterances if one.duration >= SHORTEST_S]


def read(manifest: Manifest, names: Sequence[str]) -> Iterator[tuple[str, Samples]]:
    """Utterances by their ids, with their samples."""
    by_id = {one.id: one for one in manifest.utterances}
    for name in names:
        yield name, manifest.read(by_id[name])


def _noisy(samples: Samples, noise: Samples, snr_db: float, seed: int, name: str) -> Samples:
    return mix_at_snr(samples, noise, snr_db, rule="mean", seed=seed, utterance_id=name)


def _augmenter(config: Mapping[str, Any], settings: Mapping[str, Any], seed: int) -> Augmenter:
    rooms = load_noises(*config["rooms"]) if config["rooms"] else {}
    noises = load_noises(*config["noises"])
    return Augmenter(AugmentConfig.from_mapping(settings), noises, seed, rooms=rooms)


def _rank(seed: int, corpus: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{corpus}/{name}".encode()).digest()


def _number(seed: int, name: str) -> int:
    return int.from_bytes(_rank(seed, "tuning", name)[:4], "little")


def stored(voices: Voices, spectra: Floats) -> dict[str, NDArray[Any]]:
    """What lies beside the frames in the file of the material."""
    return {
        "starts": voices.starts,
        "lengths": voices.lengths,
        "speakers": voices.speakers,
        "spectra": spectra.astype(np.float32),
    }
