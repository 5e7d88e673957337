"""A second stream of features, such as where somebody looks, that has its own clock and may fail by itself.

What it says counts from its own times, moved to the audio's clock. A stream that stalls or ends leaves its last value,
with its age; one whose clock runs backward, or whose values are none, is refused, and the values before stay.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError, bad

MOST_WAITING = 10_000
"""Values that may be ahead of the audio."""

Vector = NDArray[np.float32]


class State(StrEnum):
    """What a second stream is doing at a time of the audio."""

    NOTHING = "nothing"
    """There was no value yet."""
    LIVE = "live"
    STALLED = "stalled"
    """Its last value is older than it should be."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Clock:
    """The audio's time of a time of the stream: `offset_s + rate * own_s`.

    Attributes:
        offset_s: audio time at which the stream's clock was 0, in seconds, finite.
        rate: seconds of audio for each second of the stream's clock, 0.5 to 2.
    """

    offset_s: float = 0.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.offset_s):
            raise bad("second stream", "offset_s", self.offset_s, "a finite number of seconds")
        if not 0.5 <= self.rate <= 2:
            raise bad("second stream", "rate", self.rate, "0.5 to 2")

    @classmethod
    def through(cls, first: tuple[float, float], second: tuple[float, float]) -> Clock:
        """The clock on which two moments agree, each as the stream's time and the audio's.

        Raises:
            EdgeSpeechError: they are not in order, or the rate is out of range.
        """
        (own, audio), (later, audio_later) = first, second
        if not later > own:
            raise bad("second stream", "second moment", later, f"later than the first, {own}")
        rate = (audio_later - audio) / (later - own)
        return cls(audio - rate * own, rate)

    def audio_s(self, own_s: float) -> float:
        """The audio's time."""
        return self.offset_s + self.rate * own_s


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a second stream at a time of the audio.

    Attributes:
        state: see `State`.
        value: the last one, with shape `(width,)`; None if there was none.
        age_s: how long ago it was made, in seconds; infinite if there was none.
    """

    state: State
    value: Vector | None
    age_s: float


class SecondStream:
    """Values with times of their own, read at times of the audio. No value counts before its time.

    Args:
        name: for messages.
        width: numbers of a value, at least 1.
        clock: of its times.
        stalls_after_s: age from which on the last value is stale, above 0.

    Raises:
        EdgeSpeechError: an argument out of range.
    """

    def __init__(
        self, name: str, width: int, *, clock: Clock | None = None, stalls_after_s: float = 0.5
    ) -> None:
        if width < 1:
            raise bad(name, "width", width, "at least 1")
        if not 0 < stalls_after_s < math.inf:
            raise bad(name, "stalls_after_s", stalls_after_s, "above 0 s")
        self.name, self.width = name, width
        self._clock = clock or Clock()
        self._stalls_after_s = stalls_after_s
        self._waiting: deque[tuple[float, Vector]] = deque()
        self._latest: float | None = None
        self._ended_s: float | None = None
        self._value: Vector | None = None
        self._value_s = -math.inf
        self._read_s = -math.inf

    def push(self, own_s: float, value: Vector) -> None:
        """Take the next value; one that is refused changes nothing.

        Args:
            own_s: its time on the stream's clock, after that of the value before.
            value: with shape `(width,)`, finite.

        Raises:
            EdgeSpeechError: the time is not finite or not later than the one before, the value has another shape or
                is not finite, the stream has ended, or too many values wait for the audio.
        """
        if self._ended_s is not None:
            raise EdgeSpeechError(f"{self.name}: a value at {own_s} s after the end, expected none")
        if not math.isfinite(own_s):
            raise bad(self.name, "time", own_s, "a finite number of seconds")
        if self._latest is not None and own_s <= self._latest:
            raise bad(self.name, "time", own_s, f"later than the one before, {self._latest} s")
        if value.shape != (self.width,):
            raise bad(self.name, f"shape of the value at {own_s} s", value.shape, f"({self.width},)")
        if not np.isfinite(value).all():
            raise bad(self.name, f"value at {own_s} s", value.tolist(), "finite numbers")
        if len(self._waiting) >= MOST_WAITING:
            raise bad(
                self.name, "values ahead of the audio", len(self._waiting) + 1, f"at most {MOST_WAITING}"
            )
        self._latest = own_s
        self._waiting.append((self._clock.audio_s(own_s), value.astype(np.float32)))

    def end(self) -> None:
        """The stream is over, perhaps earlier than the audio."""
        last = self._latest if self._latest is not None else -math.inf
        self._ended_s = self._clock.audio_s(last) if math.isfinite(last) else last

    def at(self, audio_s: float) -> Observation:
        """What is known at a time of the audio.

        Args:
            audio_s: seconds, not before the time of the last call.

        Raises:
            EdgeSpeechError: the audio's own time runs backward.
        """
        if not audio_s >= self._read_s:
            raise bad(self.name, "time of the audio", audio_s, f"at least {self._read_s} s, as read before")
        self._read_s = audio_s
        while self._waiting and self._waiting[0][0] <= audio_s:
            self._value_s, self._value = self._waiting.popleft()
        age = audio_s - self._value_s
        if self._ended_s is not None and not self._waiting:
            return Observation(State.ENDED, self._value, age)
        if self._value is None:
            return Observation(State.NOTHING, None, math.inf)
        return Observation(State.STALLED if age > self._stalls_after_s else State.LIVE, self._value, age)
