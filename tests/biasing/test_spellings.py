"""The spellings of phrases as people type them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgespeech.biasing.spellings import MOST, spellings


@pytest.mark.parametrize(
    ("phrase", "first"),
    [
        ("living room lamp", "living room lamp"),
        ("  Living   ROOM ", "living room"),
        ("Zoë Müller", "zoe muller"),
        ("François Noël", "francois noel"),
        ("Jørgen Æbelø", "jorgen aebelo"),
        ("Weiß", "weiss"),
        ("Simon & Garfunkel", "simon and garfunkel"),
        ("J.R. Smith", "j r smith"),
        ("B-52s", "b fifty two s"),
        ("U2", "u two"),
        ("The 1975!", "the one thousand nine hundred seventy five"),
        ("22nd Street", "twenty second street"),
        ("\ufeffAnn", "ann"),
        ("don’t stop", "don't stop"),  # noqa: RUF001  the typographic apostrophe is meant
    ],
)
def test_marks_and_case_are_folded(phrase: str, first: str) -> None:
    assert spellings(phrase)[0] == first


def test_ways_to_write_a_name_are_all_there() -> None:
    assert spellings("O'Brien") == ("o'brien", "obrien", "o brien")
    assert spellings("Coca-Cola") == ("coca cola", "cocacola")
    assert "nineteen seventy five" in spellings("1975")


@pytest.mark.parametrize("phrase", ["", " ", "!?", "---", "'", "Москва", "東京", "Ann 東京", "😀"])
def test_what_has_no_letters_of_ours_has_no_spelling(phrase: str) -> None:
    assert spellings(phrase) == ()


@given(st.text(max_size=60))
@example("0'")
def test_any_text_has_few_spellings_of_words(phrase: str) -> None:
    found = spellings(phrase)
    assert len(found) <= MOST
    assert len(set(found)) == len(found)
    for text in found:
        assert text == " ".join(text.split()) != ""
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz' ")


def test_many_choices_do_not_take_long() -> None:
    assert len(spellings("o'a-1-" * 30)) <= MOST


@given(st.text("abyzABYZ ", max_size=24))
@example("NASA HQ")
@example("a  b")
@example(" a")
def test_plain_phrases_are_spelled_as_all_others_are(phrase: str) -> None:
    marked = f"{phrase}\u200b"  # a sign without width, which the shortcut does not take
    assert spellings(phrase) == spellings(marked)
