"""Lattices for tests: drawn by hypothesis or from a seed, and slow, obvious twins of what is done with them."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import settings
from hypothesis import strategies as st

from edgespeech.lattice.lattice import Arc, Final, Lattice, arranged

SOME = settings(deadline=None, max_examples=60)
WORDS = ("turn", "the", "light", "lights", "on", "off", "a", "käse")


def random_lattice(seed: int, nodes: int = 6) -> Lattice:
    """One to three different words from every node to one of the next two."""
    rng = random.Random(seed)
    arcs = [
        Arc(
            source,
            min(source + rng.choice((1, 2)), nodes - 1),
            word,
            -3 * rng.random(),
            -2 * rng.random(),
            4 * source + rng.randrange(3),
            4 * source + rng.randrange(3, 7),
        )
        for source in range(nodes - 1)
        for word in rng.sample(WORDS, rng.randint(1, 3))
    ]
    finals = [Final(nodes - 1, -rng.random())]
    if nodes > 2 and rng.random() < 0.5:
        finals.append(Final(nodes - 2, -1.0))
    return arranged(arcs, finals)


def lattices(most: int = 8) -> st.SearchStrategy[Lattice]:
    """Random lattices of 1 to so many nodes."""
    return st.builds(random_lattice, st.integers(0, 2**32), st.integers(1, most))


def all_paths(lattice: Lattice, node: int = 0) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every path's words and score, one by one."""
    if node in lattice.final:
        yield (), lattice.final[node].score
    for arc in lattice.leaving[node]:
        for words, score in all_paths(lattice, arc.target):
            yield (arc.word, *words), arc.score + score


def distance(a: list[str], b: list[str]) -> int:
    """Word errors."""
    row = list(range(len(b) + 1))
    for place, word in enumerate(a, 1):
        before, row[0] = row[0], place
        for column, other in enumerate(b, 1):
            before, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, before + (word != other)),
            )
    return row[-1]
