"""Scorers that wait for silence: of the decoder, of the signal's level, or of a voice activity detector."""

from __future__ import annotations

import math

import numpy as np

from edgespeech.audio.vad import WINDOW, Detector, SegmentRule
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.endpointing.frames import Frame
from edgespeech.endpointing.policy import Scorer

_QUIETEST_DB = -90.0
_RISE_DB_PER_S = 3.0
_FALL_DB_PER_S = 10.0


class DecoderSilence(Scorer):
    """Seconds since the decoder's last word piece; none before the first. Source: Kaldi's and sherpa-onnx's rule of
    trailing silence after words (`rule2`).
    """

    def accept(self, frame: Frame) -> float:
        """See above."""
        return 0.0 if math.isinf(frame.pause_s) else frame.pause_s


class Level:
    """The level of the sound relative to its slowly tracked floor and peak.

    The floor is the lowest level so far, rising by 3 dB a second; the peak the highest, falling by 10 dB a second.
    """

    def __init__(self) -> None:
        self.floor_db = math.inf
        self.peak_db = -math.inf
        self.now_db = _QUIETEST_DB

    def accept(self, samples: Samples) -> None:
        """Take samples, with shape `(N,)`, N >= 1."""
        power = float(np.dot(samples, samples)) / len(samples)
        seconds = len(samples) / SAMPLE_RATE
        self.now_db = max(10 * math.log10(power), _QUIETEST_DB) if power > 0 else _QUIETEST_DB
        self.floor_db = min(self.now_db, self.floor_db + _RISE_DB_PER_S * seconds)
        self.peak_db = max(self.now_db, self.peak_db - _FALL_DB_PER_S * seconds)


class EnergySilence(Scorer):
    """Seconds since the level was last in the upper part between floor and peak.

    Args:
        share: of the range from floor to peak, in dB, above which is speech.
        least_db: above the floor, below which is silence.
    """

    def __init__(self, share: float = 0.4, least_db: float = 10.0) -> None:
        self._share = share
        self._least_db = least_db
        self._level = Level()
        self._silent_s: float | None = None

    def accept(self, frame: Frame) -> float:
        """See above; 0 before the first speech."""
        level = self._level
        level.accept(frame.samples)
        above = max(self._least_db, self._share * (level.peak_db - level.floor_db))
        if level.now_db >= level.floor_db + above:
            self._silent_s = 0.0
        elif self._silent_s is not None:
            self._silent_s += len(frame.samples) / SAMPLE_RATE
        return self._silent_s or 0.0


class DetectedSilence(Scorer):
    """Seconds since a voice activity detector last detected speech; 0 before that.

    Args:
        detector: a new one, for windows of 512 samples.
        rule: probabilities from which a window is speech, and below which a silence starts.
    """

    def __init__(self, detector: Detector, rule: SegmentRule | None = None) -> None:
        self._detector = detector
        self._rule = rule or SegmentRule()
        self._waiting = np.zeros(0, np.float32)
        self._silent_s: float | None = None

    def accept(self, frame: Frame) -> float:
        """See above."""
        self._waiting = np.concatenate([self._waiting, frame.samples])
        while len(self._waiting) >= WINDOW:
            probability = self._detector(self._waiting[:WINDOW])
            self._waiting = self._waiting[WINDOW:]
            silent = self._silent_s is not None and self._silent_s > 0
            if probability >= self._rule.speech:
                self._silent_s = 0.0
            elif self._silent_s is not None and (silent or probability < self._rule.no_speech):
                self._silent_s += WINDOW / SAMPLE_RATE
        return self._silent_s or 0.0
