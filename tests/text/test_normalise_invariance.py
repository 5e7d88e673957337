"""What no listener hears must not change a word error rate: case, invisible characters, apostrophes, dots."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgespeech.text.normalise import Normaliser, normaliser_of, normalisers

ALL = [*normalisers().values(), normaliser_of("basic-es")]
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Letters whose case pairs Unicode leaves in disorder (Cherokee, Coptic) are not worth a rule of their own.
TEXT = st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs"]), max_size=30)
WORDS = st.lists(
    st.sampled_from(["don't", "can", "I", "have", "twelve", "ounce", "caf\u00e9", "stra\u00dfe"]),
    min_size=1,
    max_size=8,
).map(" ".join)


def named(normaliser: Normaliser) -> str:
    return normaliser.name


@pytest.mark.parametrize("normaliser", [*ALL[:2], ALL[-1]], ids=named)
@given(text=TEXT)
@settings(max_examples=150, deadline=None)
def test_case_is_ignored(normaliser: Normaliser, text: str) -> None:
    once = normaliser(text.upper())
    assert normaliser(text.upper().lower()) == once
    assert normaliser(text.upper().swapcase()) == once


@pytest.mark.parametrize("normaliser", ALL, ids=named)
@given(texts=st.lists(WORDS, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_writer_in_capitals_is_scored_as_one_in_lower_case(
    normaliser: Normaliser, texts: list[str]
) -> None:
    small = [text.lower() for text in texts]
    assert normaliser.all([text.upper() for text in texts]) == normaliser.all(small)


UNSEEN = (
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u061c\ufe0f\u034f\u0640\u115f\u180b\u3164\uffa0"
    "\U000e0100\u20e3"
)
APOSTROPHES = "\u2019\u2018\u02bc\u00b4`\uff07\u2032\u02bd\u05f3"


@pytest.mark.parametrize("normaliser", ALL, ids=named)
@given(words=WORDS, at=st.integers(0, 60))
@settings(max_examples=20, deadline=None)
def test_format_characters_are_ignored(normaliser: Normaliser, words: str, at: int) -> None:
    at = min(at, len(words))
    found = {mark: normaliser(words[:at] + mark + words[at:]) for mark in UNSEEN}
    assert found == dict.fromkeys(UNSEEN, normaliser(words))


@pytest.mark.parametrize("normaliser", ALL, ids=named)
@pytest.mark.parametrize("text", ["don't", "I won't, she's", "o'clock", "rock 'n' roll"])
def test_every_apostrophe_is_one(normaliser: Normaliser, text: str) -> None:
    found = {mark: normaliser(text.replace("'", mark)) for mark in APOSTROPHES}
    assert found == dict.fromkeys(APOSTROPHES, normaliser(text))


@pytest.mark.parametrize("normaliser", ALL, ids=named)
@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("room \u0661\u0662", "room 12"),
        ("room \u0967\u0968", "room 12"),
        ("\uff52\uff4f\uff4f\uff4d\u3000\uff11\uff12", "room 12"),
        ("press 1\ufe0f\u20e3", "press 1"),
        ("cafe\u0301", "caf\u00e9"),
        ("o\ufb03ce", "office"),
        ("\u201chello\u201d\u00a0world", '"hello" world'),
    ],
    ids=ascii,
)
def test_how_a_word_is_typed_is_ignored(normaliser: Normaliser, typed: str, plain: str) -> None:
    assert normaliser(typed) == normaliser(plain) != ""


@pytest.mark.parametrize("normaliser", ALL, ids=named)
@pytest.mark.parametrize("dots", ["...", "\u2026", " ... ", ". . .", "....", "\u2026\u2026", ".."])
@pytest.mark.parametrize(("before", "after"), [("so", "yes"), ("", ""), ("", "go"), ("well", "")])
def test_an_ellipsis_is_no_word(normaliser: Normaliser, dots: str, before: str, after: str) -> None:
    assert normaliser(before + dots + after) == normaliser(f"{before} {after}")


@pytest.mark.parametrize("normaliser", ALL, ids=named)
@given(text=st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_text_is_refused(normaliser: Normaliser, text: str) -> None:
    once = normaliser(text)
    assert once == " ".join(once.split())


@pytest.mark.parametrize("normaliser", ALL, ids=named)
@pytest.mark.parametrize(
    "text", ["7" * 5000, "7" * 5000 + " million", "twenty " * 300, "thousand " * 300, "\ud83d\ude00" * 100]
)
def test_absurd_hypotheses_are_text_too(normaliser: Normaliser, text: str) -> None:
    assert isinstance(normaliser(text), str)


@st.composite
def spoken_and_written(draw: st.DrawFn) -> tuple[str, str, str]:
    """Some digits, as somebody says them, as somebody writes them, and one by one."""
    digits = draw(st.lists(st.integers(0, 9), min_size=1, max_size=12))
    spoken: list[str] = []
    written: list[str] = []
    at = 0
    while at < len(digits):
        digit = digits[at]
        run = next(n for n in range(1, 14) if at + n == len(digits) or digits[at + n] != digit)
        many = draw(st.sampled_from([n for n in (1, 2, 3) if n <= run]))
        word = draw(st.sampled_from(["zero", "oh", "o"])) if digit == 0 else DIGITS[digit]
        prefix = {1: "", 2: "double ", 3: "triple "}[many]
        spoken.append(prefix + word)
        written.append(draw(st.sampled_from([prefix + str(digit), prefix + word, str(digit) * many])))
        at += many
    gaps = draw(st.lists(st.sampled_from(["", " ", "-"]), min_size=len(written), max_size=len(written)))
    text = ""
    for gap, item in zip(gaps, written, strict=True):
        joined = text and text[-1].isdigit() and item.isdigit()
        text += (gap if joined else " ") + item
    return " ".join(spoken), text.strip(), " ".join(map(str, digits))


@given(forms=spoken_and_written())
@settings(max_examples=500, deadline=None)
def test_digits_as_written_and_as_spoken_meet(forms: tuple[str, str, str]) -> None:
    spoken, written, digits = forms
    assert normalisers()["spelled-en"](spoken) == digits
    assert normalisers()["spelled-en"](written) == digits


@given(number=st.integers(0, 99))
def test_two_digit_numbers_as_written_and_as_spoken_meet(number: int) -> None:
    spelled = normalisers()["spelled-en"]
    tens = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
    teens = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen")
    small = (*DIGITS, *teens, "eighteen", "nineteen")
    words = (
        small[number] if number < 20 else f"{tens[number // 10]} {small[number % 10] if number % 10 else ''}"
    )
    assert spelled(words) == spelled(str(number)) == " ".join(str(number))


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("2 1 3", "two one three"),
        ("213", "two one three"),
        ("8 triple 9", "eight triple nine"),
        ("9 triple 8", "nine triple eight"),
        ("8999", "eight triple nine"),
        ("007", "double oh seven"),
        ("0 0 7", "zero oh seven"),
        ("1", "one"),
        ("1 1", "double one"),
        ("JPEG4", "J P E G four"),
        ("BAOZ 5-3.", "b a o z five three"),
        ("$20", "twenty dollars"),
        ("20 million", "twenty million"),
        ("3rd", "third"),
        ("23rd", "twenty third"),
        ("17%", "seventeen percent"),
        ("3.5", "three point five"),
        ("1,000", "one thousand"),
        ("9:30", "nine thirty"),
        ("1990s", "nineteen nineties"),
        ("November 9th", "november ninth"),
        ("the 39th", "the thirty ninth"),
    ],
)
def test_written_and_spoken_forms_meet(written: str, spoken: str) -> None:
    assert normalisers()["spelled-en"](written) == normalisers()["spelled-en"](spoken)


def test_a_sentence_in_capitals_is_not_spelled() -> None:
    spelled = normalisers()["spelled-en"]
    assert spelled("CAN I HAVE A LIGHT ROAST") == "can i have a light roast"
    assert re.fullmatch("a n n a b 3", spelled("ANNA B3"))
