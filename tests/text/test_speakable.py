"""Prose as it is said."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.text.speakable import speakable


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            "God said, “Let there be light,” and there was light.",
            "god said let there be light and there was light",
        ),
        ("What's on at 7:30 p.m.?", "what's on at seven thirty p m"),
        ("wake me at 5am", "wake me at five a m"),
        ("It was built in 1969.", "it was built in nineteen sixty nine"),
        ("since 2004", "since two thousand four"),
        ("2,500 people", "two thousand five hundred people"),
        ("the 3rd of 12", "the third of twelve"),
        ("it costs $5", "it costs five dollars"),
        ("£1.50 each", "one pound and fifty pence each"),
        ("3.5 miles", "three point five miles"),
        ("the U.S. Army", "the u s army"),
        ("Mr. Smith & Dr. Who", "mister smith and doctor who"),
        ("a well-known (and old) song/tune", "a well known and old song tune".replace(" and old", "")),
        ("'tis the dogs' bone", "'tis the dogs bone"),
        ("100% sure", "one hundred percent sure"),
    ],
)
def test_a_line_is_written_out(written: str, said: str) -> None:
    assert speakable(written) == said


@pytest.mark.parametrize(
    "written", ["", "...", "café olé", "x = 5", "#hash", "a_b", "3x4", "1.2.3", "日本", "$1,000,000"]
)
def test_uncertain_pronunciations_are_left_out(written: str) -> None:
    assert speakable(written) is None


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_whatever_comes_out_is_words(text: str) -> None:
    said = speakable(text)
    assert said is None or re.fullmatch(r"[a-z']+(?: [a-z']+)*", said)
