"""Utterances for the device and others, with the features of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespeech.audio.features import log_mel_at_once
from edgespeech.audio.voicing import FRAME
from edgespeech.contracts import Samples
from edgespeech.core.places import shipped_models
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest, Utterance
from edgespeech.directed.features import Decoded, LanguageModel, features_of, level_db
from edgespeech.errors import EdgeSpeechError
from edgespeech.lm.fusion import load_fusion
from edgespeech.lm.ngram import START
from edgespeech.packed.runtime import PackedModel
from edgespeech.search.hypothesis import Transcript
from edgespeech.speakers.spectrum import spectrum_of
from edgespeech.training.speech import trainable, tuning_manifest

PACKED = "model.edge"
DIRECTED, OTHER = "directed", "other"
_SILENT = 1e-5

Decode = Callable[[Samples], Decoded]


@dataclass(frozen=True, slots=True)
class Heard:
    """Utterances as they are scored.

    Attributes:
        features: with shape `(N, 9)`, see `edgespeech.directed.features`.
        levels: in dB of full scale, with shape `(N,)`.
        spectra: long-term average spectra, with shape `(N, 160)`.
        directed: which are for the device, with shape `(N,)`.
        speakers: of each; an utterance whose speaker nobody names counts as one.
    """

    features: NDArray[np.float64]
    levels: NDArray[np.float64]
    spectra: NDArray[np.float64]
    directed: NDArray[np.bool_]
    speakers: list[str]


class _FromStart:
    """A language model for texts from their beginning."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def log_probs(self, history: Sequence[int]) -> NDArray[np.float64]:
        """As the model's, with the start of a text before the history."""
        return self._model.log_probs([START, *history])


class Recogniser:
    """The packed recogniser by greedy search, and its language model."""

    def __init__(self) -> None:
        folder = shipped_models()
        self._model = PackedModel(folder / "edge-packed" / PACKED)
        fusion = load_fusion(folder / "edge-fp32", len(self._model.pieces))
        self.language = None if fusion is None else _FromStart(fusion.high)

    def decode(self, samples: Samples) -> Decoded:
        """What it makes of an utterance at 16 kHz, with shape `(N,)`."""
        frame_s = self._model.config.frame_s
        features = log_mel_at_once(samples)
        stream = self._model.open(1)
        try:
            stream.accept(features)
            best = stream.best
        finally:
            stream.close()
        transcript = Transcript(self._model.pieces, frame_s)
        transcript.update(transcript.changes(best))
        text = " ".join(word.text for word in transcript.words(len(samples)))
        return Decoded(text, best, max(1, len(features) // self._model.config.stack), frame_s)

    def close(self) -> None:
        """Release the model."""
        self._model.close()


def heard(
    items: Iterator[tuple[str, bool, Manifest, Utterance]],
    decode: Decode,
    language: LanguageModel | None,
    wake_words: Sequence[str],
) -> Heard:
    """The features of utterances; silent ones and those shorter than a frame are left out.

    Args:
        items: corpus, whether it is for the device, manifest and utterance of each.
        decode: the recogniser.
        language: its language model.
        wake_words: in lower case.

    Raises:
        EdgeSpeechError: no utterance is left.
    """
    features, levels, spectra, directed, speakers = [], [], [], [], []
    for corpus, is_directed, manifest, one in items:
        samples = manifest.read(one)
        if len(samples) < FRAME or np.abs(samples).max() < _SILENT:
            continue
        features.append(features_of(samples, decode(samples), language, wake_words))
        levels.append(level_db(samples))
        spectra.append(spectrum_of(log_mel_at_once(samples)))
        directed.append(is_directed)
        speakers.append(f"{corpus}/{one.speaker or one.id}")
    if not features:
        raise EdgeSpeechError("device-directed: no utterance with anything to hear, expected at least one")
    return Heard(
        np.stack(features), np.array(levels), np.stack(spectra), np.array(directed, dtype=bool), speakers
    )


def training(config: Mapping[str, Any]) -> Iterator[tuple[str, bool, Manifest, Utterance]]:
    """The utterances to train on."""
    for kind in (DIRECTED, OTHER):
        for corpus in config["train"][kind]:
            manifest = trainable(corpus).subset(config["per_corpus"], config["seed"])
            yield from ((corpus, kind == DIRECTED, manifest, one) for one in manifest.utterances)


def tuning(config: Mapping[str, Any]) -> Iterator[tuple[str, bool, Manifest, Utterance]]:
    """The tuning speakers of corpora that no test has."""
    whole = tuning_manifest(config["tuning"])
    for kind in (DIRECTED, OTHER):
        own = tuple(f"{name}/" for name in config["tuning_from"][kind])
        mine = replace(whole, utterances=tuple(one for one in whole.utterances if one.id.startswith(own)))
        manifest = mine.subset(config["tuning_utterances"], config["seed"])
        yield from ((config["tuning"], kind == DIRECTED, manifest, one) for one in manifest.utterances)


def test(config: Mapping[str, Any]) -> Iterator[tuple[str, bool, Manifest, Utterance]]:
    """The test utterances: as many of each corpus."""
    for kind in (DIRECTED, OTHER):
        for corpus in config["test"][kind]:
            manifest = manifest_of(corpus).subset(config[config["profile"]], config["seed"])
            yield from ((corpus, kind == DIRECTED, manifest, one) for one in manifest.utterances)


def near_misses(config: Mapping[str, Any]) -> Iterator[tuple[str, bool, Manifest, Utterance]]:
    """Words that sound nearly like a wake word."""
    told = config["near_misses"]
    whole = manifest_of(told["corpus"])
    mine = replace(whole, utterances=tuple(one for one in whole.utterances if one.kind == told["kind"]))
    manifest = mine.subset(config[config["profile"]], config["seed"])
    yield from ((told["corpus"], False, manifest, one) for one in manifest.utterances)
