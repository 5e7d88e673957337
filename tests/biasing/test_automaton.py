"""The native automaton of phrases against its slow, obvious twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgespeech.biasing.phrases import HEAD, MAX_BOOST, PhraseBias, Places
from edgespeech.core.labels import SPACE
from edgespeech.errors import EdgeSpeechError
from helpers_bias import biased, score, written

SIGNS = (SPACE, "a", "b", "ab", "ba", "aab", "bab")
PIECES = ("<blk>", "<unk>", *SIGNS, *(f"{SPACE}{sign}" for sign in SIGNS[1:]))
WORDS = st.text("ab", min_size=1, max_size=3)
PHRASES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
LISTS = st.dictionaries(PHRASES, st.sampled_from([0.5, 1.0, 2.0]), max_size=8)
HEADS = st.sampled_from([0, 1, 4])
LABELS = st.lists(st.integers(1, len(PIECES) - 1), max_size=12)


def bias_of(phrases: dict[str, float], boost: float = 1.0, head: int = HEAD) -> PhraseBias:
    return PhraseBias(PIECES, tuple(phrases), tuple(phrases.values()), boost, head)


def added_by(bias: PhraseBias, places: Places, labels: list[int], label: int) -> float:
    _, added = bias.native.follow(places.place(labels), label)
    return float(added)


def expected(phrases: dict[str, float], labels: list[int], *, ended: bool, head: int = HEAD) -> float:
    boosts = {f" {phrase}": weight for phrase, weight in phrases.items()}
    return score(written(labels, PIECES), boosts, ended=ended, head=head)


@given(LISTS, LABELS, HEADS)
@settings(max_examples=400, deadline=None)
def test_every_label_adds_what_the_obvious_one_says(
    phrases: dict[str, float], labels: list[int], head: int
) -> None:
    bias = bias_of(phrases, head=head)
    places = Places(bias)
    row = places.rows([labels])[0]
    before = expected(phrases, labels, ended=False, head=head)
    assert row[0] == 0
    for label in range(1, len(PIECES)):
        added = expected(phrases, [*labels, label], ended=False, head=head) - before
        assert row[label] == pytest.approx(added, abs=1e-6)
        assert added_by(bias, places, labels, label) == pytest.approx(added, abs=1e-6)
    back = expected(phrases, labels, ended=True, head=head) - before
    assert places.closing(labels) == pytest.approx(back, abs=1e-6)


@given(LISTS, LABELS, arrays(np.float64, len(PIECES), elements=st.floats(-30, 30)))
@settings(max_examples=200, deadline=None)
def test_bonuses_move_probability_between_labels_alone(
    phrases: dict[str, float], labels: list[int], logits: np.ndarray
) -> None:
    scores = logits - np.logaddexp.reduce(logits)
    places = Places(bias_of(phrases))
    found = places.biased(scores[None], [labels])[0]
    boosts = {f" {phrase}": weight for phrase, weight in phrases.items()}
    assert found.tolist() == pytest.approx(biased(scores.tolist(), labels, PIECES, boosts), abs=1e-6)
    assert found[0] == scores[0]
    assert np.logaddexp.reduce(found[1:]) == pytest.approx(np.logaddexp.reduce(scores[1:]), abs=1e-6)


@given(LISTS, LABELS, HEADS)
@settings(max_examples=200, deadline=None)
def test_a_search_that_cannot_go_back_pays_only_for_what_it_gives_up(
    phrases: dict[str, float], labels: list[int], head: int
) -> None:
    places = Places(bias_of(phrases, head=head))
    row, sunk = places.rows([labels])[0], places.rows([labels], sunk=True)[0]
    closing = places.closing(labels)
    text = written(labels, PIECES)
    begun = [text[at:] for at, sign in enumerate(text) if sign == " "]
    for label in range(1, len(PIECES)):
        assert sunk[label] == pytest.approx(row[label], abs=1e-6) or sunk[label] == pytest.approx(
            row[label] - closing, abs=1e-6
        )
    if not any(f" {phrase}".startswith(part) for phrase in phrases for part in begun):
        assert (sunk == row).all()


def test_what_was_given_is_given_back_exactly() -> None:
    bias = bias_of({"aab bab": 1.0, "ab": 1.0}, boost=0.3)
    place, total = bias.read(bias.start, " aab ba")
    assert total == pytest.approx((5 - HEAD) * 0.3, abs=1e-3)
    assert total + bias.closing(place) == 0
    _, back = bias.read(place, "a")
    assert total + back == 0


def test_a_word_counts_however_it_is_split() -> None:
    bias = bias_of({"bab": 1.0})
    places = Places(bias)
    bonuses = set()
    for split in (
        [f"{SPACE}bab"],
        [SPACE, "bab"],
        [f"{SPACE}b", "ab"],
        [f"{SPACE}ba", "b"],
        [SPACE, "ba", "b"],
    ):
        labels = [PIECES.index(piece) for piece in split]
        total = sum(added_by(bias, places, labels[:at], label) for at, label in enumerate(labels))
        bonuses.add(total + places.closing(labels))
    assert bonuses == {3.0}


def test_the_first_piece_begins_a_word() -> None:
    assert bias_of({"bab": 1.0}).native.follow(1, PIECES.index("bab"))[1] == 3.0


def test_a_phrase_inside_a_word_is_none() -> None:
    assert expected({"a": 1.0}, [PIECES.index(f"{SPACE}ba")], ended=True) == 0
    bias = bias_of({"a": 1.0})
    for text in (" ba", " ab", " bab"):
        place, total = bias.read(bias.start, text)
        assert total + bias.closing(place) == 0


def test_the_work_of_a_step_does_not_grow_with_the_list() -> None:
    """Counted, not timed: a row asks only for places that the label's own letters reach."""
    many = [f"{a}{b}{c} {d}" for a in "ab" for b in "ab" for c in "ab" for d in ("a", "b", "ab", "ba", "aab")]
    few, all_of_them = bias_of(dict.fromkeys(many[:1], 1.0)), bias_of(dict.fromkeys(many, 1.0))
    assert few.native.places < all_of_them.native.places
    assert len(all_of_them) == len(many)
    assert all_of_them.nbytes < 30 * sum(len(phrase) + 1 for phrase in many)


def test_weights_of_equal_spellings_are_the_greatest() -> None:
    bias = PhraseBias(PIECES, ("AB", "ab"), (0.5, 2.0), 1.0)
    assert len(bias) == 1
    assert bias.read(bias.start, " ab")[1] == 4.0


def test_no_phrase_adds_nothing() -> None:
    places = Places(PhraseBias(PIECES, ()))
    assert not places.rows([[], [2, 3], [PIECES.index(f"{SPACE}a")]]).any()


def test_a_list_of_100000_has_the_same_rows_as_its_part_that_can_match() -> None:
    rng = np.random.default_rng(0)
    drawn = {"".join(rng.choice(["a", "b"], 12)) for _ in range(20_000)}
    one = sorted(drawn)[0]
    whole, alone = bias_of(dict.fromkeys(drawn, 1.0)), bias_of({one: 1.0})
    assert whole.read(whole.start, f" {one}")[1] == alone.read(alone.start, f" {one}")[1] == 12


@pytest.mark.parametrize("boost", [-0.1, float("inf"), float("nan"), MAX_BOOST + 1, True, "1"])
def test_a_boost_out_of_range_is_refused(boost: float) -> None:
    with pytest.raises(EdgeSpeechError, match=r"boost is .*, expected nats for a letter"):
        PhraseBias(PIECES, ("ab",), boost=boost)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((-1.0,), "weight of 'ab' is -1.0, expected a number of at least 0"),
        ((float("inf"),), "weight of 'ab' is inf"),
        ((float("nan"),), "weight of 'ab' is nan"),
        ((1.0, 2.0), "number of weights is 2, expected one for each of 1 phrases"),
        ((20.0,), "context: weight is 20.0, expected at most 16, with a boost of 1 nats"),
        ((1e39,), "weight of 'ab' is 1e.39, expected a number of at least 0 and at most 1e.06"),
    ],
)
def test_bad_weights_are_refused(weights: tuple[float, ...], message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        PhraseBias(PIECES, ("ab",), weights, 1.0)


def test_a_million_phrases_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="number of phrases is 1000000, expected at most 200000"):
        PhraseBias(PIECES, ("ab",) * 1_000_000)


def test_too_many_letters_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="number of characters is 9000000, expected at most 4000000"):
        PhraseBias(PIECES, ("a" * 9_000,) * 1_000)


def test_what_cannot_be_used_is_left_out_and_named() -> None:
    bias = PhraseBias(PIECES, ("ab", "a" * 10_000, "東京", "", "xyz", "ba"))
    assert len(bias) == 2
    told = "\n".join(bias.remarks)
    assert "1 of 6 context phrases are not used (longer than 200 characters): 'aaa" in told
    assert "2 of 6 context phrases are not used (no spelling in letters from a to z): '東京', ''" in told
    assert "1 of 6 context phrases are not used (letters that no word piece has): 'xyz'" in told


def test_a_place_or_label_that_is_none_is_refused() -> None:
    native = bias_of({"ab": 1.0}).native
    with pytest.raises(ValueError, match="place 99, expected less than"):
        native.closing(99)
    with pytest.raises(ValueError, match="label 99, expected 0 to"):
        native.follow(0, 99)
    with pytest.raises(ValueError, match="label -1, expected 0 to"):
        native.follow(0, -1)
