"""Teachers: large models whose encoder features of clean audio are targets of the student's upper layer.

The student's input is the augmented audio, the teacher's the original recording. No transcripts are needed, so that
untranscribed audio can be used too. The teacher and the projection onto its features are used in training only.

Sources: J. Li et al., "Large-scale domain adaptation via teacher-student learning", Interspeech 2017 (noisy student,
clean teacher, the same audio); H.-J. Chang et al., "DistilHuBERT", ICASSP 2022, arXiv:2110.01900 (an output that
predicts a teacher's layer, with L1 and cosine); R. Swaminathan et al., "CoDERT", Interspeech 2021, arXiv:2106.07734
(encoder distillation for transducers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.corpora.weights import resolve_weights, weights_available
from edgespeech.errors import bad
from edgespeech.model.transducer import Transcriber

TeacherLoss = Literal["cosine", "l1_cosine"]


class Teacher(Protocol):
    """A model that computes features of audio.

    Attributes:
        sha256: of its weights.
        frame_s: time between rows of features; row j is centred at `j * frame_s`.
        width: number of features per row.
        settings: description of everything else that its features depend on.
    """

    sha256: str
    frame_s: float
    width: int
    settings: str

    def features(self, samples: Samples) -> NDArray[np.float32]:
        """The features of an utterance at 16 kHz, `(N,)`: `(J, width)`, J its seconds over `frame_s`, rounded up."""
        ...


@dataclass(frozen=True, slots=True)
class TeacherKind:
    """A kind of teacher: why it is not available here (None if it is), and its constructor."""

    missing: Callable[[], str | None]
    open: Callable[[], Teacher]


class WhisperEncoder:
    """The encoder of Whisper base (Radford et al., 2022) in int8: 512 features every 20 ms.

    Whisper is made for windows of 30 s. A shorter window costs proportionally less and changes the features a little;
    here an utterance is followed by silence to 10 s, and by 1 s at least.

    Raises:
        EdgeSpeechError: the weights are missing or not as specified.
    """

    frame_s = 0.02
    width = 512
    _SHORTEST_S, _SILENCE_S, _LONGEST_S = 10.0, 1.0, 30.0

    def __init__(self) -> None:
        weights = resolve_weights(_WHISPER)
        self.sha256 = weights.files["model.bin"]
        self.settings = f"int8, silence of {self._SILENCE_S:g} s or more to {self._SHORTEST_S:g} s or more"
        self._ctranslate2: Any = import_module("ctranslate2")
        self._model = self._ctranslate2.models.Whisper(
            str(weights.folder), device="cpu", compute_type="int8", intra_threads=1
        )
        self._mel = import_module("faster_whisper.feature_extractor").FeatureExtractor(feature_size=80)

    def features(self, samples: Samples) -> NDArray[np.float32]:
        """See `Teacher.features`.

        Raises:
            EdgeSpeechError: the audio is longer than a window.
        """
        seconds = samples.size / SAMPLE_RATE
        if seconds > self._LONGEST_S:
            raise bad(
                f"teacher {_WHISPER}", "seconds of an utterance", seconds, f"at most {self._LONGEST_S:g}"
            )
        window = min(max(self._SHORTEST_S, seconds + self._SILENCE_S), self._LONGEST_S)
        frames = round(window / self.frame_s)
        padded = np.zeros(round(frames * self.frame_s * SAMPLE_RATE), np.float32)
        padded[: samples.size] = samples[: padded.size]
        mel = self._mel(padded, padding=0)[None, :, : 2 * frames]
        given = self._ctranslate2.StorageView.from_array(np.ascontiguousarray(mel))
        encoded = np.asarray(self._model.encode(given, to_cpu=True))[0]
        rows: NDArray[np.float32] = encoded[: rows_of(samples.size, self.frame_s)].astype(np.float32)
        return rows


def rows_of(samples: int, frame_s: float) -> int:
    """The number of rows of features for a number of samples."""
    return -(-samples // round(frame_s * SAMPLE_RATE))


def _whisper_missing() -> str | None:
    for module, package in (("ctranslate2", "ctranslate2"), ("faster_whisper", "faster-whisper")):
        if find_spec(module) is None:
            return f"package {package} is not installed"
    return weights_available(_WHISPER)


_WHISPER = "whisper-base"
TEACHERS: dict[str, TeacherKind] = {_WHISPER: TeacherKind(_whisper_missing, WhisperEncoder)}
"""All teachers by their name in configurations."""


def teacher_kind(name: str, teachers: Mapping[str, TeacherKind] = TEACHERS) -> TeacherKind:
    """The teacher with a name.

    Raises:
        EdgeSpeechError: there is none.
    """
    if name not in teachers:
        raise bad("train: teacher", "name", name, "one of " + ", ".join(sorted(teachers)))
    return teachers[name]


@dataclass(frozen=True, slots=True)
class Taught:
    """The teacher's targets for a process's share of a step.

    Attributes:
        targets: for each transcriber frame, with shape `(B, T, D)`, float32.
        known: whether there is a target, with shape `(B, T)`: false in added silence.
        global_frames: transcriber frames of the whole step's audio before augmentation, of all processes together.
    """

    targets: Tensor
    known: Tensor
    global_frames: float


class TeacherHead(nn.Module):
    """A linear output on one of the transcriber's layers, outside the model since recognition does not use it.

    Args:
        transcriber: whose layer imitates the teacher.
        layer: the output is below this layer, counted from 0; with the number of layers it is above the last one.
        dims: of a target.
        loss: `cosine` is 1 minus the cosine of output and target; `l1_cosine` adds their mean absolute difference.

    Raises:
        EdgeSpeechError: there is no such layer.
    """

    def __init__(self, transcriber: Transcriber, layer: int, dims: int, loss: TeacherLoss) -> None:
        super().__init__()
        layers = len(transcriber.norms)
        if not 0 < layer <= layers:
            raise bad("train: teacher", "layer", layer, f"1 to {layers}")
        self.out = nn.Linear(transcriber.enter.out_features, dims)
        self._l1 = loss == "l1_cosine"
        self._output: Tensor | None = None
        norm = transcriber.norms[layer] if layer < layers else transcriber.leave[0]
        norm.register_forward_hook(self._take)

    def _take(self, _module: nn.Module, _given: Any, normal: Tensor) -> None:
        self._output = normal

    def forward(self, taught: Taught) -> Tensor:
        """The loss, summed over the known frames of the transcriber's last batch."""
        assert self._output is not None, "the transcriber runs first"
        output, self._output = self._output, None
        targets, known = taught.targets.to(output.device), taught.known.to(output.device)
        predicted = self.out(output.float())
        loss = 1 - nn.functional.cosine_similarity(predicted, targets, dim=-1)
        if self._l1:
            loss = loss + (predicted - targets).abs().mean(-1)
        return torch.where(known, loss, 0.0).sum()
