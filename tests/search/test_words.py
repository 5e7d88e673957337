"""Words and their times."""

from __future__ import annotations

import pytest

from edgespeech.contracts import Word
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.search.hypothesis import Hypothesis, words_of

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
PIECES = ("<blk>", "<unk>", f"{SPACE}turn", f"{SPACE}o", "n", SPACE, "ing")


def test_a_word_lasts_from_its_first_piece_to_its_last() -> None:
    words = words_of(Hypothesis((2, 6, 3, 4), (1, 3, 5, 5)), PIECES, 0.04, 10)
    assert [word.text for word in words] == ["turning", "on"]
    assert [word.start_s for word in words] == pytest.approx([0.04, 0.20])
    assert [word.end_s for word in words] == pytest.approx([0.16, 0.24])


def test_no_time_lies_beyond_the_audio() -> None:
    assert words_of(Hypothesis((2, 3), (2, 9)), PIECES, 0.04, 0.1) == (
        Word(text="turn", start_s=0.08, end_s=0.1),
        Word(text="o", start_s=0.1, end_s=0.1),
    )


def test_spaces_alone_make_no_words() -> None:
    words = words_of(Hypothesis((5, 2, 5, 4, 5), (0, 1, 2, 3, 4)), PIECES, 0.04, 10)
    assert [(word.text, word.start_s) for word in words] == [("turn", 0.04), ("n", 0.08)]


def test_a_piece_without_its_start_is_a_word() -> None:
    assert [word.text for word in words_of(Hypothesis((6, 2), (0, 1)), PIECES, 0.04, 10)] == ["ing", "turn"]


def test_an_empty_hypothesis_has_no_words() -> None:
    assert words_of(Hypothesis(), PIECES, 0.04, 0) == ()


def test_the_tokenisers_words_come_back() -> None:
    tokeniser = Tokeniser.train(["turn on the light", "what's the time"] * 3, 45)
    labels = tuple(tokeniser.encode("what's on the zebra"))
    words = words_of(Hypothesis(labels, tuple(range(len(labels)))), tokeniser.pieces, 0.04, 10)
    assert " ".join(word.text for word in words) == tokeniser.decode(labels) == "what's on the zebra"
