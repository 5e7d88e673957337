"""The on-device model packed into one file, and run by the native engine from features to word pieces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgespeech import __version__
from edgespeech.contracts import (
    SAMPLE_RATE,
    Event,
    EventKind,
    Kind,
    Recogniser,
    Request,
    Samples,
    Stream,
    SystemInfo,
)
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.systems._edge import BEAM, CHUNK_S, checked_beam, shipped_models

if TYPE_CHECKING:
    from edgespeech.engine.runtime import PackedModel

MODEL_VARIABLE = "EDGESPEECH_PACKED_MODEL"
"""Environment variable that names a `.edge` file to use instead of the shipped one."""
PACKED = "model.edge"
"""The shipped file, in the folder of this system among the shipped models."""
TAIL_S = 0.16
"""Seconds of digital silence that follow the last sample, as in `decoding.streaming`, which needs torch."""


class EdgePacked(Recogniser):
    """The on-device streaming RNN-T from a packed file; torch is not imported."""

    name = "edge-packed"
    kind = Kind.DEVICE
    summary = "our streaming RNN-T on the device, packed, by our native engine"

    def __init__(self, *, beam: int = BEAM) -> None:
        """Set the options.

        Args:
            beam: how many hypotheses the search keeps; 1 is greedy search.

        Raises:
            EdgeSpeechError: it is not a whole number of at least 1.
        """
        self._beam = checked_beam(self.name, beam)
        self._model: PackedModel | None = None

    def path(self) -> Path:
        """The file that the environment names, else the shipped one."""
        named = os.environ.get(MODEL_VARIABLE)
        return Path(named) if named else shipped_models() / self.name / PACKED

    def missing(self) -> str | None:
        """That there is no engine, or no model."""
        from edgespeech.engine import native

        try:
            native()
        except EdgeSpeechError as error:
            return str(error)
        path = self.path()
        return None if path.is_file() else f"no model {path}: `edgespeech pack` makes one"

    def load(self) -> SystemInfo:
        """Map the model.

        Raises:
            EdgeSpeechError: it is not here, damaged, or of another format, or the engine is not built.
        """
        from edgespeech.data.files import sha256_file
        from edgespeech.engine.loader import EdgeFile
        from edgespeech.engine.runtime import PackedModel

        path = self.path()
        self.close()
        self._model = PackedModel(path)
        with EdgeFile(path) as file:
            weights = sum(rows * cols for rows, cols in map(file.shape, file.names))
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=path.stat().st_size,
            parameters=weights,
            chunk_s=CHUNK_S,
            citation=f"EdgeSpeech {__version__}, Apache-2.0; streaming RNN-T (Graves, 2012, arXiv:1211.3711)",
            config={
                "model": self._model.config.to_mapping(),
                "beam": self._beam,
                "tail_s": TAIL_S,
                "isa": self._model.isa,
                "provenance": self._model.provenance,
            },
            model_sha256={path.name: sha256_file(path)},
        )

    def open(self, request: Request) -> Stream:
        """Start an utterance.

        Raises:
            EdgeSpeechError: not loaded, or the language is not English.
        """
        if self._model is None:
            raise EdgeSpeechError(f"{self.name}: not loaded: call load() before open()")
        if request.language != "en":
            raise bad(self.name, "language", request.language, "en")
        return _PackedStream(self._model, self._beam)

    def close(self) -> None:
        """Let go of the model."""
        if self._model is not None:
            self._model.close()
        self._model = None


class _PackedStream(Stream):
    """One utterance in progress: a partial whenever the text changes, as `TransducerStream` has it."""

    def __init__(self, model: PackedModel, beam: int) -> None:
        from edgespeech.audio.features import StreamingLogMel

        self._features = StreamingLogMel()
        self._search = model.open(beam)
        self._pieces = model.pieces
        self._frame_s = model.config.frame_s
        self._heard = 0
        self._said = ""

    def accept(self, samples: Samples) -> Sequence[Event]:
        """Take samples of any number; a partial with words where the text is another than before."""
        self._heard += len(samples)
        self._search.accept(self._features.accept(samples))
        event = self._event(EventKind.PARTIAL)
        if event.text == self._said:
            return ()
        self._said = event.text
        return (event,)

    def finish(self) -> Sequence[Event]:
        """The final with its words."""
        tail = self._features.accept(np.zeros(round(TAIL_S * SAMPLE_RATE), np.float32))
        self._search.accept(np.concatenate([tail, self._features.finish()]))
        return (self._event(EventKind.FINAL),)

    def state_bytes(self) -> int:
        """Bytes of state, but for the extractor's last 25 ms of samples."""
        return self._search.state_bytes

    def close(self) -> None:
        """Let go of the state."""
        self._search.close()

    def _event(self, kind: EventKind) -> Event:
        from edgespeech.decoding.hypothesis import words_of

        words = words_of(self._search.best, self._pieces, self._frame_s, self._heard / SAMPLE_RATE)
        return Event(kind=kind, text=" ".join(word.text for word in words), words=words)
