"""The learned scorers: small networks on frozen transcriptions, and one file that holds all of them.

* `EndNet` classifies frame by frame whether the query is over, from the transcription, the sound itself and,
  optionally, features of the decoder: its pause, its number of labels, its last word pieces (Maas et al., "Combining
  acoustic embeddings and decoding features for end-of-utterance detection in real-time far-field speech recognition
  systems", ICASSP 2018). Without the decoder's features the same network is the end-of-query token (Li et al., "Towards
  fast and accurate streaming end-to-end ASR", ICASSP 2020): see `training`.
* `Arbitrator` is the second pass that verifies a first one, from an acoustic and a text embedding (arXiv:2401.08916).

Letters: B batch, T frames, U labels, J joiner width, H hidden width.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edgespeech.audio.features import N_MELS, StreamingLogMel
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.core.config import Strict, explain
from edgespeech.core.files import write_atomic
from edgespeech.core.labels import BLANK
from edgespeech.endpointing.frames import Frame, Vector
from edgespeech.endpointing.policy import Scorer
from edgespeech.endpointing.silence import Level
from edgespeech.errors import EdgeSpeechError, bad

LAST = 2
"""Number of last word pieces of the hypothesis that are inputs of the networks."""
BANDS = N_MELS // 2
"""Number of frequency bands of the sound features, each of two mel bands."""
DECODER = 3
"""Number of features of `Observer` about the decoder, which are the first ones."""
EXTRA = DECODER + 2 + 2 * BANDS
"""Number of all its features, about the decoder and about the sound."""
_BAND_CENTRE, _BAND_SPREAD = -8.0, 4.0
"""Scale that maps log-mel values to about -2 to 2."""
_BAND_RISE = 0.7
"""How fast the floor of a band rises, in nats a second: 3 dB."""
_LONGEST_PAUSE_S = 2.0
_LEVEL_DB = 40.0
_MANY_LABELS = 20.0
_EMBEDDING = 16
_TOKEN_BIAS = -4.0
"""Initial odds of the token, one in about fifty frames; even odds would leave no path to the end of an utterance."""
_FORMAT = "edgespeech-endpointing-3"
_ABOUT = "edgespeech"


class Observer:
    """Computes features of frames for one utterance."""

    def __init__(self) -> None:
        self._level = Level()
        self._features = StreamingLogMel()
        self._bands = np.full(BANDS, _BAND_CENTRE, np.float32)
        self._floors = np.full(BANDS, np.inf, np.float32)

    def accept(self, frame: Frame) -> tuple[Vector, NDArray[np.int64]]:
        """The inputs of the networks besides the transcription.

        Returns:
            The pause, whether there are labels, their number, the level above its floor and below its peak, the level
            in each band, and that above the band's floor, each about -2 to 2, with shape `(85,)`; the last word pieces,
            padded with blanks, with shape `(2,)`.
        """
        self._level.accept(frame.samples)
        features = self._features.accept(frame.samples)
        if len(features):
            self._bands = features.reshape(-1, BANDS, 2).mean(axis=(0, 2), dtype=np.float32)
        seconds = len(frame.samples) / SAMPLE_RATE
        self._floors = np.minimum(self._bands, self._floors + np.float32(_BAND_RISE * seconds))
        said = not math.isinf(frame.pause_s)
        extra = np.array(
            [
                min(frame.pause_s, _LONGEST_PAUSE_S) / _LONGEST_PAUSE_S if said else 0.0,
                float(said),
                min(len(frame.labels) / _MANY_LABELS, 1.0),
                (self._level.now_db - self._level.floor_db) / _LEVEL_DB,
                (self._level.now_db - self._level.peak_db) / _LEVEL_DB,
                *((self._bands - _BAND_CENTRE) / _BAND_SPREAD),
                *((self._bands - self._floors) / _BAND_SPREAD),
            ],
            np.float32,
        )
        return extra, np.array(([BLANK] * LAST + list(frame.labels))[-LAST:], np.int64)


class EndNet(nn.Module):
    """A recurrent network over frames whose output is the logit of "the query is over".

    Args:
        joiner: width of the transcription.
        vocabulary: word pieces.
        hidden: width of its gated recurrent layer.
        decoder: whether it uses features of the decoder.
    """

    def __init__(self, joiner: int, vocabulary: int, hidden: int, *, decoder: bool) -> None:
        super().__init__()
        self.shape = {"joiner": joiner, "vocabulary": vocabulary, "hidden": hidden, "decoder": decoder}
        self.norm = nn.LayerNorm(joiner)
        self.embedding = nn.Embedding(vocabulary, _EMBEDDING) if decoder else None
        told = EXTRA + LAST * _EMBEDDING if decoder else EXTRA - DECODER
        self.recurrent = nn.GRU(joiner + told, hidden, batch_first=True)
        self.leave = nn.Linear(hidden, 1)

    def forward(
        self, encoded: Tensor, extra: Tensor, last: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The logits of a batch, or of the next piece of one.

        Args:
            encoded: with shape `(B, T, J)`.
            extra: with shape `(B, T, 85)`.
            last: with shape `(B, T, 2)`; ignored without `decoder`.
            state: returned by the call for the previous piece; None at the start.

        Returns:
            Logits with shape `(B, T)`, and the state.
        """
        told = [extra[..., DECODER:]] if self.embedding is None else [extra, self.embedding(last).flatten(2)]
        x = torch.cat([self.norm(encoded), *told], dim=2)
        y, after = self.recurrent(x, state)
        return self.leave(y).squeeze(2), after


class Arbitrator(nn.Module):
    """Verifies, in a pause, that the query is over, from embeddings of the audio and of the hypothesis.

    Args:
        joiner: width of the transcription.
        vocabulary: word pieces.
        hidden: width of both recurrent layers and of the network on top.
    """

    def __init__(self, joiner: int, vocabulary: int, hidden: int) -> None:
        super().__init__()
        self.shape = {"joiner": joiner, "vocabulary": vocabulary, "hidden": hidden}
        self.embedding = nn.Embedding(vocabulary, _EMBEDDING)
        self.text = nn.GRU(_EMBEDDING, hidden, batch_first=True)
        self.norm = nn.LayerNorm(joiner)
        self.sound = nn.GRU(joiner + EXTRA - DECODER, hidden, batch_first=True)
        self.judge = nn.Sequential(nn.Linear(2 * hidden + DECODER, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def hear(self, encoded: Tensor, extra: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The embeddings of the audio up to each frame.

        Args:
            encoded: with shape `(B, T, J)`.
            extra: with shape `(B, T, 85)`.
            state: returned by the call for the previous piece; None at the start.

        Returns:
            With shape `(B, T, H)`, and the state.
        """
        heard, after = self.sound(torch.cat([self.norm(encoded), extra[..., DECODER:]], dim=2), state)
        return heard, after

    def read(self, labels: Tensor, lengths: Tensor) -> Tensor:
        """The embedding of texts.

        Args:
            labels: with shape `(B, U)`, padded with anything.
            lengths: at least 1 each, with shape `(B,)`.

        Returns:
            With shape `(B, H)`.
        """
        states, _ = self.text(self.embedding(labels))
        read: Tensor = states[torch.arange(len(labels)), lengths - 1]
        return read

    def forward(self, heard: Tensor, extra: Tensor, text: Tensor) -> Tensor:
        """Logits with shape `(B,)` of frames: heard `(B, H)`, extra `(B, 85)`, text `(B, H)`."""
        logits: Tensor = self.judge(torch.cat([heard, text, extra[:, :DECODER]], dim=1))
        return logits.squeeze(1)


class LearnedScore(Scorer):
    """The probability that the query is over, by an `EndNet`."""

    def __init__(self, network: EndNet) -> None:
        self._network = network
        self._observer = Observer()
        self._state: Tensor | None = None

    @torch.inference_mode()
    def accept(self, frame: Frame) -> float:
        """See above."""
        extra, last = self._observer.accept(frame)
        logit, self._state = self._network(
            torch.from_numpy(frame.encoded)[None, None],
            torch.from_numpy(extra)[None, None],
            torch.from_numpy(last)[None, None],
            self._state,
        )
        return float(logit.sigmoid())


class ArbitratedScore(Scorer):
    """The probability by the second pass, in every frame in which the first one exceeds its threshold.

    Args:
        first: the first pass.
        threshold: of its scores; below it the score is 0.
        network: the second pass.
    """

    def __init__(self, first: Scorer, threshold: float, network: Arbitrator) -> None:
        self._first = first
        self._threshold = threshold
        self._network = network
        self._observer = Observer()
        self._state: Tensor | None = None
        self._read: tuple[int, ...] = ()
        self._text: Tensor | None = None

    @torch.inference_mode()
    def accept(self, frame: Frame) -> float:
        """See above."""
        told = torch.from_numpy(self._observer.accept(frame)[0])[None]
        heard, self._state = self._network.hear(
            torch.from_numpy(frame.encoded)[None, None], told[None], self._state
        )
        if self._first.accept(frame) < self._threshold or not frame.labels:
            return 0.0
        if self._text is None or self._read != frame.labels:
            labels = torch.tensor([frame.labels], dtype=torch.int64)
            self._read, self._text = frame.labels, self._network.read(labels, torch.tensor([labels.shape[1]]))
        return float(self._network(heard[:, 0], told, self._text).sigmoid())


class Thresholds(NamedTuple):
    """Thresholds of the learned scorer's probability, chosen on tuning speech.

    Attributes:
        final: for ending the utterance.
        speculative: for publishing a speculative result.
    """

    final: float
    speculative: float


Width = Annotated[int, Field(strict=True, ge=1, le=1 << 16)]


class _Shape(Strict):
    """The shape of the networks; see `EndNet`."""

    joiner: Width
    vocabulary: Width
    hidden: Width
    decoder: bool


class _About(Strict):
    """The metadata of a file of networks."""

    format: str
    shape: _Shape
    recogniser: str
    provenance: dict[str, str]
    thresholds: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=2, max_length=2)] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Networks:
    """The networks of one recogniser.

    Attributes:
        learned: transcription, sound and decoder features.
        token: transcription and sound, trained as the end-of-query token.
        arbitrator: the second pass.
        recogniser: sha256 of the recogniser's weights, to which the networks are specific.
        provenance: of their training.
        thresholds: of `learned`; None before they are chosen.
    """

    learned: EndNet
    token: EndNet
    arbitrator: Arbitrator
    recogniser: str
    provenance: dict[str, str]
    thresholds: Thresholds | None = None

    def named(self) -> dict[str, EndNet | Arbitrator]:
        """The networks by name."""
        return {"learned": self.learned, "token": self.token, "arbitrator": self.arbitrator}


def new_networks(joiner: int, vocabulary: int, hidden: int, recogniser: str, seed: int) -> Networks:
    """Networks with random weights; the token's bias is set to its actual frequency."""
    torch.manual_seed(seed)
    token = EndNet(joiner, vocabulary, hidden, decoder=False)
    nn.init.constant_(token.leave.bias, _TOKEN_BIAS)
    return Networks(
        learned=EndNet(joiner, vocabulary, hidden, decoder=True),
        token=token,
        arbitrator=Arbitrator(joiner, vocabulary, hidden),
        recogniser=recogniser,
        provenance={},
    )


def save_networks(path: Path, networks: Networks) -> None:
    """Write the networks into one file, in half precision.

    Raises:
        EdgeSpeechError: it cannot be written.
    """
    about = {
        "format": _FORMAT,
        "shape": networks.learned.shape,
        "recogniser": networks.recogniser,
        "provenance": networks.provenance,
        "thresholds": networks.thresholds,
    }
    tensors = {
        f"{name}.{key}": tensor.detach().cpu().half().contiguous()
        for name, network in networks.named().items()
        for key, tensor in network.state_dict().items()
    }
    write_atomic(path, save(tensors, {_ABOUT: json.dumps(about, sort_keys=True)}))


def load_networks(path: Path, recogniser: str) -> Networks:
    """Read the networks.

    Args:
        path: from `save_networks`.
        recogniser: sha256 of the weights with which they will be used.

    Raises:
        EdgeSpeechError: missing, damaged, of another format, or made for other weights.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise EdgeSpeechError(f"{path}: not a readable file of end-pointing networks: {error}") from error
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise bad(str(path), "format", about, _FORMAT)
    try:
        told = _About.model_validate(about)
    except ValidationError as error:
        raise explain(str(path), error) from error
    if told.recogniser != recogniser:
        raise bad(str(path), "recogniser", told.recogniser, f"{recogniser}: train the networks again")
    shape = told.shape.joiner, told.shape.vocabulary, told.shape.hidden
    joiner, vocabulary, hidden = shape  # memory is allocated only after the tensors' sizes are verified
    for key, size in {
        "learned.norm.weight": (joiner,),
        "learned.embedding.weight": (vocabulary, _EMBEDDING),
        "learned.leave.weight": (1, hidden),
    }.items():
        found = tensors.get(key)
        if found is None or tuple(found.shape) != size:
            raise bad(str(path), f"shape of {key}", None if found is None else tuple(found.shape), str(size))
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise bad(str(path), f"tensor {key}", float(tensor[~tensor.isfinite()][0]), "finite values")
    networks = new_networks(*shape, recogniser, seed=0)
    for name, network in networks.named().items():
        own = {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            raise bad(
                str(path), f"network {name}", "other tensors", f"those of its shape ({error})"
            ) from error
        network.eval().requires_grad_(False)
    return Networks(
        learned=networks.learned,
        token=networks.token,
        arbitrator=networks.arbitrator,
        recogniser=recogniser,
        provenance=told.provenance,
        thresholds=None if told.thresholds is None else Thresholds(*told.thresholds),
    )
