from __future__ import annotations

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.lattice import Arc, Final, Lattice
from edgespeech.lattice.paths import PLAIN, best_path, n_best
from edgespeech.secondpass.compose import composed, tree
from edgespeech.secondpass.scoring import WordScorer
from secondpass.lm_helpers import SCALES, random_lattice, tiny_lm

ALL = 1000


@pytest.fixture(scope="module")
def scorer() -> WordScorer:
    return WordScorer(tiny_lm())


def by_hand(lattice: Lattice, scorer: WordScorer) -> dict[str, float]:
    """Every path's worth, each scored as a sentence of its own."""
    worth = {}
    for path in n_best(lattice, ALL):
        words = [arc.word for arc in path.arcs]
        own = path.score - SCALES.prediction * sum(arc.prediction for arc in path.arcs)
        worth[path.text] = own + SCALES.language * scorer.sentence(words) + SCALES.word * len(words)
    return worth


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("history", [None, 6])
def test_every_path_has_the_score_of_its_sentence(scorer: WordScorer, seed: int, history: int | None) -> None:
    lattice = random_lattice(seed)
    wanted = by_hand(lattice, scorer)
    found = composed(lattice, scorer, SCALES, history=history)
    assert {path.text: path.score for path in n_best(found, ALL, SCALES)} == pytest.approx(wanted, abs=1e-4)
    assert best_path(found, SCALES).text == max(wanted, key=wanted.__getitem__)
    assert {path.text: path.score for path in n_best(found, ALL)} == pytest.approx(
        {path.text: path.score for path in n_best(lattice, ALL)}
    )


@pytest.mark.parametrize("history", [1, 2])
def test_merged_histories_lose_no_path_and_need_fewer_nodes(scorer: WordScorer, history: int) -> None:
    for seed in range(8):
        lattice = random_lattice(seed, nodes=8)
        exact = composed(lattice, scorer, SCALES)
        merged = composed(lattice, scorer, SCALES, history=history)
        assert {path.text for path in n_best(merged, ALL)} == {path.text for path in n_best(lattice, ALL)}
        assert merged.nodes < exact.nodes
        assert merged.nodes >= lattice.nodes


def test_a_merged_history_is_that_of_the_better_path(scorer: WordScorer) -> None:
    arcs = (
        Arc(0, 1, "turn", -0.1),
        Arc(0, 1, "lamp", -9.0),
        Arc(1, 2, "the", -0.1),
        Arc(2, 3, "light", -0.1),
    )
    lattice = Lattice(tuple(sorted(arcs, key=lambda arc: (arc.source, arc.target, arc.word))), (Final(3),))
    found = composed(lattice, scorer, SCALES, history=1)
    best = best_path(found, SCALES)
    assert best.text == "turn the light"
    likely, unlikely = best_path(found), n_best(found, 2)[1]
    assert likely.arcs[2].language == unlikely.arcs[2].language
    assert likely.arcs[1].language != unlikely.arcs[1].language
    assert best.score == pytest.approx(by_hand(lattice, scorer)["turn the light"], abs=1e-4)


def test_a_beam_keeps_the_paths_that_are_worth_most(scorer: WordScorer) -> None:
    lattice = random_lattice(3, nodes=8)
    narrow = composed(lattice, scorer, SCALES, beam=1)
    assert len(n_best(narrow, ALL)) < len(n_best(lattice, ALL))
    wide = composed(lattice, scorer, SCALES, beam=1000)
    assert wide == composed(lattice, scorer, SCALES)


def test_one_empty_path(scorer: WordScorer) -> None:
    found = composed(Lattice((), (Final(0, -0.5),)), scorer, SCALES)
    assert best_path(found, SCALES).text == ""
    assert found.finals[0].language == pytest.approx(scorer.sentence([]))


def test_out_of_range(scorer: WordScorer) -> None:
    with pytest.raises(EdgeSpeechError, match="rescoring: history is 0, expected at least 1"):
        composed(random_lattice(0), scorer, SCALES, history=0)
    with pytest.raises(EdgeSpeechError, match="rescoring: beam is -1, expected at least 1"):
        composed(random_lattice(0), scorer, SCALES, beam=-1)


def test_a_word_that_nobody_can_spell(scorer: WordScorer) -> None:
    with pytest.raises(EdgeSpeechError, match="tokeniser: text is 'café'"):
        composed(Lattice((Arc(0, 1, "café", -1.0),), (Final(1),)), scorer, SCALES)


def test_a_tree_is_the_list_of_its_paths(scorer: WordScorer) -> None:
    lattice = random_lattice(5, nodes=8)
    some = n_best(lattice, 5)
    found = tree(lattice, some)
    listed = n_best(found, ALL)
    assert [path.text for path in listed] == [path.text for path in some]
    assert [path.score for path in listed] == pytest.approx([path.score for path in some])
    exact = {path.text: path.score for path in n_best(composed(lattice, scorer, SCALES), ALL, SCALES)}
    for path in n_best(composed(found, scorer, SCALES), ALL, SCALES):
        assert path.score == pytest.approx(exact[path.text], abs=1e-4)
    assert best_path(found, PLAIN).text == some[0].text
