"""Operations on lattices: best paths, arc posteriors, the oracle path, and pruning."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import exp, inf, log1p

import numpy as np
from numpy.typing import NDArray

from edgespeech.contracts import Word
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lattice.lattice import Arc, Final, Lattice, arranged

_ROUNDING = 1e-9
"""Tolerance for sums of the same scores in another order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scales:
    """Weights of scores: a path's total score is the weighted sum of its scores.

    `score + language * L - prediction * P + word` for every arc; the first two for its end.
    Source: papers.md section 8 (b); subtracting the internal language model: E. Variani et al., "Hybrid
    autoregressive transducer" (ICASSP 2020), and Z. Meng et al., "Internal language model estimation" (SLT 2021).

    Attributes:
        language: weight of the language model's score.
        prediction: weight of the prediction score, which is subtracted.
        word: bonus per word.
    """

    language: float = 0.0
    prediction: float = 0.0
    word: float = 0.0

    def arc(self, arc: Arc) -> float:
        """The weighted score of an arc."""
        return arc.score + self.language * arc.language - self.prediction * arc.prediction + self.word

    def end(self, final: Final) -> float:
        """The weighted score of a final node."""
        return final.score + self.language * final.language


PLAIN = Scales()
"""The transducer's scores alone."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path from the start to a final node.

    Attributes:
        arcs: in order; empty for the empty sentence.
        score: its weighted score.
    """

    arcs: tuple[Arc, ...]
    score: float

    @property
    def text(self) -> str:
        """Its words."""
        return " ".join(arc.word for arc in self.arcs)

    def words(self, frame_s: float) -> tuple[Word, ...]:
        """Its words with their times."""
        return tuple(
            Word(text=arc.word, start_s=arc.start * frame_s, end_s=arc.end * frame_s) for arc in self.arcs
        )


def paths(lattice: Lattice, scales: Scales = PLAIN) -> Iterator[Path]:
    """All paths, best first; a lattice may have very many.

    A* search with the exact best remaining score as its heuristic.
    """
    rest = _best_rest(lattice, scales)
    count = 0
    waiting: list[tuple[float, int, float, int | None, tuple[Arc, ...]]] = [(-rest[0], 0, 0.0, 0, ())]
    while waiting:
        _, _, score, node, arcs = heapq.heappop(waiting)
        if node is None:
            yield Path(arcs, score)
            continue
        steps: list[tuple[float, float, int | None, tuple[Arc, ...]]] = []
        if node in lattice.final:
            ended = score + scales.end(lattice.final[node])
            steps.append((ended, ended, None, arcs))
        for arc in lattice.leaving[node]:
            said = score + scales.arc(arc)
            steps.append((said + rest[arc.target], said, arc.target, (*arcs, arc)))
        for estimate, so_far, at, through in steps:
            count += 1
            heapq.heappush(waiting, (-estimate, count, so_far, at, through))


def best_path(lattice: Lattice, scales: Scales = PLAIN) -> Path:
    """The path with the highest score."""
    return next(paths(lattice, scales))


def n_best(lattice: Lattice, count: int, scales: Scales = PLAIN) -> list[Path]:
    """The best `count` paths, or all if there are fewer, best first; all have different words."""
    return list(islice(paths(lattice, scales), count))


def spoken(lattice: Lattice, text: str) -> Path | None:
    """The path with exactly these words; None if there is none."""
    node, arcs = 0, []
    for word in text.split():
        found = next((arc for arc in lattice.leaving[node] if arc.word == word), None)
        if found is None:
            return None
        arcs.append(found)
        node = found.target
    if node not in lattice.final:
        return None
    return Path(tuple(arcs), sum(map(PLAIN.arc, arcs)) + PLAIN.end(lattice.final[node]))


def posteriors(lattice: Lattice, scales: Scales = PLAIN) -> list[float]:
    """The posterior probability of each arc, over all paths of the lattice."""
    before = [0.0] + [-inf] * (lattice.nodes - 1)
    for arc in lattice.arcs:
        before[arc.target] = log_add(before[arc.target], before[arc.source] + scales.arc(arc))
    after = [
        scales.end(lattice.final[node]) if node in lattice.final else -inf for node in range(lattice.nodes)
    ]
    for arc in reversed(lattice.arcs):
        after[arc.source] = log_add(after[arc.source], scales.arc(arc) + after[arc.target])
    return [
        exp(min(0.0, before[arc.source] + scales.arc(arc) + after[arc.target] - after[0]))
        for arc in lattice.arcs
    ]


def oracle(lattice: Lattice, reference: Sequence[str]) -> tuple[Path, int]:
    """The path with the fewest word errors against a reference, and their number.

    Words are compared literally: normalise the reference like the lattice's words.
    """
    errors = _distances(lattice, reference)
    node = min(lattice.final, key=lambda end: (int(errors[end, -1]), end))
    fewest, place = int(errors[node, -1]), len(reference)
    entering: list[list[Arc]] = [[] for _ in range(lattice.nodes)]
    for arc in lattice.arcs:
        entering[arc.target].append(arc)
    arcs: list[Arc] = []
    while node or place:
        left = int(errors[node, place])
        if place and left == errors[node, place - 1] + 1:  # a deleted word of the reference
            place -= 1
            continue
        for arc in entering[node]:
            wrong = place == 0 or arc.word != reference[place - 1]
            if place and left == errors[arc.source, place - 1] + wrong:
                place -= 1
                break
            if left == errors[arc.source, place] + 1:
                break
        arcs.append(arc)
        node = arc.source
    arcs.reverse()
    return Path(tuple(arcs), sum(map(PLAIN.arc, arcs)) + lattice.final[_end(arcs)].score), fewest


def prune(lattice: Lattice, beam: float, scales: Scales = PLAIN) -> Lattice:
    """Beam pruning: the arcs and ends on a path whose score is within `beam` of the best.

    Raises:
        EdgeSpeechError: the beam is not 0 or more.
    """
    if not beam >= 0:
        raise bad("lattice", "beam", beam, "0 or more")
    return _kept(lattice, *_worth(lattice, scales), beam)


def prune_to(lattice: Lattice, fits: Callable[[Lattice], bool], scales: Scales = PLAIN) -> Lattice:
    """Prune with the widest beam for which the result fits, for example into a number of arcs or bytes.

    Args:
        lattice: what to prune.
        fits: whether a lattice is small enough; monotone in the beam.
        scales: weights of scores.

    Raises:
        EdgeSpeechError: not even the best path fits.
    """
    arcs, ends = _worth(lattice, scales)
    best = max(ends)
    beams = sorted({best - worth for worth in (*arcs, *ends)} | {0.0})
    low, high = -1, len(beams) - 1  # the widest one that fits, and one that is as wide or wider
    kept: Lattice | None = None
    while low < high:
        middle = (low + high + 1) // 2
        tried = _kept(lattice, arcs, ends, beams[middle])
        if fits(tried):
            low, kept = middle, tried
        else:
            high = middle - 1
    if kept is None:
        raise EdgeSpeechError("lattice: not even its best path fits")
    return kept


def _distances(lattice: Lattice, reference: Sequence[str]) -> NDArray[np.int64]:
    """Edit distances from the start to every node and word of the reference, with shape `(nodes, R + 1)`."""
    places = np.arange(len(reference) + 1)
    errors = np.full((lattice.nodes, len(places)), lattice.nodes + len(places), np.int64)
    errors[0] = places
    for node, arcs in enumerate(lattice.leaving):
        here = errors[node]
        here[:] = np.minimum.accumulate(here - places) + places  # deleted words of the reference
        for arc in arcs:
            wrong = np.array([word != arc.word for word in reference], np.int64)
            there = errors[arc.target]
            np.minimum(there, here + 1, out=there)
            np.minimum(there[1:], here[:-1] + wrong, out=there[1:])
    return errors


def _best_rest(lattice: Lattice, scales: Scales) -> list[float]:
    """The best score from each node to an end."""
    rest = [
        scales.end(lattice.final[node]) if node in lattice.final else -inf for node in range(lattice.nodes)
    ]
    for arc in reversed(lattice.arcs):
        rest[arc.source] = max(rest[arc.source], scales.arc(arc) + rest[arc.target])
    return rest


def _worth(lattice: Lattice, scales: Scales) -> tuple[list[float], list[float]]:
    """The score of the best path through each arc, and to each final node."""
    rest = _best_rest(lattice, scales)
    so_far = [0.0] + [-inf] * (lattice.nodes - 1)
    for arc in lattice.arcs:
        so_far[arc.target] = max(so_far[arc.target], so_far[arc.source] + scales.arc(arc))
    arcs = [so_far[arc.source] + scales.arc(arc) + rest[arc.target] for arc in lattice.arcs]
    return arcs, [so_far[final.node] + scales.end(final) for final in lattice.finals]


def _kept(lattice: Lattice, arcs: Sequence[float], ends: Sequence[float], beam: float) -> Lattice:
    """The lattice of the arcs and ends within the beam; it always contains the best path."""
    floor = max(ends) - beam - _ROUNDING
    return arranged(
        [arc for arc, worth in zip(lattice.arcs, arcs, strict=True) if worth >= floor],
        [final for final, worth in zip(lattice.finals, ends, strict=True) if worth >= floor],
        lattice.frame_s,
    )


def _end(arcs: Sequence[Arc]) -> int:
    return arcs[-1].target if arcs else 0


def log_add(a: float, b: float) -> float:
    """log(e^a + e^b)."""
    if a < b:
        a, b = b, a
    return a if b == -inf else a + log1p(exp(b - a))
