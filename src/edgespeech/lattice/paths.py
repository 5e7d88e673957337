"""What a lattice says: its best paths, how sure it is of each arc, the path nearest to a reference, and pruning."""

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
"""Sums of the same scores in another order differ by less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scales:
    """What a path is worth: the sum of its scores, each times its weight.

    `score + language * L - prediction * P + word` for every arc; the first two for its end.
    Source: papers.md section 8 (b); subtracting the internal language model: E. Variani et al., "Hybrid
    autoregressive transducer" (ICASSP 2020), and Z. Meng et al., "Internal language model estimation" (SLT 2021).

    Attributes:
        language: weight of the language model's score.
        prediction: how much of the prediction score is taken away.
        word: what every word adds.
    """

    language: float = 0.0
    prediction: float = 0.0
    word: float = 0.0

    def arc(self, arc: Arc) -> float:
        """What an arc is worth."""
        return arc.score + self.language * arc.language - self.prediction * arc.prediction + self.word

    def end(self, final: Final) -> float:
        """What ending is worth."""
        return final.score + self.language * final.language


PLAIN = Scales()
"""The transducer's scores alone."""


@dataclass(frozen=True, slots=True)
class Path:
    """From the start to a final node.

    Attributes:
        arcs: in order; none for the empty sentence.
        score: what it is worth.
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

    A* search with the best that can still come as its estimate, which is exact.
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
    """The path that is worth most."""
    return next(paths(lattice, scales))


def n_best(lattice: Lattice, count: int, scales: Scales = PLAIN) -> list[Path]:
    """So many paths, or all where there are fewer, best first; all say different words."""
    return list(islice(paths(lattice, scales), count))


def spoken(lattice: Lattice, text: str) -> Path | None:
    """The path that says these words, and no others; None where there is none."""
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
    """The probability of each arc, among all paths of the lattice."""
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
    """The path with the fewest word errors against a reference, and how many these are.

    Words are compared as they are: normalise the reference as the lattice's words are.
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
        if place and left == errors[node, place - 1] + 1:  # a word of the reference that nobody said
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
    """The arcs and ends that are on a path worth at most so much less than the best one.

    Raises:
        EdgeSpeechError: the beam is not 0 or more.
    """
    if not beam >= 0:
        raise bad("lattice", "beam", beam, "0 or more")
    return _kept(lattice, *_worth(lattice, scales), beam)


def prune_to(lattice: Lattice, fits: Callable[[Lattice], bool], scales: Scales = PLAIN) -> Lattice:
    """The lattice pruned by the widest beam with which it fits, such as into so many arcs or bytes.

    Args:
        lattice: what to prune.
        fits: whether a lattice is small enough; what is pruned further fits too.
        scales: what paths are worth.

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
    """Fewest errors from the start to every node and word of the reference, with shape `(nodes, R + 1)`."""
    places = np.arange(len(reference) + 1)
    errors = np.full((lattice.nodes, len(places)), lattice.nodes + len(places), np.int64)
    errors[0] = places
    for node, arcs in enumerate(lattice.leaving):
        here = errors[node]
        here[:] = np.minimum.accumulate(here - places) + places  # words of the reference that nobody said
        for arc in arcs:
            wrong = np.array([word != arc.word for word in reference], np.int64)
            there = errors[arc.target]
            np.minimum(there, here + 1, out=there)
            np.minimum(there[1:], here[:-1] + wrong, out=there[1:])
    return errors


def _best_rest(lattice: Lattice, scales: Scales) -> list[float]:
    """What the best way from each node to an end is worth."""
    rest = [
        scales.end(lattice.final[node]) if node in lattice.final else -inf for node in range(lattice.nodes)
    ]
    for arc in reversed(lattice.arcs):
        rest[arc.source] = max(rest[arc.source], scales.arc(arc) + rest[arc.target])
    return rest


def _worth(lattice: Lattice, scales: Scales) -> tuple[list[float], list[float]]:
    """What the best path through each arc is worth, and the best one to each final node."""
    rest = _best_rest(lattice, scales)
    so_far = [0.0] + [-inf] * (lattice.nodes - 1)
    for arc in lattice.arcs:
        so_far[arc.target] = max(so_far[arc.target], so_far[arc.source] + scales.arc(arc))
    arcs = [so_far[arc.source] + scales.arc(arc) + rest[arc.target] for arc in lattice.arcs]
    return arcs, [so_far[final.node] + scales.end(final) for final in lattice.finals]


def _kept(lattice: Lattice, arcs: Sequence[float], ends: Sequence[float], beam: float) -> Lattice:
    """The lattice of what is worth at most so much less than the best; the best path is always kept."""
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
