"""The one stream of frames that every end-pointing policy looks at: what was heard, and what is believed of it."""

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
"""A frame is complete so long after the audio that it covers: half of what a 25 ms window exceeds its 10 ms."""


class Decoder(Protocol):
    """A search (`GreedyDecoder`, `BeamDecoder`, or one that also makes a lattice)."""

    def accept(self, encoded: Tensor) -> None:
        """Take the next transcriber frames, with shape `(T, J)`."""
        ...

    @property
    def best(self) -> Hypothesis:
        """What was most likely said so far."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A transcriber frame, once it is complete.

    Attributes:
        audio_s: seconds of audio that had been heard then.
        samples: what was heard since the frame before, with shape `(N,)`.
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
    """Makes the frames of one utterance. Its audio in one piece gives what any other pieces give, up to rounding.

    Args:
        trained: the recogniser; every one of its frames is one of ours.
        decoder: a search of that recogniser, not used before; what it believes may be read at any time.
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
        """The same one by one: the decoder hears no more than the frames that were taken."""
        self._waiting = np.concatenate([self._waiting, samples])
        yield from map(self._frame, self._transcriber.accept(samples))

    def finish(self) -> None:
        """The audio is over: let the decoder hear what is left, which makes no more frames."""
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
