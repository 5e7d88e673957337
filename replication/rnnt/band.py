"""Word errors in a narrow band over those in the wide band, of the same utterances."""

from __future__ import annotations

from collections.abc import Sequence

from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Row
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.metrics.word_errors import word_errors_of
from edgespeech.records import records


def errors_over(
    narrow: Sequence[records.Row], wide: Sequence[records.Row], normaliser: str, *, seed: int
) -> Row:
    """The ratio of the word errors of two runs of one system, over the utterances that both have.

    Args:
        narrow: rows of the run in the narrow band.
        wide: rows of the other run.
        normaliser: by which words are compared.
        seed: of the interval, which is over speakers.

    Raises:
        EdgeSpeechError: there is no word error in the wide band, or there are fewer than two utterances.
    """
    there = {row.id: row for row in narrow}
    both = [row for row in wide if row.id in there]
    counter = word_errors_of([row.ref for row in both], normaliser)
    above = [count.errors for count in counter.counts([there[row.id].hyp_raw for row in both])]
    below = [count.errors for count in counter.counts([row.hyp_raw for row in both])]
    if not sum(below):
        raise EdgeSpeechError("no word error in the wide band, expected some to compare with")
    found = bootstrap_ratio(above, below, [row.speaker for row in both], seed=seed)
    return {**found.as_row(), "measured": sum(above) / sum(below), "n": len(both)}
