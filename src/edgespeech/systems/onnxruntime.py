"""The on-device model's exported files by ONNX Runtime, with our greedy search: a peer of the native engine."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

import numpy as np

from edgespeech.audio.features import StreamingLogMel
from edgespeech.contracts import SAMPLE_RATE, Request, Samples, Stream, SystemInfo
from edgespeech.errors import EdgeSpeechError
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.search.onnx_greedy import OnnxStream, OnnxTransducer
from edgespeech.search.partials import TAIL_S, PartialsStream
from edgespeech.search.settings import CHUNK_S, MAX_LABELS
from edgespeech.systems._exported import ExportedModel, hashes

_FRAME_S = 0.01


class OnnxRuntime(ExportedModel):
    """The exported model by ONNX Runtime; greedy search, no language model."""

    name = "onnxruntime"
    package = "onnxruntime"
    summary = "our exported RNN-T by ONNX Runtime, greedy search, without a language model"
    _model: OnnxTransducer | None = None

    def load(self) -> SystemInfo:
        """Load the files.

        Raises:
            EdgeSpeechError: the package or a file is not here, or a file is of an earlier export.
        """
        files = self._present()
        model = OnnxTransducer({part: str(file) for part, file in files.items()}, self._threads)
        if model.stack is None:
            raise EdgeSpeechError(
                f"{files['encoder']}: tells no stack, expected a file of `edgespeech export`"
            )
        self._model = model
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=sum(file.stat().st_size for file in files.values()),
            parameters=None,
            chunk_s=CHUNK_S,
            citation=f"ONNX Runtime {version('onnxruntime')}, MIT; the model is EdgeSpeech's",
            config={"int8": self._int8, "search": "greedy", "max_labels": MAX_LABELS, "tail_s": TAIL_S},
            model_sha256=hashes(files),
            notes=("runs the weights of edge-fp32 by greedy search, without a language model",),
        )

    def open(self, request: Request) -> Stream:
        """Start an utterance.

        Raises:
            EdgeSpeechError: not loaded, or the language is not English.
        """
        if self._model is None:
            raise EdgeSpeechError(f"{self.name}: not loaded: call load() before open()")
        self._checked(request)
        return _OnnxPartials(self._model)

    def close(self) -> None:
        """Drop the model."""
        self._model = None


class _OnnxPartials(PartialsStream):
    """One utterance in progress."""

    def __init__(self, model: OnnxTransducer) -> None:
        assert model.stack is not None  # `load` has looked
        super().__init__(model.pieces, model.stack * _FRAME_S)
        self._features = StreamingLogMel()
        self._opened = partial(model.open, multiple=model.stack, max_labels=MAX_LABELS)
        self._search: OnnxStream = self._opened()

    def _restart(self) -> bool:
        self._search = self._opened()
        return True

    def _hear(self, samples: Samples) -> None:
        self._search.accept(self._features.accept(samples))

    def _end(self) -> None:
        tail = self._features.accept(np.zeros(round(TAIL_S * SAMPLE_RATE), np.float32))
        self._search.accept(np.concatenate([tail, self._features.finish()]))

    def _best(self) -> Hypothesis:
        return Hypothesis(tuple(self._search.labels), tuple(self._search.frames))

    def state_bytes(self) -> int:
        """Bytes of state, but for the extractor's last 25 ms of samples."""
        return self._search.state_bytes
