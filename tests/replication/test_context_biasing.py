"""The lists of context biasing, how their errors are counted, and how the bonus is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from replication.context_biasing import tune
from replication.context_biasing.lists import KINDS, Case, Set, names
from replication.context_biasing.search import count_texts, counted, difference, gain, invented

from edgespeech.corpora.manifest import Utterance
from edgespeech.corpora.utterances import Spoken
from edgespeech.errors import EdgeSpeechError
from edgespeech.text.grammar import load_grammar
from edgespeech.text.normalise import normalisers

POOL = ("marta quill", "marda squill", "bobo", "kestrel", "calm harbour", "ibex", "ann")


def case(text: str, *right: str, name: str = "u") -> Case:
    item = Utterance(id=name, audio_filepath="a.wav", duration=2.0, text=text, speaker=name)
    return Case(Spoken(corpus="c", item=item, audio=Path("a.wav")), text, right)


def set_of(*cases: Case) -> Set:
    return Set("c", cases, POOL, 0)


def test_lists_have_what_their_kind_says() -> None:
    one = case("call ann now", "ann")
    given = set_of(one)
    lists = {kind: given.phrases(one, 4, kind) for kind in KINDS}
    assert lists["oracle"] == ("ann",)
    assert len(lists["full"]) == len(lists["absent"]) == 4
    assert "ann" in lists["full"]
    assert "ann" not in lists["absent"]
    assert "ann" not in lists["anti"]
    assert lists["full"] == given.phrases(one, 4)  # drawn once and for all
    assert given.phrases(one, 0) == ()


def test_no_distractor_has_a_word_of_the_reference() -> None:
    one = case("the harbour was calm", "harbour")
    assert not {"calm harbour"} & set(set_of(one).phrases(one, 7, "absent"))


def test_anti_lists_begin_with_what_sounds_alike() -> None:
    one = case("ring martha quell")
    assert set_of(one).phrases(one, 2, "anti") == ("marta quill", "marda squill")


def test_names_are_many_and_different() -> None:
    assert len(names()) == len(set(names())) > 2_000


def test_the_parts_of_the_names_share_none() -> None:
    slots = ("contact", "song", "artist", "place", "device", "room", "skill")
    parts = [
        {value for slot in slots for value in load_grammar(f"names_{part}").values(slot)}
        for part in ("train", "dev", "test")
    ]
    assert all(len(part) > 40 for part in parts)
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_errors_are_those_of_the_list_and_of_the_others() -> None:
    given = set_of(case("call ann now", "ann"), case("ring bobo", "bobo", name="v"))
    texts = {"u": "call an now kestrel", "v": "ring the bobo"}
    asked: list[tuple[str, ...]] = []

    def transcribe(one: Case, phrases: tuple[str, ...]) -> str:
        asked.append(phrases)
        return texts[one.spoken.id]

    found = counted(given, "basic", 6, "full", transcribe, told=True)
    assert [len(phrases) for phrases in asked] == [6, 6]
    assert (found.biased, found.biased_words) == ([2, 0], [1, 1])  # ann, and kestrel that nobody said
    assert (found.unbiased, found.unbiased_words) == ([0, 1], [2, 1])
    assert found.errors == [2, 1]
    assert found.invented == [1, 0]
    counted(given, "basic", 6, "full", transcribe, told=False)
    assert asked[2:] == [(), ()]


def test_a_gain_is_relative() -> None:
    given = set_of(case("ann", "ann"), case("bobo", "bobo", name="v"))
    normalise = normalisers()["basic"]
    before, after = (count_texts(given, normalise, [(), ()], texts) for texts in (["x", "y"], ["ann", "y"]))
    assert gain(before, after, "biased", 0)["measured"] == 0.5
    assert gain(after, before, "biased", 0)["measured"] == -1


def test_a_set_of_names_alone_has_no_other_words() -> None:
    given = set_of(case("ann", "ann"), case("bobo", "bobo", name="v"))
    found = count_texts(given, normalisers()["basic"], [(), ()], ["ann", "y"])
    assert difference(found, found, 0) == {"skipped": "the references have no word outside of the lists"}
    assert found.rates(0).keys() == {"wer", "b_wer", "invented_per_hour"}


def test_a_phrase_counts_as_invented_where_the_reference_has_it_less_often() -> None:
    assert invented("ann calls ann lee", "ann calls", ["ann", "lee", "bo"]) == 2
    assert invented("anna", "", ["ann"]) == 0


def rows_of(errors: dict[float, tuple[int, int, int]]) -> list[dict[str, Any]]:
    return [
        {"boost": boost, "head": 0, "list": kind, "errors": count}
        for boost, counts in errors.items()
        for kind, count in zip(tune.KINDS, counts, strict=True)
    ]


def rule(harm: float, other: float, close: float = 0.0) -> dict[str, float]:
    return {"harm": harm, "harm_other": other, "close": close}


def test_the_bonus_is_the_best_of_those_that_do_no_harm() -> None:
    rows = rows_of({0: (100, 100, 100), 1: (80, 101, 100), 2: (60, 102, 100), 3: (50, 100, 104)})
    assert tune.chosen(rows, rule(0.01, 0.01)) == (1, 0)
    assert tune.chosen(rows, rule(0.02, 0.01)) == (2, 0)
    assert tune.chosen(rows, rule(0.01, 0.05)) == (3, 0)
    assert tune.chosen(rows_of({0: (100, 100, 100), 1: (120, 100, 100)}), rule(0.01, 0.01)) == (0, 0)


def test_of_bonuses_that_are_about_as_good_the_smallest_is_chosen() -> None:
    rows = rows_of({0: (100, 100, 100), 1: (61, 100, 100), 2: (60, 100, 100)})
    assert tune.chosen(rows, rule(0.01, 0.01, 0.02)) == (1, 0)
    assert tune.chosen(rows, rule(0.01, 0.01, 0.01)) == (2, 0)
    with pytest.raises(EdgeSpeechError, match=r"tuning: boosts is .*, expected 0 among them"):
        tune.chosen(rows_of({1: (1, 1, 1)}), rule(0.01, 0.01))


def test_nothing_is_tuned_on_evaluation_speech() -> None:
    config = {"tuning": {"corpora": {"coffee_dev": {"normaliser": "basic", "right": "slots"}}}}
    with pytest.raises(
        EdgeSpeechError, match=r"corpus is .coffee_dev., expected one that is not for evaluation"
    ):
        tune.tuned(config, 0)
