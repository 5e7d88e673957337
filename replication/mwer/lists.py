"""Lists of hypotheses on test speech: what is best in them, what is expected of them, and when labels come."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgespeech.arms.packed_bench import Bench
from edgespeech.harness.checks import Row
from edgespeech.metrics.statistics import bootstrap_ratio
from edgespeech.metrics.word_errors import paired_over_seeds
from edgespeech.packed.runtime import PackedModel
from edgespeech.search.hypothesis import Hypothesis, words_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Lists:
    """A model's lists of N utterances.

    Attributes:
        best: word errors of the first hypothesis of each, with shape `(N,)`.
        oracle: of the one with the fewest.
        expected: by the probabilities of the search, normalised over the list.
        greedy: of greedy search.
        first: the first hypothesis of each.
        frame_s: seconds of a transcriber frame.
    """

    best: Floats
    oracle: Floats
    expected: Floats
    greedy: Floats
    first: Sequence[Hypothesis]
    frame_s: float


def lists_of(file: Path, bench: Bench, hypotheses: int) -> Lists:
    """The lists of a packed model; the beam is as wide as a list is long."""
    found: list[list[Hypothesis]] = []
    greedy: list[str] = []
    with PackedModel(file) as model:

        def text(one: Hypothesis) -> str:
            # Only the words count, not when the last one ends.
            words = words_of(one, model.pieces, model.config.frame_s, duration_s=0.0)
            return " ".join(word.text for word in words)

        for item in bench.spoken:
            encoded = model.transcribe(item.features)
            for beam in (hypotheses, 1):
                with closing(model.open(beam)) as stream:
                    stream.accept_encoded(encoded)
                    if beam == 1:
                        greedy.append(text(stream.best))
                    else:
                        found.append(stream.n_best)
        frame_s = model.config.frame_s
        texts = [[text(one) for one in each] for each in found]
    errors = np.full((len(found), hypotheses), np.nan)
    for place in range(hypotheses):
        # Where a list is shorter, its first hypothesis stands in, without any weight.
        told = bench.errors([each[place] if place < len(each) else each[0] for each in texts])
        errors[:, place] = told
    shares = np.zeros_like(errors)
    for row, each in enumerate(found):
        scores = np.array([one.score for one in each])
        own = np.exp(scores - scores.max())
        shares[row, : len(own)] = own / own.sum()
    return Lists(
        best=errors[:, 0],
        oracle=errors.min(axis=1),
        expected=(errors * shares).sum(axis=1),
        greedy=np.array(bench.errors(greedy), np.float64),
        first=[each[0] for each in found],
        frame_s=frame_s,
    )


def relative(ours: Sequence[Lists], theirs: Sequence[Lists], part: str, bench: Bench) -> Row:
    """The relative change of errors of a part of the lists (`best`, `expected`, `greedy`), over seeds."""
    a, b = (np.array([getattr(one, part) for one in each]) for each in (ours, theirs))
    if not b.sum():
        return {"skipped": f"no errors without it, {a.sum():g} with it"}
    return _row(a, b, b.mean(axis=0), bench)


def points(ours: Sequence[Lists], theirs: Sequence[Lists], part: str, bench: Bench) -> Row:
    """The difference of the word error rates of a part of the lists, over seeds."""
    a, b = (np.array([getattr(one, part) for one in each]) for each in (ours, theirs))
    return _row(a, b, np.array(bench.words, np.float64), bench)


def _row(a: Floats, b: Floats, words: Floats, bench: Bench) -> Row:
    speakers = [None if one.speaker is None else f"{one.corpus} {one.speaker}" for one in bench.utterances]
    found, units = paired_over_seeds(a, b, words, speakers, seed=bench.seed)
    ends = found.interval.as_row() | {"resampled": units}
    return {"measured": found.difference, **ends, "n": a.shape[1], "seeds": len(a)}


def later(ours: Sequence[Lists], theirs: Sequence[Lists], bench: Bench) -> Row:
    """By how many seconds labels come later, in the utterances in which both say the same, all seeds together."""
    delays, labels, speakers = [], [], []
    for own, its in zip(ours, theirs, strict=True):
        for one, other, spoken in zip(own.first, its.first, bench.utterances, strict=True):
            if one.labels and one.labels == other.labels:
                delays.append(own.frame_s * (sum(one.frames) - sum(other.frames)))
                labels.append(len(one.labels))
                # The same utterance of several seeds is one unit.
                speakers.append(f"{spoken.corpus} {spoken.speaker or spoken.id}")
    if len(set(speakers)) < 2:
        return {"skipped": "no two utterances in which both say the same"}
    interval = bootstrap_ratio(delays, labels, speakers, seed=bench.seed)
    return {"measured": sum(delays) / sum(labels), **interval.as_row(), "n": len(delays), "seeds": len(ours)}
