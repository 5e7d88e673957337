"""What the runner costs by itself: the null recogniser, 10 s of audio in chunks of 100 ms."""

from __future__ import annotations

from time import perf_counter

from benchmarks.common import noise
from edgespeech.contracts import Request
from edgespeech.harness.runner import run_utterance
from edgespeech.systems.null import Null

AUDIO_S = 10
REPEATS = 50


class Runner:
    def setup(self) -> None:
        self.recogniser = Null()
        self.chunk_s = self.recogniser.load().chunk_s
        self.samples = noise(AUDIO_S)

    def _run(self) -> None:
        run_utterance(self.recogniser, self.samples, Request(utterance_id="x"), chunk_s=self.chunk_s)

    def time_null_10s(self) -> None:
        self._run()

    def track_overhead(self) -> float:
        """Microseconds of harness per second of audio, best of several runs."""
        best = float("inf")
        for _ in range(REPEATS):
            start = perf_counter()
            self._run()
            best = min(best, perf_counter() - start)
        return best / AUDIO_S * 1e6

    track_overhead.unit = "us/s of audio"  # type: ignore[attr-defined]  # asv reads it from the function
