import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.errors import EdgeSpeechError
from edgespeech.text.spoken import canonical, number_words, ordinal_words, plain, readings, with_articles


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (20, "twenty"),
        (42, "forty two"),
        (100, "one hundred"),
        (305, "three hundred five"),
        (1_000, "one thousand"),
        (999_999, "nine hundred ninety nine thousand nine hundred ninety nine"),
    ],
)
def test_number_words(n: int, words: str) -> None:
    assert number_words(n) == words


@pytest.mark.parametrize("n", [-1, 1_000_000])
def test_number_out_of_range(n: int) -> None:
    with pytest.raises(EdgeSpeechError, match="0 to 999999"):
        number_words(n)


def test_ordinals() -> None:
    wanted = {1: "first", 2: "second", 3: "third", 5: "fifth", 8: "eighth", 9: "ninth", 12: "twelfth"}
    wanted |= {20: "twentieth", 21: "twenty first", 34: "thirty fourth"}
    assert {n: ordinal_words(n) for n in wanted} == wanted


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("12", ("twelve",)),
        ("12", ("one", "two")),
        ("305", ("three", "oh", "five")),
        ("1999", ("nineteen", "ninety", "nine")),
        ("7:30", ("seven", "thirty")),
        ("7:00", ("seven",)),
        ("7:05", ("seven", "oh", "five")),
        ("21st", ("twenty", "first")),
        ("3.5", ("three", "point", "five")),
        ("1,250", ("one", "thousand", "two", "hundred", "fifty")),
        ("100", ("a", "hundred")),
        ("0042", ("zero", "zero", "four", "two")),
        ("5551234", ("five", "five", "five", "one", "two", "three", "four")),
        ("am", ("a", "m")),
        ("am", ("am",)),
        ("a.m.", ("a", "m")),
        ("1.2.3", ("one", "two", "three")),
        ("9.40am", ("nine", "forty")),
        ("8,800", ("eight", "thousand", "eight", "hundred")),
        ("12:34:56", ("one", "two", "three", "four", "five", "six")),
    ],
)
def test_a_written_token_may_be_read_as(written: str, spoken: tuple[str, ...]) -> None:
    assert spoken in readings(written)[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I'd like 12 ounces.", "i would like twelve ounces"),
        ("A 12-ounce, double-shot latte!", "a twelve ounce double shot latte"),
        ("can\N{RIGHT SINGLE QUOTATION MARK}t", "can not"),
        ("an apple", "a apple"),
        ("50%", "fifty percent"),
        ("what's it", "what is it"),
    ],
)
def test_plain_forms_that_are_equal(one: str, other: str) -> None:
    assert plain(one) == plain(other)


@pytest.mark.parametrize(
    ("typed", "other"),
    [
        ("twel\u200bve ounce", "twelve ounce"),
        ("i\u02bcd like", "i'd like"),
        ("i`d like", "i'd like"),
        ("\u0661\u0662 ounce", "12 ounce"),
        ("\uff11\uff12\u00a0ounce", "12 ounce"),
        ("cafe\u0301", "caf\u00e9"),
        ("co\ufb00ee", "coffee"),
    ],
    ids=ascii,
)
def test_how_a_word_is_typed_is_ignored(typed: str, other: str) -> None:
    assert readings(typed) == readings(other) != []


def test_nothing_to_read() -> None:
    assert readings(" ... ?!") == []
    assert plain("") == ""


def test_canonical_keeps_possessives_in_one_word() -> None:
    assert canonical("doctor's") == ("doctors",)
    assert canonical("it's") == ("it", "is")
    assert canonical("don't") == ("do", "not")
    assert canonical("o'clock") == ("oclock",)


def test_articles_follow_the_sound() -> None:
    words = ["a", "eight", "ounce", "a", "one", "hour", "a", "hour", "an", "united", "a", "umbrella", "a"]
    assert " ".join(with_articles(words)) == "an eight ounce a one hour an hour a united an umbrella a"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("a e i", "a e i"),
        ("a n n a", "a n n a"),
        ("t a o s", "t a o s"),
        ("i b a eight", "i b a eight"),
        ("a eight", "an eight"),
        ("make it a eight ounce", "make it an eight ounce"),
        ("an latte", "a latte"),
        ("a a", "a a"),
    ],
)
def test_spelled_letters_are_no_articles(words: str, said: str) -> None:
    assert with_articles(words.split()) == said.split()


def test_spellings_are_added_not_replaced() -> None:
    found = readings("ounces", {"ounces": ("ounce",)})
    assert found == [(("ounces",), ("ounce",))]


def test_round_numbers_and_leading_zeros_are_not_shortened() -> None:
    assert ("eighty", "eight") not in readings("8,800")[0]
    assert all(len(reading) == 4 for reading in readings("0708")[0])


def test_capitals_may_be_letters_unless_everything_is_in_capitals() -> None:
    assert readings("it's SARAH")[1] == (("s", "a", "r", "a", "h"), ("sarah",))
    assert readings("IT IS SARAH")[2] == (("sarah",),)


@given(st.text(st.sampled_from("0123456789:.,-'aAmMpPsStTnNdDrRhH %°٣½"), max_size=12) | st.text(max_size=20))
def test_any_text_can_be_read(text: str) -> None:
    for token in readings(text):
        assert token
        assert all(reading and all(reading) for reading in token)
