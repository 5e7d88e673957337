"""Words and their times."""

from __future__ import annotations

import operator
from random import Random
from typing import Any

import pytest

from edgespeech.contracts import Word
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.search.hypothesis import Changes, Hypothesis, Transcript, words_of

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


class Counted(tuple[str, ...]):
    """Pieces that count how often one is looked up."""

    looked = 0

    def __getitem__(self, label: Any) -> Any:
        self.looked += 1
        return super().__getitem__(label)


def plain(hypothesis: Hypothesis, duration_s: float, later_s: float) -> tuple[Word, ...]:
    """The words, all of them made anew."""
    found: list[tuple[str, int, int]] = []
    for label, frame in zip(hypothesis.labels, hypothesis.frames, strict=True):
        if PIECES[label].startswith(SPACE) or not found:
            found.append((PIECES[label].removeprefix(SPACE), frame, frame))
        else:
            found[-1] = (found[-1][0] + PIECES[label], found[-1][1], frame)
    return tuple(
        Word(
            text=text,
            start_s=min(first * 0.04, duration_s) + later_s,
            end_s=min((last + 1) * 0.04, duration_s) + later_s,
        )
        for text, first, last in found
        if text
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_transcript_that_changes_has_the_words_of_a_new_one(seed: int) -> None:
    random = Random(seed)
    transcript = Transcript(PIECES, 0.04)
    told: tuple[Word, ...] = ()
    now, heard_s = Hypothesis(), 0.0
    least = 0  # labels that stayed since words were told
    for _ in range(80):
        kept = len(now.labels) - random.choice((0, 0, 0, 1, 2, 9))
        kept = 0 if random.random() < 0.03 else max(kept, 0)
        labels, frames = list(now.labels[:kept]), list(now.frames[:kept])
        for _ in range(random.choice((0, 0, 1, 2, 5))):
            labels.append(random.randrange(2, len(PIECES)))
            frames.append((frames[-1] if frames else 0) + random.choice((0, 1, 4)))
        after = Hypothesis(tuple(labels), tuple(frames))
        changes = (
            transcript.changes(after)
            if random.random() < 0.5
            else Changes(kept, labels[kept:], frames[kept:])
        )
        assert transcript.update(changes) == (after.labels != now.labels)
        now, least = after, min(least, kept)
        assert (tuple(transcript.labels), tuple(transcript.frames)) == (now.labels, now.frames)
        heard_s += random.choice((0.0, 0.12, 0.5))
        if random.random() < 0.7:
            words = transcript.words(heard_s, 3.5)
            assert words == plain(now, heard_s, 3.5)
            whole = max(len(plain(Hypothesis(now.labels[:least], now.frames[:least]), heard_s, 0.0)) - 1, 0)
            pairs = zip(words[:whole], told[:whole], strict=True)
            assert all(word is before for word, before in pairs if word == before)
            told, least = words, len(now.labels)


def test_a_transcript_looks_at_what_changes_alone() -> None:
    pieces = Counted(PIECES)
    transcript = Transcript(pieces, 0.04)
    transcript.update(Changes(0, (2, 6) * 1000, range(2000)))
    before = transcript.words(100.0)
    pieces.looked = 0
    transcript.update(Changes(1999, (4, 3), (1999, 2000)))
    words = transcript.words(100.0)
    assert pieces.looked <= 3
    assert [word.text for word in words[-2:]] == ["turnn", "o"]
    assert all(map(operator.is_, words[:999], before))
