"""Streaming voice activity detection, and the rule that cuts speech into segments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.errors import bad

WINDOW = 512
"""Samples in one window of a detector: 32 ms."""


class Detector(Protocol):
    """Classifies one window after the other; one detector per stream, since it may have state."""

    def __call__(self, window: Samples) -> float:
        """The probability in [0, 1] that somebody speaks in the next window, with shape `(512,)`."""
        ...


DetectorFactory = Callable[[], Detector]


def silero_file() -> Path:
    """The network of `SileroDetector`."""
    from faster_whisper.utils import get_assets_path

    return Path(get_assets_path()) / "silero_vad_v6.onnx"


class SileroDetector:
    """Silero VAD (the ONNX file that faster-whisper carries, MIT licence), one window at a time.

    faster-whisper processes whole recordings only; this class carries the network's state and 64 samples of context
    between windows, with the same result.
    """

    CONTEXT = 64
    _STATE = (1, 1, 128)

    def __init__(self) -> None:
        from faster_whisper.vad import get_vad_model

        self._session: Any = get_vad_model().session
        self._h = np.zeros(self._STATE, dtype=np.float32)
        self._c = np.zeros(self._STATE, dtype=np.float32)
        self._context = np.zeros(self.CONTEXT, dtype=np.float32)

    def __call__(self, window: Samples) -> float:
        """The probability in [0, 1] that somebody speaks in the next window, with shape `(512,)`."""
        inputs = np.concatenate([self._context, window])[None]
        self._context = window[-self.CONTEXT :]
        probability, self._h, self._c = self._session.run(None, {"input": inputs, "h": self._h, "c": self._c})
        return float(np.squeeze(probability))


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRule:
    """When a segment of speech starts and ends.

    Attributes:
        silence_s: trailing silence that ends a segment.
        padding_s: audio before the first speech window that still belongs to the segment.
        speech: probability from which a window is speech.
        no_speech: probability below which silence starts; between the two the previous state continues.
    """

    silence_s: float = 0.7
    padding_s: float = 0.5
    speech: float = 0.5
    no_speech: float = 0.35

    def __post_init__(self) -> None:
        for field in ("silence_s", "padding_s"):
            if not 0 <= getattr(self, field) <= 10:
                raise bad("segment rule", field, getattr(self, field), "0 to 10 s")


class Segmenter:
    """Cuts a stream into segments of speech; positions are samples from the start of the stream.

    Attributes:
        start: where the open segment starts, padding included; None between segments.
        found: how many segments were opened so far.
    """

    def __init__(self, detector: Detector, rule: SegmentRule) -> None:
        self._detector = detector
        self._rule = rule
        self._waiting = np.zeros(0, dtype=np.float32)
        self._position = 0
        self._closed_at = 0
        self._silent_from: int | None = None
        self.start: int | None = None
        self.found = 0

    def accept(self, samples: Samples) -> list[tuple[int, int]]:
        """Take the next samples, with shape `(N,)`; return the segments that ended, as (start, end)."""
        audio = np.concatenate([self._waiting, samples])
        whole = len(audio) - len(audio) % WINDOW
        self._waiting = audio[whole:]
        ended = [self._window(audio[at : at + WINDOW]) for at in range(0, whole, WINDOW)]
        return [segment for segment in ended if segment is not None]

    def finish(self) -> list[tuple[int, int]]:
        """Process the last partial window, padded with zeros, as `accept` would."""
        return self.accept(np.zeros(-len(self._waiting) % WINDOW, dtype=np.float32))

    def _window(self, window: Samples) -> tuple[int, int] | None:
        begin = self._position
        self._position += WINDOW
        probability = self._detector(window)
        if probability >= self._rule.speech:
            self._silent_from = None
            if self.start is None:
                self.start = max(self._closed_at, begin - round(self._rule.padding_s * SAMPLE_RATE))
                self.found += 1
        elif probability < self._rule.no_speech and self._silent_from is None:
            self._silent_from = begin
        if self.start is None or self._silent_from is None:
            return None
        if self._position - self._silent_from < self._rule.silence_s * SAMPLE_RATE:
            return None
        segment = (self.start, self._position)
        self.start, self._silent_from, self._closed_at = None, None, self._position
        return segment
