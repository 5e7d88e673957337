"""Log-mel features by the native engine: those of `edgespeech.audio.features`, for the recognisers that it runs."""

from __future__ import annotations

import numpy as np

from edgespeech.audio.features import Features
from edgespeech.contracts import Samples
from edgespeech.engine import native
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.packed.loader import native_errors


class NativeLogMel:
    """Features of audio that arrives in pieces of any size, bit by bit the same for any pieces and any kernels.

    They are within 1e-4 of those of `edgespeech.audio.features.StreamingLogMel`, and most are equal to them.

    Args:
        isa: the kernels, one of `edgespeech.packed.loader.isas()`; None for `chosen_isa()`.

    Raises:
        EdgeSpeechError: this CPU lacks the kernels, or there is no engine.
    """

    def __init__(self, isa: str | None = None) -> None:
        with native_errors():
            self._features = native().LogMel(isa)
        self._finished = False

    def accept(self, samples: Samples) -> Features:
        """Take samples and return the frames that they complete.

        Args:
            samples: 16 kHz, finite, in [-1, 1], with shape `(N,)`, N >= 0.

        Returns:
            The new frames, with shape `(T, 80)`, T >= 0. A frame is complete 12.5 ms after its centre.

        Raises:
            EdgeSpeechError: samples that are not such an array, or after `finish`.
        """
        if self._finished:
            raise EdgeSpeechError("features: samples after the end, expected a new NativeLogMel")
        try:  # what is right goes straight to native code: this is called for every chunk
            frames: Features = self._features.accept(samples)
        except TypeError:
            if samples.ndim != 1:
                raise bad("features", "shape of the samples", samples.shape, "(N,)") from None
            with native_errors():
                frames = self._features.accept(np.ascontiguousarray(samples, np.float32))
        except ValueError as error:
            raise EdgeSpeechError(str(error)) from error
        return frames

    def finish(self) -> Features:
        """The audio is over: return the last frames, with shape `(T, 80)`; missing samples are mirrored."""
        self._finished = True
        frames: Features = self._features.finish()
        return frames
