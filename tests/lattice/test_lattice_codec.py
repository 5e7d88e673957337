"""Messages: every lattice there and back, and nothing else comes through."""

from __future__ import annotations

import random
from dataclasses import replace
from math import log2
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.codec import MAX_ARCS, MAX_BYTES, Precision, Vocabulary, decode, encode, rounded
from edgespeech.lattice.coder import Decoder, Encoder, choice, signed
from edgespeech.lattice.lattice import Arc, Final, Lattice, arranged
from helpers_lattice import SOME, WORDS, lattices, random_lattice

KNOWN = Vocabulary(WORDS[:5])
PRECISIONS = st.builds(Precision, step_exponent=st.integers(0, 10), prediction=st.booleans())
NUMBERS = st.integers(0, 2**23)


def sealed(told: bytes, vocabulary: Vocabulary = KNOWN) -> bytes:
    """A message with the checksum that it should have."""
    return told + crc32(told, crc32(vocabulary.sha256)).to_bytes(4, "little")


@SOME
@given(st.lists(st.tuples(st.sampled_from("abc"), NUMBERS, st.booleans(), st.integers(0, 15)), max_size=60))
def test_what_is_coded_is_read(given_: list[tuple[str, int, bool, int]]) -> None:
    coder = Encoder()
    for context, number, flag, symbol in given_:
        coder.number(context, number)
        signed(coder, context, -number if flag else number)
        coder.bit((context, "flag"), int(flag))
        choice(coder, "symbol", 4, symbol)
    reader = Decoder(coder.finish())
    for context, number, flag, symbol in given_:
        assert reader.number(context) == number
        assert signed(reader, context) == (-number if flag else number)
        assert reader.bit((context, "flag")) == flag
        assert choice(reader, "symbol", 4) == symbol


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_bytes_are_near_the_entropy(share: float) -> None:
    rng = random.Random(0)
    coder = Encoder()
    for _ in range(20_000):
        coder.bit("x", int(rng.random() < share))
    entropy = -share * log2(share) - (1 - share) * log2(1 - share)
    assert 8 * len(coder.finish()) / 20_000 == pytest.approx(entropy, rel=0.08)


def test_a_carry_goes_through_bytes_that_are_out() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        bits = [int(rng.random() < 0.01) for _ in range(400)]
        coder = Encoder()
        for bit in bits:
            coder.bit("x", bit)
        reader = Decoder(coder.finish())
        assert [reader.bit("x") for _ in bits] == bits


@SOME
@given(lattices(), PRECISIONS)
def test_lattices_come_back(lattice: Lattice, precision: Precision) -> None:
    found = decode(encode(lattice, KNOWN, precision), KNOWN)
    assert found == rounded(lattice, precision)
    assert [(arc.word, arc.start, arc.end) for arc in found.arcs] == [
        (arc.word, arc.start, arc.end) for arc in lattice.arcs
    ]
    for sent, got in zip(lattice.arcs, found.arcs, strict=True):
        assert abs(sent.score - got.score) <= precision.step / 2 + 1e-12
        assert abs(sent.prediction - got.prediction) <= precision.step / 2 + 1e-12 or not precision.prediction


@pytest.mark.parametrize("word", ["ä" * 127, "\x00", "\N{PILE OF POO}", "x" * 255])
def test_any_word_is_spelled(word: str) -> None:
    lattice = Lattice((Arc(0, 1, word, -1.0),), (Final(1),), 0.01)
    assert decode(encode(lattice, KNOWN), KNOWN) == lattice


def test_no_words_and_ten_thousand_arcs() -> None:
    empty = Lattice((), (Final(0, -0.25),))
    assert decode(encode(empty, KNOWN), KNOWN) == empty
    assert len(encode(empty, KNOWN)) < 16
    large = random_lattice(1, 6500)
    assert len(large.arcs) > 10_000
    assert decode(encode(large, KNOWN), KNOWN) == rounded(large)


def test_known_words_take_less_than_spelled_ones() -> None:
    lattice = random_lattice(5, 9)
    assert len(encode(lattice, Vocabulary(WORDS))) < len(encode(lattice, Vocabulary())) - 10


def test_every_cut_and_every_flipped_bit_is_refused() -> None:
    message = encode(random_lattice(2, 5), KNOWN)
    for place in range(len(message)):
        with pytest.raises(EdgeSpeechError):
            decode(message[:place], KNOWN)
        for bit in range(8):
            damaged = bytearray(message)
            damaged[place] ^= 1 << bit
            with pytest.raises(EdgeSpeechError):
                decode(bytes(damaged), KNOWN)


@SOME
@given(st.binary(max_size=40))
def test_whatever_comes_is_read_as_its_own_message_or_refused(body: bytes) -> None:
    message = sealed(bytes([1]) + KNOWN.sha256[:2] + body)
    try:
        lattice = decode(message, KNOWN)
    except EdgeSpeechError:
        return
    assert any(
        encode(lattice, KNOWN, Precision(step_exponent=exponent, prediction=prediction)) == message
        for exponent in range(11)
        for prediction in (False, True)
    )


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b"", "length is 0"),
        (b"\x01\x02\x03", "length is 3"),
        (b"\x02" + bytes(20), "version is 2"),
        (b"\x01" + bytes(20), "vocabulary"),
        (b"\x01" + KNOWN.sha256[:2] + bytes(20), "checksum"),
        (bytes(MAX_BYTES + 1), "length is 65537"),
    ],
)
def test_errors_say_what_is_wrong(message: bytes, told: str) -> None:
    with pytest.raises(EdgeSpeechError, match=told):
        decode(message, KNOWN)


def test_a_node_that_no_arc_leads_to() -> None:
    """Found by fuzzing: the checksum is right, and the body has arcs over a node that has none."""
    two = Vocabulary(("a", "b"))
    told = bytes([1]) + two.sha256[:2] + bytes.fromhex("e999efe8683c5af2")
    message = told + crc32(told, crc32(two.sha256)).to_bytes(4, "little")
    with pytest.raises(
        EdgeSpeechError, match="lattice message: node is 1, expected one that an arc leads to"
    ):
        decode(message, two)


def test_fewer_arcs_for_who_cannot_afford_more() -> None:
    lattice = Lattice(tuple(Arc(n, n + 1, "a", 0.0, start=n, end=n + 1) for n in range(5)), (Final(5),))
    message = encode(lattice, KNOWN)
    assert decode(message, KNOWN, max_arcs=5) == lattice
    with pytest.raises(EdgeSpeechError, match="arcs is 5, expected at most 4"):
        decode(message, KNOWN, max_arcs=4)


def test_another_vocabulary_of_the_same_mark_is_refused() -> None:
    """Two bytes alone tell vocabularies apart in the open; the checksum knows all of the hash."""
    message = encode(random_lattice(2, 5), KNOWN)
    number = next(
        n for n in range(10**6) if Vocabulary((f"w{n}",)).sha256[0] == message[1]
    )  # one byte of two, for speed
    other = Vocabulary((f"w{number}",))
    changed = message[:2] + other.sha256[1:2] + message[3:]
    with pytest.raises(EdgeSpeechError, match="checksum"):
        decode(changed, other)


LONG = Lattice((Arc(0, 1, "x" * 256, 0.0),), (Final(1),))
HALF = Lattice((Arc(0, 1, "\ud800", 0.0),), (Final(1),))
FAR = Lattice((Arc(0, 1, "a", -1e9),), (Final(1),))
SCORED = Lattice((Arc(0, 1, "a", -1, language=-1.0),), (Final(1),))
ODD = Lattice((), (Final(0),), 0.0123456)


@pytest.mark.parametrize(
    ("lattice", "told"),
    [(LONG, "255 bytes"), (HALF, "Unicode"), (FAR, "score"), (SCORED, "language"), (ODD, "milliseconds")],
)
def test_what_cannot_be_sent_is_refused(lattice: Lattice, told: str) -> None:
    with pytest.raises(EdgeSpeechError, match=told):
        encode(lattice, KNOWN)


def test_too_many_arcs_are_refused() -> None:
    arcs = [Arc(number, number + 1, "a", 0.0) for number in range(MAX_ARCS + 1)]
    with pytest.raises(EdgeSpeechError, match="arcs"):
        encode(arranged(arcs, [Final(MAX_ARCS + 1)]), KNOWN)


def test_a_vocabulary_is_of_the_most_frequent_words(tmp_path: Path) -> None:
    made = Vocabulary.of(["b a b", "c b a"], most=2)
    assert made.words == ("b", "a")
    made.save(tmp_path / "words.txt")
    assert Vocabulary.load(tmp_path / "words.txt") == made
    with pytest.raises(EdgeSpeechError, match=r"words\.txt"):
        Vocabulary.load(tmp_path / "none" / "words.txt")


@pytest.mark.parametrize("words", [("a", "a"), ("a b",), ("",)])
def test_a_vocabulary_has_each_word_once(words: tuple[str, ...]) -> None:
    with pytest.raises(EdgeSpeechError, match="word"):
        Vocabulary(words)


def test_a_step_is_a_power_of_two() -> None:
    assert Precision(step_exponent=3).step == 0.125
    with pytest.raises(EdgeSpeechError, match="step_exponent"):
        replace(Precision(), step_exponent=11)
