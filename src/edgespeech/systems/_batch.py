"""Base of recognisers that decode whole files: they buffer the audio, and decode at the end."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgespeech.cloud.session import Backend
from edgespeech.cloud.whisper_backend import LANGUAGES, build_whisper, facts, settings
from edgespeech.contracts import Event, EventKind, Kind, Recogniser, Request, Samples, Stream, SystemInfo
from edgespeech.corpora.weights import resolve_weights, weights_available
from edgespeech.systems._shared import ready


class BatchStream(Stream):
    """Buffers an utterance, and has it decoded at its end."""

    def __init__(self, backend: Backend, request: Request) -> None:
        self._backend = backend
        self._request = request
        self._pieces: list[Samples] = []

    def accept(self, samples: Samples) -> Sequence[Event]:
        self._pieces.append(samples.copy())
        return ()

    def finish(self) -> Sequence[Event]:
        text = ""
        if self._pieces:
            samples = np.concatenate(self._pieces)
            text = self._backend.transcribe(samples, self._request.context, self._request.language)
        return (Event(kind=EventKind.FINAL, text=text),)

    def state_bytes(self) -> int:
        return sum(piece.nbytes for piece in self._pieces)


class WholeFile(Recogniser):
    """A recogniser on the device that decodes an utterance at its end; a subclass loads its backend.

    Attributes:
        model: name of its weights, see `edgespeech.corpora.weights`.
    """

    kind = Kind.DEVICE
    model: ClassVar[str]

    def __init__(self, *, weights: str | None = None, threads: int = 1) -> None:
        """`weights`: a folder with the weights, instead of the usual sources. `threads`: of the CPU."""
        self._path = None if weights is None else Path(weights)
        self._threads = threads
        self._backend: Backend | None = None

    def open(self, request: Request) -> Stream:
        """Start buffering.

        Raises:
            EdgeSpeechError: not loaded, or the model does not support the language.
        """
        return BatchStream(ready(self, self._backend, request), request)

    def close(self) -> None:
        """Release the model."""
        self._backend = None

    def _about(self, **known: Any) -> SystemInfo:
        """What all of them say, beside the facts of this one."""
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            chunk_s=0.1,
            notes=("decodes at the end of the file: no streaming",),
            **known,
        )


class LocalWhisper(WholeFile):
    """faster-whisper on the device, with the options of the cloud baseline; a subclass sets the model."""

    languages = tuple(LANGUAGES.split())
    takes_context = True

    def missing(self) -> str | None:
        """The missing package or weights."""
        if find_spec("faster_whisper") is None:
            return "package faster-whisper is not installed"
        return weights_available(self.model, self._path)

    def load(self) -> SystemInfo:
        """Verify the weights and load them.

        Raises:
            EdgeSpeechError: they are missing or have another hash.
        """
        weights = resolve_weights(self.model, self._path)
        self._backend = build_whisper(weights.folder, self._threads)
        return self._about(config=settings(weights, self._threads), **facts(weights))
