from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from replication.lattices.lists import ARMS, LatticeCodec
from replication.lattices.second_pass import Heard, Row, measured, second_pass_table

from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.codec import Precision, Vocabulary
from edgespeech.lattice.lattice import Arc, Final, Lattice
from edgespeech.lattice.paths import PLAIN, Scales, best_path
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transducer
from edgespeech.secondpass.scoring import InternalScorer, WordScorer
from secondpass.lm_helpers import WORDS, tiny_lm

CODEC = LatticeCodec(width=8.0, vocabulary=Vocabulary(WORDS), precision=Precision())
STRONG = {arm.name: Scales(language=50.0) for arm in ARMS}


@pytest.fixture(scope="module")
def scorers() -> tuple[WordScorer, InternalScorer]:
    lm = tiny_lm()
    torch.manual_seed(0)
    model = Transducer(ModelConfig(vocabulary=40, layers=1, hidden=8, joiner=8, context=2)).eval()
    return WordScorer(lm), InternalScorer(model, lm.tokeniser)


@pytest.fixture
def heard(scorers: tuple[WordScorer, InternalScorer]) -> list[Heard]:
    """Three words, of each of which the device likes the wrong one a little more: what was said is its last path."""
    choices = (("turn", "off"), ("the", "a"), ("lamp", "light"))
    said = max(product(*choices), key=scorers[0].sentence)
    arcs = [
        Arc(place, place + 1, word, -1.5 if word == right else -1.0)
        for place, (words, right) in enumerate(zip(choices, said, strict=True))
        for word in sorted(words)
    ]
    lattice = Lattice(tuple(arcs), (Final(3),))
    return [
        Heard(corpus=corpus, speaker=str(n), words=said, lattice=lattice)
        for n, corpus in enumerate(["a", "a", "b"])
    ]


def rows(
    heard: list[Heard], scorers: tuple[WordScorer, InternalScorer], scales: dict[str, Scales]
) -> list[Row]:
    return list(measured(heard, *scorers, scales, CODEC, seed=0))


def test_what_the_language_model_repairs_is_seen(
    heard: list[Heard], scorers: tuple[WordScorer, InternalScorer]
) -> None:
    found = rows(heard, scorers, STRONG)
    gains = {row["detail"].rpartition(", ")[0]: row["measured"] for row in found[: len(ARMS)]}
    assert gains["lattice"] == gains["16-best"] == 1.0
    assert gains["n-best of the lattice's bytes"] < 1.0
    assert gains["4-best"] < 1.0
    better, listed = found[len(ARMS) :]
    assert (better["claim"], better["measured"]) == ("lattices.second_pass_better", -1.0)
    assert listed["claim"] == "lattices.second_pass_n_best"
    assert listed["measured"] == pytest.approx(gains["n-best of the lattice's bytes"] - 1)
    cells = found[0]["second_pass"]
    assert [(cell["corpus"], cell["arm"], cell["utterances"]) for cell in cells[:2]] == [
        ("a", "the device alone", 2),
        ("a", "lattice", 2),
    ]
    assert [(cell["errors"], cell["oracle"], cell["words"]) for cell in cells[:2]] == [(6, 6, 6), (0, 0, 6)]
    assert cells[0]["bytes"] == 0 < cells[1]["bytes"]
    assert len(cells) == 2 * (1 + len(ARMS))
    assert second_pass_table(cells).splitlines()[2].startswith("| a | the device alone | 100.0 % |")


def test_scales_of_zero_change_nothing(
    heard: list[Heard], scorers: tuple[WordScorer, InternalScorer]
) -> None:
    found = rows(heard, scorers, {arm.name: PLAIN for arm in ARMS})
    assert {row["measured"] for row in found} == {0.0}


def test_a_device_without_errors(heard: list[Heard], scorers: tuple[WordScorer, InternalScorer]) -> None:
    right = [replace(one, words=tuple(best_path(one.lattice).text.split())) for one in heard]
    found = rows(right, scorers, STRONG)
    assert found[0]["skipped"] == "the device alone makes no errors"
    assert found[len(ARMS)]["measured"] == 1.0  # all three words got wrong


def test_nothing_to_measure(heard: list[Heard], scorers: tuple[WordScorer, InternalScorer]) -> None:
    with pytest.raises(EdgeSpeechError, match="second pass: utterances is 0"):
        rows([], scorers, STRONG)
    with pytest.raises(EdgeSpeechError, match="second pass: scales is"):
        rows(heard, scorers, {"lattice": PLAIN})
