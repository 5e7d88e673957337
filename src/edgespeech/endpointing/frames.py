"""The stream of frames for all end-pointing policies: audio, transcription and hypothesis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.model.checkpoint import Trained
from edgespeech.model.config import FRAME_S
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.search.streaming import StreamingTranscriber

Vector = NDArray[np.float32]

_WINDOW_AHEAD_S = 0.0075
"""Delay of a frame after its audio: half of the difference between the 25 ms window and the 10 ms step."""


class Decoder(Protocol):
    """A search (`GreedyDecoder`, `BeamDecoder`, or one that also makes a lattice)."""

    def accept(self, encoded: Tensor) -> None:
        """Take the next transcriber frames, with shape `(T, J)`."""
        ...

    @property
    def best(self) -> Hypothesis:
        """The best hypothesis so far."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A transcriber frame, once it is complete.

    Attributes:
        audio_s: seconds of audio received by then.
        samples: received since the previous frame, with shape `(N,)`.
        encoded: the transcription, with shape `(J,)`.
        labels: of the best hypothesis.
        pause_s: since the last of them was emitted; infinite before the first.
    """

    audio_s: float
    samples: Samples
    encoded: Vector
    labels: tuple[int, ...]
    pause_s: float


class FrameStream:
    """Computes the frames of one utterance. They do not depend on the pieces of audio, up to rounding.

    Args:
        trained: the recogniser, whose transcriber frames these are.
        decoder: a new search of that recogniser; its hypothesis may be read at any time.
    """

    def __init__(self, trained: Trained, decoder: Decoder) -> None:
        self._frame_s = trained.model.config.frame_s
        self._stack = trained.model.config.stack
        self._transcriber = StreamingTranscriber(trained.model)
        self._decoder = decoder
        self._waiting = np.zeros(0, np.float32)
        self._heard = 0
        self._count = 0

    def accept(self, samples: Samples) -> list[Frame]:
        """Take samples and return the frames that they complete.

        Args:
            samples: 16 kHz, in [-1, 1], with shape `(N,)`, N >= 0.
        """
        return list(self.each(samples))

    def each(self, samples: Samples) -> Iterator[Frame]:
        """The same one by one: the decoder is advanced frame by frame."""
        self._waiting = np.concatenate([self._waiting, samples])
        yield from map(self._frame, self._transcriber.accept(samples))

    def finish(self) -> None:
        """End of the audio: pass the rest to the decoder, without further frames."""
        self._decoder.accept(self._transcriber.finish())

    @property
    def state_bytes(self) -> int:
        """Bytes of the transcriber's state."""
        return self._transcriber.state_bytes

    def _frame(self, encoded: Tensor) -> Frame:
        """The frame of the next transcription, with shape `(J,)`."""
        self._decoder.accept(encoded[None])
        self._count += 1
        end = round(((self._count * self._stack) * FRAME_S + _WINDOW_AHEAD_S) * SAMPLE_RATE)
        new, self._waiting = np.split(self._waiting, [end - self._heard])
        self._heard = end
        best = self._decoder.best
        pause_s = (self._count - 1 - best.frames[-1]) * self._frame_s if best.frames else math.inf
        return Frame(
            audio_s=end / SAMPLE_RATE,
            samples=new,
            encoded=encoded.numpy(),
            labels=best.labels,
            pause_s=pause_s,
        )
