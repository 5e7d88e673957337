"""Generation of a word lattice from the steps of a search.

A search is frame-synchronous, so its steps form a graph of states in time. Forward and backward sums over it give the
probability of every step, over all alignments. Then (1) a state that persists over several frames becomes one node, and
a label emitted to the same node in several frames becomes one arc; (2) arcs of word pieces become arcs of words; (3)
paths with the same words become one. An arc's score is the logarithm of its share of the probability that arrives at
its source node. Without merging, sums of scores are the probabilities of whole paths; with merging, a path's
probability is that of a chain whose next word depends on the node alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, inf, log
from typing import NamedTuple

from edgespeech.core.labels import BLANK, SPACE
from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.lattice import Arc, Final, Lattice, arranged, in_order, trimmed
from edgespeech.lattice.paths import log_add

Labels = tuple[int, ...]
Predict = Callable[[Sequence[tuple[Labels, int]]], Sequence[float]]
"""Log-probabilities of labels given their history, by the predictor alone."""

FLOOR = 16.0
"""Steps less likely than e to the minus this are left out, in nats."""
MOST_ARCS = 1 << 14
"""Maximum number of arcs of a lattice; noise would give arbitrarily many."""
_MOST_PARTS = 512
"""Maximum number of word prefixes expanded from one node, the likelier ones first."""
_GONE = 0.5
"""If only this share of a state's probability remains when more arrives, the state becomes a new node: the two have
little in common but their labels, and paths from the new one must not continue as those from the old one did long
before."""
_SAME = 0.1
"""Weights that differ by less, in nats, count as equal when paths with the same words are joined."""
_TRIES = ((FLOOR, _SAME), (FLOOR / 2, 2 * _SAME), (FLOOR / 4, 5 * _SAME), (FLOOR / 8, inf))
"""Pruning beams and tolerances, tried in order until the lattice is small enough."""


@dataclass(slots=True)
class Steps:
    """The states visited by a search, with their predecessors; node 0 is the start.

    Attributes:
        keys: by node, the key of its state among those of the same frame: its last labels.
        labels: by node, the labels of its likeliest hypothesis.
        arrivals: by node, the label of the step to it, BLANK for a step to the next frame; the frame; and, for all
            predecessors, the node and the step's log-probability.
    """

    keys: list[Labels] = field(default_factory=lambda: [()])
    labels: list[Labels] = field(default_factory=lambda: [()])
    arrivals: list[tuple[int, int, list[tuple[int, float]]]] = field(default_factory=lambda: [(BLANK, 0, [])])

    def reach(
        self, key: Labels, labels: Labels, label: int, frame: int, before: list[tuple[int, float]]
    ) -> int:
        """Add a state that is reached from earlier ones, and return its node."""
        self.keys.append(key)
        self.labels.append(labels)
        self.arrivals.append((label, frame, before))
        return len(self.keys) - 1


@dataclass(frozen=True, slots=True)
class _Piece:
    """An arc of a word piece, or of none, between nodes of the graph of pieces.

    Attributes:
        target: the node after it.
        label: BLANK for none.
        share: its share of the probability that arrives at its source node.
        frame: mean frame of its emission.
    """

    target: int
    label: int
    share: float
    frame: float


class _Pieces:
    """The graph of word pieces: a node is a state of the search over one or several frames.

    Attributes:
        labels: by node, the labels of its likeliest hypothesis.
        mass: by node, the probability that arrives at it.
        ending: by node, the probability that ends there.
    """

    def __init__(self) -> None:
        self.labels: list[Labels] = []
        self.mass: list[float] = []
        self.ending: list[float] = []
        self._present: list[float] = []
        self._before: list[int] = []  # by node the set of all nodes before it, as bits
        self._arcs: dict[tuple[int, int, int], tuple[float, float]] = {}

    def add(self, labels: Labels) -> int:
        """A further node."""
        self.labels.append(labels)
        self.mass.append(0.0)
        self.ending.append(0.0)
        self._present.append(0.0)
        self._before.append(0)
        return len(self.labels) - 1

    def joins(self, node: int, sources: Iterable[int], label: int) -> bool:
        """Whether a label from these nodes may lead to a node: that must not create a cycle, and the node must still
        have some of its earlier probability.
        """
        if label and not self._present[node] > _GONE * self.mass[node]:
            return False
        return not any((self._before[source] >> node) & 1 or (label and source == node) for source in sources)

    def flow(self, source: int, target: int, label: int, mass: float, frame: int) -> None:
        """Add probability to an arc between two nodes."""
        if source != target:
            before, weighted = self._arcs.get((source, target, label), (0.0, 0.0))
            self._arcs[source, target, label] = before + mass, weighted + mass * frame
            self.enter(target, mass)
            more = (self._before[source] | 1 << source) & ~self._before[target]
            if more:
                for node, known in enumerate(self._before):
                    if node == target or (known >> target) & 1:
                        self._before[node] |= more

    def enter(self, node: int, mass: float) -> None:
        """Add probability to a node."""
        self.mass[node] += mass
        self._present[node] += mass

    def stay(self, node: int, mass: float) -> None:
        """Set the probability in a node at the end of a frame."""
        self._present[node] = mass

    def leaving(self) -> list[list[_Piece]]:
        """The outgoing arcs of every node, in the order in which they were added."""
        by_node: list[list[_Piece]] = [[] for _ in self.labels]
        for (source, target, label), (mass, weighted) in self._arcs.items():
            by_node[source].append(_Piece(target, label, mass / self.mass[source], weighted / mass))
        return by_node


def word_lattice(
    steps: Steps, ends: Mapping[int, float], pieces: Sequence[str], frame_s: float, predict: Predict
) -> Lattice:
    """The lattice of all paths to the final states of a search.

    Args:
        steps: of the search.
        ends: its current nodes, with what is added to the score where a hypothesis ends there.
        pieces: every word piece by its label, see `Tokeniser.pieces`.
        frame_s: seconds of a transcriber frame.
        predict: computes the prediction scores of arcs.

    Raises:
        EdgeSpeechError: it would need more than `MOST_ARCS` even with the strongest pruning.
    """
    arcs, finals = _words(_collapsed(steps, ends), pieces, predict)
    for floor, same in _TRIES:
        if (found := _joined(arcs, finals, frame_s, 0, floor, same)) is not None:
            return found
    raise EdgeSpeechError(f"lattice: even its best sentences take more than {MOST_ARCS} arcs")


def determinised(arcs: Sequence[Arc], finals: Sequence[Final], frame_s: float, *, start: int = 0) -> Lattice:
    """Determinise a lattice whose arcs may have no word, or share a source node and word.

    Probabilities of paths with the same words are summed; their other scores and times are those of the likelier arc.

    Args:
        arcs: between nodes with any numbers; an empty word means an arc without a word.
        finals: ends.
        frame_s: seconds of a transcriber frame.
        start: the node where all paths start.

    Raises:
        EdgeSpeechError: there is a cycle or no path, it would need more than `MOST_ARCS`, or as `Lattice`.
    """
    found = _joined(arcs, finals, frame_s, start, inf, _SAME)
    if found is None:
        raise EdgeSpeechError(f"lattice: its different sentences take more than {MOST_ARCS} arcs")
    return found


def _joined(
    arcs: Sequence[Arc], finals: Sequence[Final], frame_s: float, start: int, floor: float, same: float
) -> Lattice | None:
    """Determinisation with pruning: without the paths that are less likely than the best one by more than `beam` nats;
    None if the result would have too many arcs. Weights that differ by less than `same` count as equal.

    Best-first: subsets of nodes are expanded in the order of the best path through them.
    """
    leaving, ending, order = _without_empty(*trimmed(arcs, finals, start), start)
    rest = dict.fromkeys(order, -inf)  # score of the best path to an end
    for node in reversed(order):
        ways = (arc.score + rest[arc.target] for arc in leaving[node])
        rest[node] = max(ending.get(node, -inf), *ways, -inf)
    numbers: dict[tuple[tuple[int, int], ...], int] = {}
    subsets: list[dict[int, float]] = []
    scores: list[float] = []  # of the best path to each
    waiting: list[tuple[float, int]] = []
    done: set[int] = set()

    def reached(subset: dict[int, float], score: float) -> int:
        """The number of a weighted subset of nodes that is reached by a path with this score."""
        key = tuple(sorted((node, round(share / same)) for node, share in subset.items()))
        number = numbers.setdefault(key, len(subsets))
        if number == len(subsets):
            subsets.append(subset)
            scores.append(-inf)
        if score > scores[number] and number not in done:
            scores[number] = score
            ahead = max(share + rest[node] for node, share in subsets[number].items())
            heapq.heappush(waiting, (-score - ahead, number))
        return number

    reached({start: 0.0}, 0.0)
    made: list[Arc] = []
    ends: list[Final] = []
    while waiting and -waiting[0][0] >= rest[start] - floor:
        _, source = heapq.heappop(waiting)
        if source in done:
            continue
        done.add(source)
        by_word: dict[str, list[Arc]] = {}
        end = -inf
        for node, share in subsets[source].items():
            end = log_add(end, share + ending.get(node, -inf))
            for arc in leaving[node]:
                by_word.setdefault(arc.word, []).append(replace(arc, score=share + arc.score))
        if len(made) + len(by_word) > MOST_ARCS:
            return None
        if end > -inf:
            ends.append(Final(source, end))
        for alike in by_word.values():
            after: dict[int, float] = {}
            for arc in alike:
                after[arc.target] = log_add(after.get(arc.target, -inf), arc.score)
            total = _log_sum(after.values())
            target = reached({node: share - total for node, share in after.items()}, scores[source] + total)
            likeliest = max(alike, key=lambda arc: arc.score)
            made.append(replace(likeliest, source=source, target=target, score=total))
    return arranged(made, ends, frame_s)


def _collapsed(steps: Steps, ends: Mapping[int, float]) -> _Pieces:
    """The graph of pieces: persisting states become nodes, as few as possible without a cycle."""
    flows, ending = _flows(steps, ends)
    graph = _Pieces()
    place = {0: graph.add(())}  # of the search's nodes, in the graph
    graph.enter(0, 1.0)
    current: dict[Labels, tuple[int, int]] = {
        (): (0, 0)
    }  # by key of a state: its last node, and the last frame of that
    for node, before in enumerate(flows):
        if not before:
            continue
        label, frame, _ = steps.arrivals[node]
        key = steps.keys[node]
        at, until = current.get(key, (-1, -1))
        sources = {place[source] for source, _ in before}
        if (label and until < frame) or not graph.joins(at, sources, label):
            at = graph.add(steps.labels[node])
        place[node] = at
        current[key] = at, frame if label else frame + 1
        for source, mass in before:
            graph.flow(place[source], at, label, mass, frame)
        if not label:
            graph.stay(at, sum(mass for _, mass in before))
    for node, mass in ending.items():
        graph.ending[place[node]] += mass
    return graph


def _flows(steps: Steps, ends: Mapping[int, float]) -> tuple[list[list[tuple[int, float]]], dict[int, float]]:
    """The probability of every step that is likely enough, and of every such end.

    Returns:
        By node, its predecessors with the probability of the step from there, none for a node that is too unlikely; and
        by end, its probability.
    """
    forward = [0.0]
    for _, _, arrived in steps.arrivals[1:]:
        forward.append(_log_sum(forward[source] + step for source, step in arrived))
    total = _log_sum(forward[end] + closing for end, closing in ends.items())
    backward = [-inf] * len(forward)
    for end, closing in ends.items():
        backward[end] = closing - total
    flows: list[list[tuple[int, float]]] = [[] for _ in forward]
    needed: set[int] = set()
    for node in range(len(forward) - 1, 0, -1):
        if forward[node] + backward[node] < -FLOOR and node not in needed:
            continue
        before: list[tuple[int, float]] = []
        for source, step in steps.arrivals[node][2]:
            backward[source] = log_add(backward[source], step + backward[node])
            before.append((source, forward[source] + step + backward[node]))
        kept = [one for one in before if one[1] >= -FLOOR] or [max(before, key=lambda one: one[1])]
        needed |= {source for source, _ in kept}
        flows[node] = [(source, exp(flow)) for source, flow in kept]
    return flows, {
        end: exp(forward[end] + closing - total) for end, closing in ends.items() if flows[end] or not end
    }


class _Part(NamedTuple):
    """A prefix of a word: its negative score, the node after it, its text, its prediction score, and the frames of its
    first and last piece.
    """

    cost: float
    node: int
    text: str
    prediction: float
    first: float
    last: float


def _words(graph: _Pieces, pieces: Sequence[str], predict: Predict) -> tuple[list[Arc], list[Final]]:
    """Arcs of words between nodes at word boundaries, which are followed by a word-initial piece or by nothing. A piece
    that is only a space makes an arc without a word.
    """
    leaving = graph.leaving()
    wanted = sorted(
        {
            (labels, arc.label)
            for labels, arcs in zip(graph.labels, leaving, strict=True)
            for arc in arcs
            if arc.label
        }
    )
    predicted = dict(zip(wanted, predict(wanted), strict=True))

    def starting(node: int) -> list[_Piece]:
        return [
            arc for arc in leaving[node] if arc.label and (node == 0 or pieces[arc.label].startswith(SPACE))
        ]

    def inside(node: int) -> list[_Piece]:
        return [arc for arc in leaving[node] if not (arc.label and pieces[arc.label].startswith(SPACE))]

    ends = [ending / mass for ending, mass in zip(graph.ending, graph.mass, strict=True)]
    over = [end + sum(arc.share for arc in starting(node)) for node, end in enumerate(ends)]
    arcs: dict[tuple[int, int, str], tuple[float, Arc]] = {}
    ending = {node: log(end / over[node]) for node, end in enumerate(ends) if end}
    sources = [0]
    seen = {0}
    for source in sources:  # which grow in the loop
        waiting = [
            _Part(
                -log(arc.share / over[source]),
                arc.target,
                pieces[arc.label].removeprefix(SPACE),
                predicted[graph.labels[source], arc.label],
                arc.frame,
                arc.frame,
            )
            for arc in starting(source)
        ]
        heapq.heapify(waiting)
        for _ in range(_MOST_PARTS):
            if not waiting or log(graph.mass[source]) - waiting[0].cost < -FLOOR:
                break
            part = heapq.heappop(waiting)
            following = inside(part.node)
            if over[part.node] > 0 and part.text:
                key = source, part.node, part.text
                score = log(over[part.node]) - part.cost
                end = max(round(part.first), round(part.last)) + 1
                said = Arc(*key, score, part.prediction, round(part.first), end)
                total, likeliest = arcs.get(key, (-inf, said))
                arcs[key] = log_add(total, score), max(likeliest, said, key=lambda arc: arc.score)
                if part.node not in seen:
                    seen.add(part.node)
                    sources.append(part.node)
            elif over[part.node] > 0:
                following = leaving[part.node]
                if ends[part.node]:
                    ending[source] = log_add(ending.get(source, -inf), log(ends[part.node]) - part.cost)
            for arc in following:
                more = part._replace(node=arc.target, cost=part.cost - log(arc.share))
                if arc.label:
                    more = more._replace(
                        text=part.text + pieces[arc.label].removeprefix(SPACE),
                        prediction=part.prediction + predicted[graph.labels[part.node], arc.label],
                        first=part.first if part.text else arc.frame,
                        last=arc.frame,
                    )
                heapq.heappush(waiting, more)
    return (
        [replace(arc, score=total) for total, arc in arcs.values()],
        [Final(node, score) for node, score in ending.items()],
    )


def _without_empty(
    arcs: Sequence[Arc], finals: Sequence[Final], start: int
) -> tuple[dict[int, list[Arc]], dict[int, float], list[int]]:
    """Remove arcs without a word: outgoing arcs and final scores by node, and all nodes in topological order."""
    leaving: dict[int, list[Arc]] = {}
    for arc in arcs:
        leaving.setdefault(arc.source, []).append(arc)
    ending: dict[int, float] = {}
    for final in finals:
        ending[final.node] = log_add(ending.get(final.node, -inf), final.score)
    order = in_order(arcs, start)
    for node in reversed(order):
        kept = []
        for arc in leaving.get(node, ()):
            if arc.word:
                kept.append(arc)
                continue
            kept += [
                replace(
                    following,
                    source=node,
                    score=arc.score + following.score,
                    prediction=arc.prediction + following.prediction,
                )
                for following in leaving[arc.target]
            ]
            ending[node] = log_add(ending.get(node, -inf), arc.score + ending.get(arc.target, -inf))
        leaving[node] = kept
    return leaving, ending, order


def _log_sum(values: Iterable[float]) -> float:
    """The logarithm of the sum of exponentials; minus infinity for none."""
    some = list(values)
    highest = max(some, default=-inf)
    return highest if highest == -inf else highest + log(sum(exp(value - highest) for value in some))
