"""Best paths, posteriors, oracles and pruning against going through all paths one by one."""

from __future__ import annotations

from math import exp, inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.lattice import Arc, Final, Lattice
from edgespeech.lattice.paths import (
    Path,
    Scales,
    best_path,
    log_add,
    n_best,
    oracle,
    paths,
    posteriors,
    prune,
    prune_to,
    spoken,
)
from helpers_lattice import SOME, WORDS, all_paths, distance, lattices, random_lattice


@SOME
@given(lattices())
def test_paths_come_best_first_and_none_is_missing(lattice: Lattice) -> None:
    found = list(paths(lattice))
    scores = [path.score for path in found]
    assert scores == sorted(scores, reverse=True)
    assert {path.text: path.score for path in found} == pytest.approx(
        {" ".join(words): score for words, score in all_paths(lattice)}
    )
    assert n_best(lattice, 3) == found[:3]


def test_scales_weigh_every_score() -> None:
    arc = Arc(0, 1, "a", -1.0, -4.0, 2, 5, -8.0)
    lattice = Lattice((arc,), (Final(1, -0.5, -2.0),))
    scales = Scales(language=0.5, prediction=0.25, word=3.0)
    path = best_path(lattice, scales)
    assert path.score == pytest.approx(-1 - 4 + 1 + 3 - 0.5 - 1)
    (word,) = path.words(0.04)
    assert word.text == "a"
    assert (word.start_s, word.end_s) == pytest.approx((0.08, 0.2))


@SOME
@given(lattices())
def test_posteriors_are_shares_of_all_paths(lattice: Lattice) -> None:
    found = list(paths(lattice))
    total = sum(exp(path.score) for path in found)
    shares = [sum(exp(path.score) for path in found if arc in path.arcs) / total for arc in lattice.arcs]
    assert posteriors(lattice) == pytest.approx(shares)


def test_what_is_spoken_is_a_path_or_nothing() -> None:
    lattice = random_lattice(4)
    for path in paths(lattice):
        found = spoken(lattice, path.text)
        assert found is not None
        assert found.arcs == path.arcs
        assert found.score == pytest.approx(path.score)
        assert spoken(lattice, path.text + " more") is None
        assert spoken(lattice, "more " + path.text) is None
    assert spoken(lattice, "") is None
    empty = Lattice((), (Final(0, -1.0),))
    assert spoken(empty, " ") == Path((), -1.0)


@SOME
@given(lattices(), st.lists(st.sampled_from(WORDS), max_size=7))
def test_the_oracle_has_the_fewest_errors(lattice: Lattice, reference: list[str]) -> None:
    path, errors = oracle(lattice, reference)
    assert errors == min(distance(list(words), reference) for words, _ in all_paths(lattice))
    assert distance(path.text.split(), reference) == errors
    assert path.score == pytest.approx({one.text: one.score for one in paths(lattice)}[path.text])


@SOME
@given(lattices(), st.floats(0, 6))
def test_pruning_keeps_what_the_beam_holds(lattice: Lattice, beam: float) -> None:
    kept = prune(lattice, beam)
    every = {" ".join(words): score for words, score in all_paths(lattice)}
    best = max(every.values())
    left = {" ".join(words) for words, _ in all_paths(kept)}
    assert {text for text, score in every.items() if score >= best - beam} <= left <= set(every)
    for arc in kept.arcs:  # and nothing that is on no such path
        assert any(arc in path.arcs and path.score >= best - beam - 1e-6 for path in paths(kept))


def test_pruning_to_a_size_keeps_as_much_as_fits() -> None:
    lattice = random_lattice(3, 8)
    least = len(prune(lattice, 0).arcs)
    every = [len(prune(lattice, 0.04 * step).arcs) for step in range(500)]
    for most in range(least, len(lattice.arcs) + 1):
        kept = prune_to(lattice, lambda found: len(found.arcs) <= most)  # noqa: B023 - used at once
        assert len(kept.arcs) <= most
        assert len(kept.arcs) >= max(size for size in every if size <= most)
    with pytest.raises(EdgeSpeechError, match="not even"):
        prune_to(lattice, lambda found: len(found.arcs) < least)


@pytest.mark.parametrize("beam", [-1.0, nan])
def test_a_beam_is_not_negative(beam: float) -> None:
    with pytest.raises(EdgeSpeechError, match="beam"):
        prune(random_lattice(0), beam)


def test_sums_of_logarithms() -> None:
    assert log_add(-inf, -inf) == -inf
    assert log_add(-3.0, -inf) == log_add(-inf, -3.0) == -3.0
    assert exp(log_add(-1.0, -2.0)) == pytest.approx(exp(-1) + exp(-2))
