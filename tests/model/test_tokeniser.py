"""Word pieces."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.tokeniser import Tokeniser

SENTENCES = [
    "turn on the light",
    "turn off the light",
    "what's the time",
    "g m e f three nine",
    "play some music",
]
TOKENS = Tokeniser.train(SENTENCES * 3, 60)


def test_there_and_back() -> None:
    for text in [*SENTENCES, "zebra quiz", "it's"]:
        labels = TOKENS.encode(text)
        assert 0 not in labels
        assert TOKENS.decode(labels) == text


@given(st.text("abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=8).filter(lambda w: w.strip("'")))
def test_every_word_can_be_written(word: str) -> None:
    assert TOKENS.decode(TOKENS.encode(word)) == word


def test_the_same_sentences_give_the_same_pieces() -> None:
    assert Tokeniser.train(SENTENCES * 3, 60).pieces == TOKENS.pieces
    assert len(TOKENS) == 60
    assert TOKENS.pieces[0] == "<blk>"


def test_frequent_words_are_few_pieces() -> None:
    assert len(TOKENS.encode("turn the light")) < len(TOKENS.encode("zebra quiz jack"))


def test_a_file_keeps_it(tmp_path: Path) -> None:
    TOKENS.save(tmp_path / "tokens.model")
    assert Tokeniser.load(tmp_path / "tokens.model").pieces == TOKENS.pieces


@pytest.mark.parametrize("text", ["Turn", "seven7", "na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve"])
def test_other_characters_are_refused(text: str) -> None:
    with pytest.raises(EdgeSpeechError, match="expected words of a to z"):
        TOKENS.encode(text)


def test_too_many_pieces_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="size is 5000"):
        Tokeniser.train(["a b c"], 5000)


def test_a_piece_that_is_no_text_is_refused() -> None:
    """Found by fuzzing: such a model was read, and its pieces raised a UnicodeDecodeError later."""
    proto = Tokeniser.train(["turn on the lights", "turn off the lights in the kitchen"], 40).proto
    damaged = proto.replace("\u2581".encode() + b"the", b"\xe2`\x81the")
    assert damaged != proto
    with pytest.raises(EdgeSpeechError, match="not a sentencepiece model"):
        Tokeniser(damaged)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tokens.model").write_bytes(b"not a model")
    with pytest.raises(EdgeSpeechError, match="not a sentencepiece model"):
        Tokeniser.load(tmp_path / "tokens.model")
    with pytest.raises(EdgeSpeechError, match=r"nowhere\.model"):
        Tokeniser.load(tmp_path / "nowhere.model")
