"""Lattices as such: what may be one, and how arcs in any order become one."""

from __future__ import annotations

import random
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.lattice import Arc, Final, Lattice, arranged
from helpers_lattice import SOME, all_paths, lattices

END = (Final(1),)


def test_of_no_words() -> None:
    empty = Lattice((), (Final(0),))
    assert empty.nodes == 1
    assert list(all_paths(empty)) == [((), 0.0)]
    assert empty.density(0) == 0


def test_density_is_arcs_per_word() -> None:
    lattice = Lattice((Arc(0, 1, "a", 0), Arc(0, 1, "b", 0)), END)
    assert lattice.density(4) == 0.5
    assert lattice.density(0) == inf


@pytest.mark.parametrize(
    ("arcs", "finals", "told"),
    [
        ((Arc(1, 1, "a", 0),), END, "direction"),
        ((Arc(1, 0, "a", 0),), END, "direction"),
        ((Arc(0, 1, "a b", 0),), END, "word is 'a b'"),
        ((Arc(0, 1, "", 0),), END, "word is ''"),
        ((Arc(0, 1, "a", nan),), END, "score is nan"),
        ((Arc(0, 1, "a", -inf),), END, "score is -inf"),
        ((Arc(0, 1, "a", 0, inf),), END, "prediction is inf"),
        ((Arc(0, 1, "a", 0, 0, 3, 3),), END, "frames"),
        ((Arc(0, 1, "a", 0, 0, -1, 3),), END, "frames"),
        ((Arc(0, 1, "a", 0), Arc(0, 2, "a", 0), Arc(1, 2, "b", 0)), (Final(2),), "one arc for a word"),
        ((Arc(0, 1, "b", 0), Arc(0, 1, "a", 0)), END, "order"),
        ((Arc(0, 1, "a", 0),), (Final(1), Final(1)), "order"),
        ((Arc(0, 1, "a", 0),), (Final(2),), "final node is 2"),
        ((Arc(0, 1, "a", 0),), (Final(1, nan),), "nan"),
        ((Arc(0, 1, "a", 0),), (Final(0),), "node is 1"),
        ((Arc(0, 2, "a", 0),), (Final(1), Final(2)), "node is 1"),
        ((), (), "node is 0"),
    ],
)
def test_what_is_none_is_refused(arcs: tuple[Arc, ...], finals: tuple[Final, ...], told: str) -> None:
    with pytest.raises(EdgeSpeechError, match=told):
        Lattice(arcs, finals)


def test_a_frame_takes_time() -> None:
    with pytest.raises(EdgeSpeechError, match="frame_s"):
        Lattice((), (Final(0),), 0.0)


@pytest.mark.parametrize("back", [7, 5, 3])
def test_a_cycle_is_refused(back: int) -> None:
    arcs = [Arc(7, 5, "a", 0), Arc(5, 3, "b", 0), Arc(3, back, "c", 0)]
    with pytest.raises(EdgeSpeechError, match="cycle"):
        arranged(arcs, [Final(3)], start=7)


def test_without_a_way_to_an_end_there_is_none() -> None:
    with pytest.raises(EdgeSpeechError, match="no path"):
        arranged([Arc(0, 1, "a", 0)], [Final(2)])


@SOME
@given(lattices(), st.integers(0, 1000))
def test_numbers_and_order_do_not_matter_and_dead_ends_go(lattice: Lattice, seed: int) -> None:
    rng = random.Random(seed)
    names = rng.sample(range(1000), lattice.nodes + 2)
    arcs = [
        Arc(names[arc.source], names[arc.target], arc.word, arc.score, arc.prediction, arc.start, arc.end)
        for arc in lattice.arcs
    ]
    arcs += [Arc(names[0], names[-1], "nowhere", 0.0), Arc(names[-2], names[0], "before", 0.0)]
    rng.shuffle(arcs)
    finals = [Final(names[final.node], final.score) for final in lattice.finals]
    found = arranged(arcs, finals, start=names[0])
    assert dict(all_paths(found)) == pytest.approx(dict(all_paths(lattice)))
    assert (len(found.arcs), found.nodes) == (len(lattice.arcs), lattice.nodes)
