"""When a stream speaks: partials, and finals behind pauses, with a search that says what it is told to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgespeech.contracts import Event, EventKind, Samples
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.search.partials import PartialsStream

PIECES = ("", "\N{LOWER ONE EIGHTH BLOCK}tea", "\N{LOWER ONE EIGHTH BLOCK}now")
FRAME_S, CHUNK = 0.04, 1920
TEA = Hypothesis((1,), (2,))  # said when 0.12 s were heard
TEA_NOW = Hypothesis((1, 2), (2, 14))  # said when 0.6 s were heard
TWO = Hypothesis((2,), (2,))


class Told(PartialsStream):
    """Believes from each chunk on what the test says."""

    def __init__(
        self, beliefs: Mapping[int, Hypothesis], final_s: float | None, last: Hypothesis | None
    ) -> None:
        super().__init__(PIECES, FRAME_S, final_s)
        self._beliefs = dict(beliefs)
        self._now = Hypothesis()
        self._chunk = 0
        self._last = last

    def _hear(self, samples: Samples) -> None:
        self._now = self._beliefs.get(self._chunk, self._now)
        self._chunk += 1

    def _end(self) -> None:
        self._now = self._last or self._now

    def _best(self) -> Hypothesis:
        return self._now


def said(
    beliefs: Mapping[int, Hypothesis], *, final_s: float | None = 0.24, last: Hypothesis | None = None
) -> list[tuple[int, Event]]:
    """What comes of 8 chunks of 0.12 s and their end, each with the chunk's number."""
    stream = Told(beliefs, final_s, last)
    events = [(at, event) for at in range(8) for event in stream.accept(np.zeros(CHUNK, np.float32))]
    return events + [(8, event) for event in stream.finish()]


def brief(events: list[tuple[int, Event]]) -> list[tuple[int, str, str]]:
    return [(at, event.kind.value, event.text) for at, event in events]


def test_a_pause_ends_the_utterance() -> None:
    events = said({0: TEA})
    assert brief(events) == [(0, "partial", "tea"), (2, "endpoint", ""), (2, "final", "tea")]
    endpoint, final = events[1][1], events[2][1]
    assert endpoint.audio_s == pytest.approx(0.36)
    assert final.words == events[0][1].words


def test_the_pause_counts_from_the_last_piece() -> None:
    assert [at for at, event in said({0: TEA}, final_s=0.25) if event.kind is EventKind.ENDPOINT] == [3]


def test_later_words_are_a_further_segment_of_the_same_utterance() -> None:
    assert brief(said({0: TEA, 4: TEA_NOW})) == [
        (0, "partial", "tea"),
        (2, "endpoint", ""),
        (2, "final", "tea"),
        (4, "partial", "tea now"),
        (6, "endpoint", ""),
        (6, "final", "tea now"),
    ]


def test_a_changed_hypothesis_after_the_end_is_another_final() -> None:
    found = brief(said({0: TEA, 5: TWO}))
    assert found[3:] == [(5, "partial", "now"), (5, "endpoint", ""), (5, "final", "now")]
    assert brief(said({0: TEA}, last=TEA_NOW))[3:] == [(8, "final", "tea now")]


@pytest.mark.parametrize("final_s", [None, 30.0])
def test_without_a_pause_the_audio_ends_it(final_s: float | None) -> None:
    assert brief(said({0: TEA}, final_s=final_s)) == [(0, "partial", "tea"), (8, "final", "tea")]


def test_a_pause_needs_words_before_it() -> None:
    assert brief(said({})) == [(8, "final", "")]
