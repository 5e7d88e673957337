"""The texts of OpenFst and Kaldi: what we write, we read, and what others write too."""

from __future__ import annotations

import pytest
from hypothesis import given

from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.lattice import Arc, Final, Lattice
from edgespeech.lattice.openfst import from_kaldi, from_openfst, symbol_table, to_kaldi, to_openfst
from edgespeech.lattice.paths import paths
from helpers_lattice import SOME, lattices, random_lattice

SMALL = Lattice(
    (
        Arc(0, 1, "turn", -0.5, -0.125, 3, 6),
        Arc(1, 2, "off", -2.0, -1.0, 6, 7),
        Arc(1, 2, "on", -0.25, 0, 8, 9),
    ),
    (Final(2, -0.5),),
)


def scores(lattice: Lattice) -> dict[str, float]:
    return {path.text: path.score for path in paths(lattice)}


def test_openfst_text_is_by_the_book() -> None:
    assert to_openfst(SMALL) == "0\t1\tturn\t0.5\n1\t2\toff\t2.0\n1\t2\ton\t0.25\n2\t0.5\n"


def test_kaldi_text_is_by_the_book() -> None:
    assert to_kaldi({"one": SMALL}) == (
        "one\n0 1 turn 0.125,0.375,1_1_1_2_2_2\n1 2 off 1.0,1.0,2_1_1\n1 2 on 0.0,0.25,1_1_2\n2 0,0.5,\n\n"
    )


def test_symbols_are_numbered() -> None:
    assert symbol_table([SMALL]) == "<eps> 0\noff 1\non 2\nturn 3\n"


@SOME
@given(lattices())
def test_openfst_text_comes_back(lattice: Lattice) -> None:
    assert scores(from_openfst(to_openfst(lattice))) == pytest.approx(scores(lattice))


@SOME
@given(lattices())
def test_kaldi_archives_come_back(lattice: Lattice) -> None:
    found = from_kaldi(to_kaldi({"first": lattice, "second": SMALL}))
    assert found["second"].arcs == SMALL.arcs
    assert scores(found["first"]) == pytest.approx(scores(lattice))
    assert sum(arc.prediction for arc in found["first"].arcs) == pytest.approx(
        sum(arc.prediction for arc in lattice.arcs)
    )


def test_times_come_back_where_words_do_not_overlap() -> None:
    lattice = random_lattice(4, 6)
    apart = Lattice(
        tuple(
            Arc(arc.source, arc.target, arc.word, arc.score, 0.0, 10 * arc.source + 2, 10 * arc.target)
            for arc in lattice.arcs
        ),
        lattice.finals,
    )
    (found,) = from_kaldi(to_kaldi({"u": apart})).values()
    assert {(arc.word, arc.start, arc.end) for arc in found.arcs} == {
        (arc.word, arc.start, arc.end) for arc in apart.arcs
    }


def test_others_lattices_have_empty_arcs_ambiguity_symbols_and_frames_of_their_own() -> None:
    text = "u\n0 1 7 1,2,11_12\n0 2 7 1,2,11_13_13\n1 3 <eps> 0,0,\n2 3 8 0.5,0.5,4\n3 0,0,5_5\n"
    (found,) = from_kaldi(text, symbols={"7": "turn", "8": "on"}).values()
    assert scores(found) == pytest.approx({"turn": -3.0, "turn on": -4.0})
    assert [(arc.word, arc.start, arc.end) for arc in found.arcs][1] == ("on", 3, 4)


def test_a_transducer_gives_its_output() -> None:
    assert scores(from_openfst("5 6 x turn 1.5\n6 7 y <eps> 0\n7\n")) == pytest.approx({"turn": -1.5})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no state"),
        ("0 1 a 1\n", "no path"),
        ("0 1 a 1\n1 0 b 1\n1\n", "cycle"),
        ("0 1 a x\n1\n", "line 1: weight is 'x'"),
        ("0 1 a nan\n1\n", "weight is 'nan'"),
        ("0 1 a Infinity\n1\n", "weight"),
        ("0 -1 a 1\n1\n", "state is '-1'"),
        ("0 1 a b 1 2\n1\n", "fields"),
    ],
)
def test_wrong_openfst_text_is_refused(text: str, told: str) -> None:
    with pytest.raises(EdgeSpeechError, match=told):
        from_openfst(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("u v\n0 1 a 1,2,3\n1\n", "name is 'u v'"),
        ("u\n0\n\nu\n0\n\n", "name is 'u'"),
        ("u\n0 1 a 1,2\n1\n", "line 2: weight"),
        ("u\n\n", "no state"),
    ],
)
def test_wrong_kaldi_text_is_refused(text: str, told: str) -> None:
    with pytest.raises(EdgeSpeechError, match=told):
        from_kaldi(text)


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="label is '9'"):
        from_openfst("0 1 9 1\n1\n", symbols={"8": "a"})
