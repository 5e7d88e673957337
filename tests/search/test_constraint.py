"""Scores that keep a search to the sentences of a grammar."""

import random
from pathlib import Path

import numpy as np
import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.lm.estimate import estimate
from edgespeech.lm.fusion import Fusion, FusionWeights
from edgespeech.search.constraint import GrammarScores
from edgespeech.text.grammar import load_grammar
from edgespeech.text.grammar_parse import START, WordGraph

PIECES = (
    "<blk>",
    "<unk>",
    "▁",
    "▁i'd",
    "▁like",
    "▁a",
    "▁an",
    "▁am",
    "▁t",
    "▁te",
    "a",
    "ea",
    "n",
    "er",
    "i",
    "cano",
)
LABEL = {piece: label for label, piece in enumerate(PIECES)}
COST = 5.0


@pytest.fixture
def graph(tmp_path: Path) -> WordGraph:
    path = tmp_path / "bar.yaml"
    path.write_text(
        "about: Two drinks.\nintents: {order: {rule: order}}\n"
        'rules: {order: ["[i\'d like] a {drink}"], drink: [tea, americano]}\n'
    )
    return load_grammar(path).graph


@pytest.fixture
def fusion() -> Fusion:
    model = estimate([[LABEL["▁a"], LABEL["▁te"], LABEL["a"]]], len(PIECES), 2, 0)
    return Fusion(model, model, FusionWeights(high=0.5, low=0.2, label=0.3))


@pytest.fixture
def scores(graph: WordGraph, fusion: Fusion) -> GrammarScores:
    return GrammarScores(fusion, graph, PIECES, COST)


def labels(*pieces: str) -> tuple[int, ...]:
    return tuple(LABEL[piece] for piece in pieces)


def free(scores: GrammarScores, fusion: Fusion, *before: str) -> set[str]:
    """The pieces that may follow at no cost; every other one must cost `COST` beside what fusion adds."""
    (row,) = scores.rows([labels(*before)])
    costs = fusion.scores(labels(*before)) - row
    assert set(np.unique(costs.round(4))) <= {0.0, COST}
    return {piece for piece, cost in zip(PIECES, costs, strict=True) if abs(cost) < 1e-4}


def test_a_piece_is_free_where_some_sentence_goes_on_with_it(scores: GrammarScores, fusion: Fusion) -> None:
    assert free(scores, fusion) == {"<blk>", "▁", "▁i'd", "▁a", "▁an"}
    assert free(scores, fusion, "▁i'd") == {"<blk>", "▁", "▁like"}
    assert free(scores, fusion, "▁i'd", "▁like") == {"<blk>", "▁", "▁a", "▁an"}
    assert free(scores, fusion, "▁a") == {"<blk>", "▁", "▁t", "▁te", "▁a", "▁am", "n"}


def test_however_a_word_is_cut(scores: GrammarScores, fusion: Fusion) -> None:
    for cut in (("▁te", "a"), ("▁t", "ea"), ("▁am", "er", "i", "cano")):
        for end in range(len(cut)):
            assert cut[end] in free(scores, fusion, "▁a", *cut[:end])
        assert free(scores, fusion, "▁an", *cut) == {"<blk>"}  # the sentence is over


def test_leaving_costs_once(scores: GrammarScores, fusion: Fusion) -> None:
    assert "▁am" not in free(scores, fusion)
    assert free(scores, fusion, "▁am") == set(PIECES)
    assert free(scores, fusion, "▁am", "▁a", "▁te") == set(PIECES)
    assert free(scores, fusion, "a") == set(PIECES)  # no word begins without its space


def test_the_order_in_which_hypotheses_are_asked_about_makes_no_difference(
    graph: WordGraph, fusion: Fusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [labels("▁a", "▁te", "a"), labels("▁i'd", "▁like", "▁a"), labels("▁am", "▁te"), ()]
    once = GrammarScores(fusion, graph, PIECES, COST).rows(asked)
    monkeypatch.setattr("edgespeech.search.constraint._CACHED", 1)  # all but forgets between the questions
    forgetful = GrammarScores(fusion, graph, PIECES, COST)
    again = np.concatenate([forgetful.rows([one]) for one in reversed(asked)])[::-1]
    assert np.array_equal(once, again)


def test_nothing_is_added_to_fusion_at_no_cost(graph: WordGraph, fusion: Fusion) -> None:
    asked = [(), labels("▁am"), labels("▁a")]
    assert np.array_equal(GrammarScores(fusion, graph, PIECES, 0).rows(asked), fusion.rows(asked))


@pytest.mark.parametrize("cost", [-0.5, float("nan")])
def test_a_penalty_below_zero_is_refused(graph: WordGraph, fusion: Fusion, cost: float) -> None:
    with pytest.raises(EdgeSpeechError, match="penalty"):
        GrammarScores(fusion, graph, PIECES, cost)


def test_every_sentence_of_a_grammar_is_followed_to_an_end() -> None:
    grammar = load_grammar("coffee")
    rng = random.Random(3)
    for _ in range(200):
        states = START
        for word in grammar.generate(rng).text.split():
            assert word in grammar.graph.words
            states = grammar.graph.follow(states, word)
        assert grammar.graph.ends(states)
    assert not grammar.graph.ends(START)
    assert not grammar.graph.follow(START, "americano's")
