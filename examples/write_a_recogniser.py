"""A recogniser in thirty lines: it counts bursts of sound, and ends the utterance after half a second of quiet.

It recognises no words, but it has everything that a recogniser has: partial results, an end-point and a final result,
without a clock of its own. Run this file to see its events on one recording, with the times that the harness adds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgespeech.cloud.link import load_profiles
from edgespeech.contracts import Event, EventKind, Kind, Recogniser, Request, Samples, Stream, SystemInfo
from edgespeech.harness.replay import replay
from edgespeech.harness.runner import run_utterance


class BurstStream(Stream):
    """One utterance."""

    def __init__(self, quiet_s: float) -> None:
        self.quiet_s, self.bursts, self.silent_s, self.ended = quiet_s, 0, 1.0, False

    def accept(self, samples: Samples) -> Sequence[Event]:
        """Take 0.1 s of audio; a loud piece after a quiet one is a new burst."""
        loud = float(np.sqrt(np.mean(samples**2))) > 0.02
        events = []
        if loud and self.silent_s > 0:
            self.bursts += 1
            events.append(Event(kind=EventKind.PARTIAL, text="burst " * self.bursts))
        self.silent_s = 0.0 if loud else self.silent_s + 0.1
        if self.bursts and self.silent_s >= self.quiet_s and not self.ended:
            self.ended = True
            events.append(Event(kind=EventKind.ENDPOINT))
            events.append(Event(kind=EventKind.FINAL, text="burst " * self.bursts))
        return events

    def finish(self) -> Sequence[Event]:
        """The audio is over: there must be a final result."""
        return () if self.ended else (Event(kind=EventKind.FINAL, text="burst " * self.bursts),)


class Bursts(Recogniser):
    """Counts bursts of sound."""

    name, kind, summary = "bursts", Kind.DEVICE, "counts bursts of sound"

    def __init__(self, *, quiet_s: float = 0.5) -> None:
        self.quiet_s = quiet_s  # `--option quiet_s=0.8` on the command line

    def load(self) -> SystemInfo:
        """Load nothing, and say what this is."""
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=0,
            parameters=0,
            chunk_s=0.1,
            citation="an example",
            config={"quiet_s": self.quiet_s},
        )

    def open(self, request: Request) -> Stream:
        """Start an utterance."""
        return BurstStream(self.quiet_s)


def main() -> None:
    """Run it over the first recording of the corpus that is in the repository."""
    from edgespeech.audio.io import read_audio
    from edgespeech.corpora.fetch import manifest_of

    manifest = manifest_of("assistant_mini")
    utterance = manifest.utterances[0]
    recogniser = Bursts()
    about = recogniser.load()
    samples = read_audio(manifest.audio_path(utterance))
    trace = run_utterance(recogniser, samples, Request(utterance_id=utterance.id), chunk_s=about.chunk_s)
    timeline = replay(trace, load_profiles()["loopback"], seed=0, cloud_speedup=1.0)
    print(f"{utterance.id}: {utterance.text!r}, end of speech at {utterance.eos_s} s")
    for stamped in timeline.events:
        print(f"{stamped.t_s:7.3f} s  {stamped.event.kind.value:<9} {stamped.event.text}")


if __name__ == "__main__":
    main()
