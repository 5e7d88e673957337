"""Word pieces from their list alone are those of sentencepiece."""

from __future__ import annotations

import random

import pytest

from edgespeech.biasing.pieces import phrase_labels, piece_labels
from edgespeech.model.tokeniser import Tokeniser

SENTENCES = [
    "turn on the light in the kitchen",
    "play some music by the band",
    "call anna on her mobile phone",
] * 3


@pytest.mark.parametrize("size", [40, 60, 80])
def test_pieces_are_those_of_sentencepiece(size: int) -> None:
    tokeniser = Tokeniser.train(SENTENCES, size)
    labels = {piece: label for label, piece in enumerate(tokeniser.pieces)}
    draw = random.Random(size)
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    letters = "abcdefghijklmnopqrstuvwxyz'"
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 4))) for _ in range(100)]
    texts += ["".join(draw.choices("aehilnotmu", k=draw.randint(1, 12))) for _ in range(200)]
    texts += ["".join(draw.choices(letters, k=draw.randint(1, 9))) for _ in range(100)]
    for text in texts:
        assert list(piece_labels(text, labels) or ()) == tokeniser.encode(text), text


def test_what_no_piece_spells_is_left_out() -> None:
    pieces = Tokeniser.train(SENTENCES, 40).pieces
    assert phrase_labels(
        ["anna", "ännä", "", "the light in the kitchen", "mobile"], pieces, 6
    ) == phrase_labels(["anna", "mobile"], pieces, 6)
    assert len(phrase_labels(["the light in the kitchen"], pieces, 64)) == 1
