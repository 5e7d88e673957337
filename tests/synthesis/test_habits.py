"""Habits of pronunciation: what each one does, and that they stay within what can be said."""

# ruff: noqa: RUF001  the signs of the phonetic alphabet are meant

import random

import pytest
from kokoro_onnx.tokenizer import Tokenizer
from phonemizer import phonemize  # type: ignore[import-untyped]  # it has no types

from edgespeech.errors import EdgeSpeechError
from edgespeech.synthesis.habits import draw_habits, habit_names, with_habits

SENTENCES = (
    "Could you order a large double shot mocha with a little bit of brown sugar and soy milk.",
    "Turn this basic thermostat to twenty three degrees this Thursday, please.",
    "Stop the music in the kitchen and measure fifty, judge, church, yes, A, B, C.",
    "Would you wake me at half past five with something strong for both of us.",
)


@pytest.fixture(scope="module")
def sounds() -> list[str]:
    Tokenizer()  # its construction tells phonemizer where espeak-ng is
    return [
        str(said).strip()
        for accent in ("en-us", "en-gb")
        for said in phonemize(list(SENTENCES), accent, preserve_punctuation=True, with_stress=True)
    ]


@pytest.mark.parametrize("habit", habit_names())
def test_each_habit_changes_what_it_is_about_and_stays_sayable(habit: str, sounds: list[str]) -> None:
    vocabulary = Tokenizer().vocab
    changed = [with_habits(said, [habit]) for said in sounds]
    assert changed != sounds
    assert set("".join(changed)) <= vocabulary.keys()
    assert [said.count(" ") for said in changed] == [said.count(" ") for said in sounds], "words stay apart"


@pytest.mark.parametrize(
    ("habit", "before", "after"),
    [
        ("th_as_stops", "ðɪs θˈɪŋ", "dɪs tˈɪŋ"),
        ("voiceless_ends", "ɹˈoʊd dˈɒɡ dʒˈʌdʒ.", "ɹˈoʊt dˈɒk dʒˈʌtʃ."),
        ("curled_t_and_d", "tʃˈɜːtʃ tˈuː dʒˈʌdʒ dˈuː", "tʃˈɜːtʃ ʈˈuː dʒˈʌdʒ ɖˈuː"),
        ("r_before_vowels_alone", "kˈɑːɹ ɹˈɛd kˈɑːɹd wˈɔːɾɚ", "kˈɑː ɹˈɛd kˈɑːd wˈɔːɾə"),
        ("vowel_before_s", "stɹˈɔŋ sˈaʊnd", "ɛstɹˈɔŋ sˈaʊnd"),
        ("short_i_tense", "bˈɪt bˈaɪt bˈeɪt", "bˈit bˈaɪt bˈeɪt"),
        ("plain_e_and_o", "mˈoʊkə tədˈeɪ", "mˈoːkə tədˈeː"),
        ("even_stress", "tˈuː wˌiː", "tuː wiː"),
    ],
)
def test_what_a_habit_does(habit: str, before: str, after: str) -> None:
    assert with_habits(before, [habit]) == after


def test_habits_are_drawn_from_different_groups_in_order() -> None:
    names = habit_names()
    for seed in range(200):
        drawn = draw_habits(random.Random(seed), 7)
        assert len(set(drawn)) == 7
        assert [names.index(name) for name in drawn] == sorted(names.index(name) for name in drawn)
        assert sum(name.startswith("th_") for name in drawn) <= 1
    assert draw_habits(random.Random(0), 0) == ()
    assert draw_habits(random.Random(1), 7) == draw_habits(random.Random(1), 7)


def test_every_habit_can_be_drawn() -> None:
    rng = random.Random(0)
    assert {name for _ in range(600) for name in draw_habits(rng, 7)} == set(habit_names())


def test_wrong_ones_are_named() -> None:
    with pytest.raises(EdgeSpeechError, match="habits is 99, expected 0 to"):
        draw_habits(random.Random(0), 99)
    with pytest.raises(EdgeSpeechError, match="habit is 'lisp', expected one of th_as_stops"):
        with_habits("s", ["lisp"])
