"""The score: log-odds that an utterance is for the device, from its features and perhaps a second stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from edgespeech.core.files import write_atomic
from edgespeech.directed.features import FEATURES, Floats
from edgespeech.directed.second import Observation, SecondStream, State, Vector
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.perceptron import Classifier


@dataclass(frozen=True, slots=True)
class SecondWeights:
    """How a second stream's value adds to the log-odds, and for how long.

    Attributes:
        weights: with shape `(width,)`.
        bias: added with every value.
        keeps_s: how old the last value may be once the stream has stalled or ended; older, it adds nothing.
    """

    weights: Vector
    bias: float = 0.0
    keeps_s: float = 2.0

    def log_odds(self, seen: Observation) -> float:
        """What an observation adds, in nats; 0 where nothing is known, or what is known is too old."""
        if seen.value is None or (seen.state is not State.LIVE and seen.age_s > self.keeps_s):
            return 0.0
        return float(self.weights @ seen.value) + self.bias


class Scored(NamedTuple):
    """The log-odds that an utterance is for the device.

    Attributes:
        log_odds: of all that is known, in nats.
        audio: the part of audio and decoder.
        second: what the second stream was doing; None without one.
    """

    log_odds: float
    audio: float
    second: Observation | None


class DirectedScorer:
    """Scores utterances, or what was heard of them so far.

    Args:
        classifier: of features (`edgespeech.directed.features`).
        second: another stream; None: there is none.
        weights: of the second stream; both or none.

    Raises:
        EdgeSpeechError: a stream without weights or weights without a stream, or of another width.
    """

    def __init__(
        self,
        classifier: Classifier,
        second: SecondStream | None = None,
        weights: SecondWeights | None = None,
    ) -> None:
        if (second is None) != (weights is None):
            raise EdgeSpeechError("device-directed: a second stream and its weights come together")
        if second is not None and weights is not None and weights.weights.shape != (second.width,):
            raise bad(second.name, "weights", weights.weights.shape, f"({second.width},)")
        self._classifier, self._second, self._weights = classifier, second, weights

    def score(self, features: Floats, audio_s: float) -> Scored:
        """The score at a time of the audio.

        Args:
            features: of the utterance so far, with shape `(9,)`.
            audio_s: seconds since the audio began, not before the last call's.

        Raises:
            EdgeSpeechError: features of another shape, or as `SecondStream.at`.
        """
        if features.shape != (len(FEATURES),):
            raise bad("device-directed", "features", features.shape, f"({len(FEATURES)},)")
        audio = float(self._classifier.scores(features[None])[0])
        if self._second is None or self._weights is None:
            return Scored(audio, audio, None)
        seen = self._second.at(audio_s)
        return Scored(audio + self._weights.log_odds(seen), audio, seen)


class Saved(NamedTuple):
    """What a file holds.

    Attributes:
        classifier: in evaluation mode.
        threshold: log-odds from which on an utterance counts as directed, chosen on tuning speech.
        given_sha256: hash of all that decided both.
    """

    classifier: Classifier
    threshold: float
    given_sha256: str


def save_classifier(path: Path, saved: Saved) -> None:
    """Write a classifier."""
    about = {"threshold": repr(saved.threshold), "given_sha256": saved.given_sha256}
    write_atomic(path, save(dict(saved.classifier.state_dict()), about))


def load_classifier(path: Path) -> Saved:
    """Read what `save_classifier` wrote.

    Raises:
        EdgeSpeechError: no such file, or no such classifier.
    """
    classifier = Classifier(len(FEATURES))
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            about = file.metadata() or {}
        classifier.load_state_dict(weights)
        threshold, given = float(about["threshold"]), about["given_sha256"]
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise EdgeSpeechError(
            f"{path}: no device-directed classifier: {str(error).splitlines()[0]}"
        ) from error
    if not np.isfinite(threshold) or not all(torch.isfinite(one).all() for one in weights.values()):
        raise bad(str(path), "weights", "not finite", "finite numbers")
    return Saved(classifier.eval(), threshold, given)
