"""Word lattices: many hypotheses of one utterance with shared parts. Needs no torch.

Nodes are in topological order, and node 0 is the start: there are no cycles. There are no arcs without a word, and a
node has at most one outgoing arc per word: no two paths have the same words.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite

from edgespeech.errors import EdgeSpeechError, bad

WHERE = "lattice"


@dataclass(frozen=True, slots=True)
class Arc:
    """A word between two nodes. Scores are natural logarithms of probabilities.

    Attributes:
        source: its start node.
        target: its end node, a larger number.
        word: no white space, not empty.
        score: of the word given the source node, by the whole transducer.
        prediction: the internal language model's part of the score: of the word's pieces given the preceding ones, by
            the predictor alone; 0 if unknown.
        start: the transcriber frame of its first piece.
        end: the frame after that of its last piece; greater than `start`.
        language: score of a language model that was composed with the lattice; 0 without one.
    """

    source: int
    target: int
    word: str
    score: float
    prediction: float = 0.0
    start: int = 0
    end: int = 1
    language: float = 0.0


@dataclass(frozen=True, slots=True)
class Final:
    """A final node, with the scores of ending there; see `Arc`."""

    node: int
    score: float = 0.0
    language: float = 0.0


@dataclass(frozen=True)
class Lattice:
    """Sorted arcs and final nodes. `arranged` makes a lattice of arcs in any order.

    Attributes:
        arcs: by source, then by target and word.
        finals: by node, at least one.
        frame_s: seconds of a transcriber frame.

    Raises:
        EdgeSpeechError: on construction: an arc does not lead forward, two arcs of a node have the same word, a score
            is NaN or infinite, a word or a time is not valid, arcs or nodes are not sorted, or a node is on no path
            from the start to a final node.
    """

    arcs: tuple[Arc, ...]
    finals: tuple[Final, ...]
    frame_s: float = 0.04

    def __post_init__(self) -> None:
        if not (isfinite(self.frame_s) and self.frame_s > 0):
            raise bad(WHERE, "frame_s", self.frame_s, "seconds, above 0")
        for arc in self.arcs:
            _check_arc(arc)
        keys = [(arc.source, arc.target, arc.word) for arc in self.arcs]
        ends = [final.node for final in self.finals]
        if keys != sorted(keys) or ends != sorted(set(ends)):
            raise EdgeSpeechError(f"{WHERE}: arcs or final nodes are not in order, or a node is final twice")
        said: set[tuple[int, str]] = set()
        for arc in self.arcs:
            if (arc.source, arc.word) in said:
                raise bad(WHERE, f"arc from node {arc.source}", arc.word, "one arc for a word")
            said.add((arc.source, arc.word))
        for final in self.finals:
            if not 0 <= final.node < self.nodes:
                raise bad(WHERE, "final node", final.node, f"a node: 0 to {self.nodes - 1}")
            if not (isfinite(final.score) and isfinite(final.language)):
                raise bad(WHERE, f"score of final node {final.node}", final.score, "a finite number")
        reached = {0} | {arc.target for arc in self.arcs}
        ending = set(ends) | {arc.source for arc in self.arcs}
        for node in range(self.nodes):
            if node not in reached or node not in ending:
                raise bad(WHERE, "node", node, "one on a path from the start to a final node")

    @cached_property
    def nodes(self) -> int:
        """The number of nodes."""
        return 1 + max((arc.target for arc in self.arcs), default=0)

    @cached_property
    def leaving(self) -> tuple[tuple[Arc, ...], ...]:
        """The outgoing arcs of every node."""
        by_node: list[list[Arc]] = [[] for _ in range(self.nodes)]
        for arc in self.arcs:
            by_node[arc.source].append(arc)
        return tuple(map(tuple, by_node))

    @cached_property
    def final(self) -> Mapping[int, Final]:
        """The final nodes by their numbers."""
        return {final.node: final for final in self.finals}

    def density(self, words: int) -> float:
        """Arcs per word of a reference with this many words; infinite for 0 if there are arcs."""
        if words:
            return len(self.arcs) / words
        return float("inf") if self.arcs else 0.0


def arranged(
    arcs: Iterable[Arc], finals: Iterable[Final], frame_s: float = 0.04, *, start: int = 0
) -> Lattice:
    """A lattice of arcs between nodes of any numbers, without those on no path from the start to a final node.

    Args:
        arcs: in any order.
        finals: in any order.
        frame_s: seconds of a transcriber frame.
        start: the node where all paths start.

    Raises:
        EdgeSpeechError: there is a cycle or no path, or as `Lattice`.
    """
    used, ends = trimmed(list(arcs), list(finals), start)
    number = {node: place for place, node in enumerate(in_order(used, start))}
    renamed = [replace(arc, source=number[arc.source], target=number[arc.target]) for arc in used]
    return Lattice(
        tuple(sorted(renamed, key=lambda arc: (arc.source, arc.target, arc.word))),
        tuple(sorted((replace(end, node=number[end.node]) for end in ends), key=lambda end: end.node)),
        frame_s,
    )


def trimmed(arcs: Sequence[Arc], finals: Sequence[Final], start: int) -> tuple[list[Arc], list[Final]]:
    """The arcs and final nodes on paths from the start to a final node.

    Raises:
        EdgeSpeechError: there is no path.
    """
    after: dict[int, list[int]] = {}
    before: dict[int, list[int]] = {}
    for arc in arcs:
        after.setdefault(arc.source, []).append(arc.target)
        before.setdefault(arc.target, []).append(arc.source)
    reached = _closure([start], after)
    ending = _closure([final.node for final in finals], before)
    if start not in ending:
        raise EdgeSpeechError(f"{WHERE}: no path leads from node {start} to a final node")
    kept = reached & ending
    return (
        [arc for arc in arcs if arc.source in kept and arc.target in kept],
        [final for final in finals if final.node in kept],
    )


def _check_arc(arc: Arc) -> None:
    where = f"{WHERE}: arc {arc.source} to {arc.target}"
    if not 0 <= arc.source < arc.target:
        raise bad(where, "direction", f"{arc.source} to {arc.target}", "one to a larger number")
    if not arc.word or arc.word.split() != [arc.word]:
        raise bad(where, "word", arc.word, "a word without white space")
    for name in ("score", "prediction", "language"):
        if not isfinite(value := getattr(arc, name)):
            raise bad(where, name, value, "a finite number")
    if not 0 <= arc.start < arc.end:
        raise bad(where, "frames", (arc.start, arc.end), "a start of at least 0 before the end")


def _closure(nodes: Sequence[int], edges: Mapping[int, Sequence[int]]) -> set[int]:
    """These nodes and all that are reachable from them."""
    found, waiting = set(nodes), list(nodes)
    while waiting:
        for node in edges.get(waiting.pop(), ()):
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found


def in_order(arcs: Sequence[Arc], start: int) -> list[int]:
    """All nodes in topological order; ties are in the order of time.

    Raises:
        EdgeSpeechError: there is a cycle.
    """
    missing: dict[int, int] = {}
    leaving: dict[int, list[Arc]] = {}
    for arc in arcs:
        missing[arc.target] = missing.get(arc.target, 0) + 1
        leaving.setdefault(arc.source, []).append(arc)
    order: list[int] = []
    time: dict[int, int] = {}
    ready = [(0, 0, start)] if start not in missing else []
    pushed = 0
    while ready:
        _, _, node = heapq.heappop(ready)
        order.append(node)
        for arc in sorted(leaving.get(node, ()), key=lambda arc: (arc.end, arc.word)):
            time[arc.target] = max(time.get(arc.target, 0), arc.end)
            missing[arc.target] -= 1
            if not missing[arc.target]:
                pushed += 1
                heapq.heappush(ready, (time[arc.target], pushed, arc.target))
    if len(order) < len({start, *missing}):
        raise EdgeSpeechError(f"{WHERE}: its arcs form a cycle, expected none")
    return order
