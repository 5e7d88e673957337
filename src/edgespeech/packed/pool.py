"""Many streams of a packed model on one core: those that wait are searched on together, with one pass over the weights.

What a stream finds does not depend on the streams beside it, bit by bit.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from edgespeech.audio.features import Features
from edgespeech.contracts import Samples
from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.log_mel import NativeLogMel
from edgespeech.packed.runtime import PackedModel, PackedStream, accept_batch
from edgespeech.search.hypothesis import Hypothesis

MOST_TOGETHER = 8
"""Streams that share a pass over the weights: as many vectors as the kernels multiply at once."""


class PooledStream:
    """An utterance in progress, from `StreamPool.open`. What it is given waits for `StreamPool.advance`."""

    def __init__(self, pool: StreamPool, stream: PackedStream, stack: int) -> None:
        self._pool = pool
        self._features = NativeLogMel()
        self._stream = stream
        self._stack = stack
        self._frames = 0  # of the features that were searched
        self.waiting: deque[Features] = deque()
        """Features that wait, one array for each `accept` that completed frames."""

    def accept(self, samples: Samples) -> None:
        """Take samples.

        Args:
            samples: 16 kHz, finite, in [-1, 1], with shape `(N,)`, N >= 0.

        Raises:
            EdgeSpeechError: samples that are not such an array, or after `finish`.
        """
        self._wait(self._features.accept(samples))

    def finish(self) -> None:
        """The audio is over: what completes its last frames waits too."""
        self._wait(self._features.finish())

    @property
    def best(self) -> Hypothesis:
        """The best hypothesis for what was searched so far."""
        return self._stream.best

    @property
    def n_best(self) -> list[Hypothesis]:
        """The hypotheses kept, likeliest first."""
        return self._stream.n_best

    def close(self) -> None:
        """Release the state, and forget what waits."""
        self._pool.forget(self)
        self.waiting.clear()
        self._stream.close()

    def _wait(self, features: Features) -> None:
        if len(features):
            self.waiting.append(features)
            self._pool.wait(self)

    @property
    def shape(self) -> tuple[int, int]:
        """Frames of what waits first, and frames that the transcriber has of an incomplete stack."""
        return len(self.waiting[0]), self._frames % self._stack

    def take(self) -> tuple[PackedStream, Features]:
        """What waits first, no longer waiting, and the stream to search it."""
        features = self.waiting.popleft()
        self._frames += len(features)
        return self._stream, features


class StreamPool:
    """Streams of one model. One thread uses a pool and its streams.

    Args:
        model: stays the caller's to close, after the streams.
        beam: hypotheses that each search keeps; 1 is greedy search.
    """

    def __init__(self, model: PackedModel, beam: int) -> None:
        self._model = model
        self._beam = beam
        self._waiting: deque[PooledStream] = deque()  # a stream as often as it has something that waits

    def open(self) -> PooledStream:
        """Start an utterance.

        Raises:
            EdgeSpeechError: the beam is not a whole number of at least 1, or the model is closed.
        """
        return PooledStream(self, self._model.open(self._beam), self._model.config.stack)

    def wait(self, stream: PooledStream) -> None:
        """One more array of a stream waits."""
        self._waiting.append(stream)

    def forget(self, stream: PooledStream) -> None:
        """Nothing of a stream waits any longer."""
        self._waiting = deque(each for each in self._waiting if each is not stream)

    def advance(self) -> list[PooledStream]:
        """Search on with what has waited longest, and with what of other streams goes together with it.

        Returns:
            The streams that were searched on, 1 to `MOST_TOGETHER` of them; none where nothing waits.

        Raises:
            EdgeSpeechError: a value of the model overflows, which closes these streams.
        """
        if not self._waiting:
            return []
        shape = self._waiting[0].shape
        chosen: dict[int, PooledStream] = {}
        rest: list[PooledStream] = []
        seen: set[int] = set()
        while self._waiting and len(chosen) < MOST_TOGETHER:
            stream = self._waiting.popleft()
            if id(stream) not in seen and stream.shape == shape:
                chosen[id(stream)] = stream
            else:
                rest.append(stream)
            seen.add(id(stream))
        self._waiting.extendleft(reversed(rest))
        taken = [stream.take() for stream in chosen.values()]
        streams = [stream for stream, _ in taken]
        try:
            accept_batch(streams, np.stack([features for _, features in taken]))
        except EdgeSpeechError:
            for stream in chosen.values():
                self.forget(stream)
            raise
        return list(chosen.values())
