"""The exported on-device model in ONNX Runtime, with this project's greedy search: a peer of the native engine."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from edgespeech.contracts import Stream, SystemInfo
from edgespeech.errors import EdgeSpeechError
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.search.onnx_greedy import OnnxStream, OnnxTransducer
from edgespeech.search.partials import TAIL_S
from edgespeech.search.settings import MAX_LABELS
from edgespeech.systems._exported import ExportedModel
from edgespeech.systems._shared import FeatureStream

_FRAME_S = 0.01


class OnnxRuntime(ExportedModel[OnnxTransducer]):
    """The exported model by ONNX Runtime; greedy search, no language model."""

    name = "onnxruntime"
    package = "onnxruntime"
    summary = "our exported RNN-T by ONNX Runtime, greedy search, without a language model"

    def load(self) -> SystemInfo:
        """Load the files.

        Raises:
            EdgeSpeechError: the package or a file is missing, or a file is from an earlier export.
        """
        files = self._present()
        model = OnnxTransducer({part: str(file) for part, file in files.items()}, self._threads)
        if model.stack is None:
            raise EdgeSpeechError(
                f"{files['encoder']}: has no stack in its metadata, expected a file of `edgespeech export`"
            )
        self._model = model
        return self._about(
            files,
            f"ONNX Runtime {version('onnxruntime')}, MIT",
            {"search": "greedy", "max_labels": MAX_LABELS, "tail_s": TAIL_S},
            "by greedy search, without a language model",
        )

    def _stream(self, model: OnnxTransducer) -> Stream:
        return _OnnxStream(model)


class _OnnxStream(FeatureStream[OnnxStream]):
    """One utterance in progress."""

    def __init__(self, model: OnnxTransducer) -> None:
        assert model.stack is not None  # `load` has looked
        super().__init__(model.pieces, model.stack * _FRAME_S)
        self._opened = partial(model.open, multiple=model.stack, max_labels=MAX_LABELS)
        self._search = self._opened()

    def _restart(self) -> bool:
        self._search = self._opened()
        return True

    def _best(self) -> Hypothesis:
        return Hypothesis(tuple(self._search.labels), tuple(self._search.frames))
