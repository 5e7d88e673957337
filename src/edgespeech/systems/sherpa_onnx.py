"""The on-device model's exported files by sherpa-onnx, its own features and search: a peer of the native engine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from edgespeech.contracts import SAMPLE_RATE, Event, EventKind, Request, Samples, Stream, SystemInfo
from edgespeech.errors import EdgeSpeechError
from edgespeech.search.segments import Segments
from edgespeech.search.settings import CHUNK_S
from edgespeech.systems._exported import ExportedModel, hashes

TAIL_S = 0.4
"""Seconds of silence after the audio: sherpa-onnx runs whole chunks alone."""
_TAIL = np.zeros(round(TAIL_S * SAMPLE_RATE), np.float32)


class SherpaOnnx(ExportedModel):
    """The exported model by sherpa-onnx's online recogniser; greedy search, no language model."""

    name = "sherpa-onnx"
    package = "sherpa_onnx"
    summary = "our exported RNN-T by sherpa-onnx, greedy search, without a language model"
    _model: Any = None

    def load(self) -> SystemInfo:
        """Load the files.

        Raises:
            EdgeSpeechError: the package or a file is not here.
        """
        files = self._present()
        package = import_module(self.package)
        self._model = package.OnlineRecognizer.from_transducer(
            **{part: str(file) for part, file in files.items()},
            num_threads=self._threads,
            model_type="lstm",
            decoding_method="greedy_search",
        )
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=sum(file.stat().st_size for file in files.values()),
            parameters=None,
            chunk_s=CHUNK_S,
            citation=f"sherpa-onnx {package.__version__}, Apache-2.0; the model is EdgeSpeech's",
            config={"int8": self._int8, "search": "greedy_search", "tail_s": TAIL_S},
            model_sha256=hashes(files),
            notes=(
                "runs the weights of edge-fp32 by greedy search, without a language model, "
                "at most one word piece a frame",
            ),
        )

    def open(self, request: Request) -> Stream:
        """Start an utterance.

        Raises:
            EdgeSpeechError: not loaded, or the language is not English.
        """
        if self._model is None:
            raise EdgeSpeechError(f"{self.name}: not loaded: call load() before open()")
        self._checked(request)
        return _SherpaStream(self._model)

    def close(self) -> None:
        """Drop the model."""
        self._model = None


class _SherpaStream(Stream):
    """One utterance in progress: a partial whenever the text changes, and a final at the end of the audio.

    Long audio is a stream after the other, as `edgespeech.search.segments` has it.
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
