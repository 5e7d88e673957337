"""The exported on-device model in sherpa-onnx, with its own features and search: a peer of the native engine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from edgespeech.contracts import SAMPLE_RATE, Event, EventKind, Samples, Stream, SystemInfo
from edgespeech.search.segments import Segments
from edgespeech.systems._exported import ExportedModel

TAIL_S = 0.4
"""Seconds of silence after the audio: sherpa-onnx only runs complete chunks."""
_TAIL = np.zeros(round(TAIL_S * SAMPLE_RATE), np.float32)


class SherpaOnnx(ExportedModel[Any]):
    """The exported model by sherpa-onnx's online recogniser; greedy search, no language model."""

    name = "sherpa-onnx"
    package = "sherpa_onnx"
    summary = "our exported RNN-T by sherpa-onnx, greedy search, without a language model"

    def load(self) -> SystemInfo:
        """Load the files.

        Raises:
            EdgeSpeechError: the package or a file is missing.
        """
        files = self._present()
        package = import_module(self.package)
        self._model = package.OnlineRecognizer.from_transducer(
            **{part: str(file) for part, file in files.items()},
            num_threads=self._threads,
            model_type="lstm",
            decoding_method="greedy_search",
        )
        return self._about(
            files,
            f"sherpa-onnx {package.__version__}, Apache-2.0",
            {"search": "greedy_search", "tail_s": TAIL_S},
            "by greedy search, without a language model, at most one word piece a frame",
        )

    def _stream(self, model: Any) -> Stream:
        return _SherpaStream(model)


class _SherpaStream(Stream):
    """One utterance in progress: a partial whenever the text changes, and a final at the end of the audio.

    Long audio is split into several streams by `edgespeech.search.segments`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._stream = model.create_stream()
        self._text = ""
        self._segments = Segments()

    def accept(self, samples: Samples) -> Sequence[Event]:
        segments, events = self._segments, []
        segments.heard += len(samples)
        self._run(samples)
        text = self._result()
        if text != self._text:
            self._text, segments.emitted = text, segments.heard
            events.append(Event(kind=EventKind.PARTIAL, text=text))
        if segments.is_over:
            self._run(_TAIL)
            events.append(Event(kind=EventKind.SETTLED, text=self._result()))
            self._stream, self._text = self._model.create_stream(), ""
            segments.begin()
        return tuple(events)

    def finish(self) -> Sequence[Event]:
        self._run(_TAIL)
        return (Event(kind=EventKind.FINAL, text=self._result()),)

    def _result(self) -> str:
        return str(self._model.get_result(self._stream)).strip()

    def _run(self, samples: Samples) -> None:
        self._stream.accept_waveform(SAMPLE_RATE, samples)
        while self._model.is_ready(self._stream):
            self._model.decode_stream(self._stream)
