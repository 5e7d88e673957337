"""The lattice codec: lattices as messages of a few hundred bytes an utterance.

A message is a version byte, two bytes that identify the vocabulary, the range-coded body, and a CRC-32 over all of it
and the vocabulary's hash, little-endian. The body has the frame's length, the step of the scores, and for every node:
the number of outgoing arcs, whether and how likely the utterance ends there, and of every arc its target, word, score
and frames. Words are coded by their rank in a vocabulary shared by both sides; others are spelled; a repeated word is
coded by the number of words since. Frames are coded relative to those of preceding arcs. The message of a lattice is
unique, and any other one is refused.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self
from zlib import crc32

from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lattice.coder import MAX_EXPONENT, Coder, Decoder, Encoder, choice, signed
from edgespeech.lattice.lattice import Arc, Final, Lattice

WHERE = "lattice message"
VERSION = 1
MAX_BYTES = 1 << 16
MAX_ARCS = 1 << 14
MAX_WORD = 255
"""Maximum bytes of a spelled word."""
MAX_SPELLED = 1 << 14
"""Maximum bytes of all spelled words of a message."""
_HEAD = 3
_CRC = 4
_RANK_BITS = 4
MAX_WORDS = (1 << (1 << _RANK_BITS) - 1) - 2
"""Maximum number of words in a vocabulary."""
MAX_STEP_EXPONENT = 10


@dataclass(frozen=True)
class Vocabulary:
    """The words shared by both sides, most frequent first.

    Attributes:
        words: all different, without white space.

    Raises:
        EdgeSpeechError: on construction: a word is repeated, empty or has white space, or there are too many.
    """

    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.words) > MAX_WORDS:
            raise bad("vocabulary", "words", len(self.words), f"at most {MAX_WORDS}")
        if len(self.ranks) < len(self.words):
            raise bad("vocabulary", "word", _twice(self.words), "each word once")
        for word in self.words:
            if word.split() != [word]:
                raise bad("vocabulary", "word", word, "a word without white space")

    @classmethod
    def of(cls, texts: Iterable[str], most: int = MAX_WORDS) -> Self:
        """The most frequent words of texts; ties are in alphabetical order."""
        counts = Counter(word for text in texts for word in text.split())
        return cls(tuple(sorted(counts, key=lambda word: (-counts[word], word))[:most]))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file with one word a line.

        Raises:
            EdgeSpeechError: it cannot be read, or as the class.
        """
        try:
            return cls(tuple(path.read_text(encoding="utf-8").splitlines()))
        except (OSError, UnicodeDecodeError) as error:
            raise bad(str(path), "vocabulary", str(error), "a file with one word a line") from error

    def save(self, path: Path) -> None:
        """Write such a file."""
        write_atomic(path, "".join(f"{word}\n" for word in self.words))

    @cached_property
    def ranks(self) -> dict[str, int]:
        """The rank of every word."""
        return {word: rank for rank, word in enumerate(self.words)}

    @cached_property
    def sha256(self) -> bytes:
        """A hash of the words."""
        return hashlib.sha256("\n".join(self.words).encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """The precision of transmitted scores.

    Attributes:
        step_exponent: scores are rounded to multiples of 2 to the minus this, in nats; 0 to 10.
        prediction: whether prediction scores are sent; a receiver with the word pieces and the predictor can compute
            them.
    """

    step_exponent: int = 2
    prediction: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.step_exponent <= MAX_STEP_EXPONENT:
            raise bad(WHERE, "step_exponent", self.step_exponent, f"0 to {MAX_STEP_EXPONENT}")

    @property
    def step(self) -> float:
        """The step of the scores, in nats."""
        return 2.0**-self.step_exponent


def encode(lattice: Lattice, vocabulary: Vocabulary, precision: Precision = Precision()) -> bytes:
    """The message of a lattice.

    Raises:
        EdgeSpeechError: it has too many arcs, a word or a score that is too long or large, language-model scores (which
            the receiver computes), or frames that are not whole milliseconds.
    """
    if len(lattice.arcs) > MAX_ARCS:
        raise bad(WHERE, "arcs", len(lattice.arcs), f"at most {MAX_ARCS}")
    if any(arc.language for arc in lattice.arcs) or any(final.language for final in lattice.finals):
        raise EdgeSpeechError(f"{WHERE}: the lattice has a language model's scores, expected none")
    milliseconds = round(1000 * lattice.frame_s)
    if milliseconds < 1 or milliseconds / 1000 != lattice.frame_s:
        raise bad(WHERE, "frame_s", lattice.frame_s, "whole milliseconds")
    coder = Encoder()
    _body(coder, vocabulary, precision, _rounded(lattice, precision), milliseconds)
    told = bytes([VERSION]) + vocabulary.sha256[:2] + coder.finish()
    message = told + _checksum(told, vocabulary)
    if len(message) > MAX_BYTES:
        raise bad(WHERE, "length", len(message), f"at most {MAX_BYTES} bytes")
    return message


def decode(message: bytes, vocabulary: Vocabulary, *, max_arcs: int = MAX_ARCS) -> Lattice:
    """The lattice of a message, with rounded scores.

    Args:
        message: the bytes.
        vocabulary: of the encoder.
        max_arcs: a lower limit for receivers with less memory.

    Raises:
        EdgeSpeechError: it is of another version or vocabulary, cut, changed, too long, or not the output of `encode`
            for any lattice.
    """
    if len(message) > MAX_BYTES:
        raise bad(WHERE, "length", len(message), f"at most {MAX_BYTES} bytes")
    if len(message) < _HEAD + _CRC:
        raise bad(WHERE, "length", len(message), f"at least {_HEAD + _CRC} bytes")
    if message[0] != VERSION:
        raise bad(WHERE, "version", message[0], str(VERSION))
    if message[1:_HEAD] != vocabulary.sha256[:2]:
        raise bad(WHERE, "vocabulary", message[1:_HEAD].hex(), vocabulary.sha256[:2].hex())
    told = message[:-_CRC]
    if message[-_CRC:] != _checksum(told, vocabulary):
        raise bad(
            WHERE, "checksum", message[-_CRC:].hex(), f"{_checksum(told, vocabulary).hex()}: it is damaged"
        )
    lattice, precision = _body(Decoder(told[_HEAD:]), vocabulary, Precision(), None, 0, max_arcs)
    if encode(lattice, vocabulary, precision) != message:
        raise EdgeSpeechError(f"{WHERE}: not the one message of its lattice")
    return lattice


def rounded(lattice: Lattice, precision: Precision = Precision()) -> Lattice:
    """The lattice after encoding and decoding.

    Raises:
        EdgeSpeechError: a score is too large.
    """
    coded = _rounded(lattice, precision)
    return _restored(coded.arcs, coded.finals, precision, lattice.frame_s)


@dataclass(frozen=True, slots=True)
class _Coded:
    """A lattice whose scores are whole numbers of steps; each node's arcs, and the scores of its final nodes."""

    arcs: list[list[Arc]]
    finals: dict[int, int]


def _rounded(lattice: Lattice, precision: Precision) -> _Coded:
    def steps(score: float) -> int:
        found = round(score / precision.step)
        if abs(found) >= (1 << MAX_EXPONENT) - 1:
            raise bad(WHERE, "score", score, f"less than {((1 << MAX_EXPONENT) - 1) * precision.step:g} nats")
        return found

    return _Coded(
        [
            [
                replace(
                    arc,
                    score=steps(arc.score),
                    prediction=steps(arc.prediction) if precision.prediction else 0,
                )
                for arc in arcs
            ]
            for arcs in lattice.leaving
        ],
        {final.node: steps(final.score) for final in lattice.finals},
    )


def _restored(
    arcs: Iterable[Sequence[Arc]], finals: dict[int, int], precision: Precision, frame_s: float
) -> Lattice:
    return Lattice(
        tuple(
            replace(arc, score=arc.score * precision.step, prediction=arc.prediction * precision.step)
            for some in arcs
            for arc in some
        ),
        tuple(Final(node, score * precision.step) for node, score in sorted(finals.items())),
        frame_s,
    )


_NO_ARC = Arc(0, 1, "", 0)


def _body(
    coder: Coder,
    vocabulary: Vocabulary,
    precision: Precision,
    coded: _Coded | None,
    milliseconds: int,
    max_arcs: int = MAX_ARCS,
) -> tuple[Lattice, Precision]:
    """Code a lattice: an encoder writes the given one; a decoder, without one, reads it."""
    precision = Precision(
        step_exponent=choice(coder, "step", 4, precision.step_exponent),
        prediction=bool(coder.bit("with prediction", precision.prediction)),
    )
    milliseconds = coder.number("frame", milliseconds)
    words = _Words(vocabulary)
    times = {0: 0}  # by node, the end of the first arc to it
    arcs: list[list[Arc]] = []
    finals: dict[int, int] = {}
    total = source = last = 0
    while source <= last:
        if source not in times:
            raise bad(WHERE, "node", source, "one that an arc leads to")
        given = coded.arcs[source] if coded else []
        count = coder.number(("leaving", source == 0), len(given))
        total += count
        if total > max_arcs:
            raise bad(WHERE, "arcs", total, f"at most {max_arcs}")
        end = coded.finals.get(source) if coded else None
        if not count or coder.bit("final", int(end is not None)):
            finals[source] = -signed(coder, ("end", count > 0), -(end or 0))
        target = source + 1
        here: list[Arc] = []
        for place in range(count):
            arc = given[place] if coded else _NO_ARC
            target += coder.number(("target", min(place, 1)), arc.target - target)
            word = words.code(coder, arc.word)
            score = -signed(coder, ("score", min(count, 3)), -int(arc.score))
            prediction = -signed(coder, "prediction", -int(arc.prediction)) if precision.prediction else 0
            known = times[source]
            start = known + signed(coder, ("start", source == 0), arc.start - known)
            if target in times:
                until = times[target] + signed(coder, "until", arc.end - times[target])
            else:
                until = start + 1 + coder.number("length", arc.end - start - 1)
            times.setdefault(target, until)
            here.append(Arc(source, target, word, score, prediction, start, until))
        arcs.append(here)
        last = max(last, target if count else 0)
        source += 1
    return _restored(arcs, finals, precision, milliseconds / 1000), precision


class _Words:
    """The words of a message so far, the last one used first."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._recent: list[str] = []
        self._spelled = 0

    def code(self, coder: Coder, word: str) -> str:
        """Code a word."""
        if coder.bit("again", int(word in self._recent)):
            place = coder.number("recent", self._recent.index(word) if word in self._recent else 0)
            if place >= len(self._recent):
                raise bad(WHERE, "word before", place, f"one of the last {len(self._recent)}")
            word = self._recent.pop(place)
        else:
            word = self._first(coder, word)
        self._recent.insert(0, word)
        return word

    def _first(self, coder: Coder, word: str) -> str:
        """A new word: its rank plus one, as the number of bits and then the bits; 0 if it is spelled."""
        rank = self._vocabulary.ranks.get(word, -1) + 1
        bits = choice(coder, "rank", _RANK_BITS, (rank + 1).bit_length() - 1)
        found = 1
        for place in reversed(range(bits)):
            where = ("rank", bits, found) if bits - place <= 2 else "rank, low"
            found = found << 1 | coder.bit(where, (rank + 1) >> place & 1)
        if found == 1:
            return self._spell(coder, word)
        if found - 2 >= len(self._vocabulary.words):
            raise bad(WHERE, "word", found - 2, f"one of {len(self._vocabulary.words)}")
        return self._vocabulary.words[found - 2]

    def _spell(self, coder: Coder, word: str) -> str:
        try:
            letters = word.encode()
        except UnicodeEncodeError as error:
            raise bad(WHERE, "word", word, "Unicode text") from error
        if len(letters) > MAX_WORD:
            raise bad(WHERE, "word", word, f"at most {MAX_WORD} bytes")
        length = coder.number("letters", max(0, len(letters) - 1)) + 1
        self._spelled += length
        if length > MAX_WORD or self._spelled > MAX_SPELLED:
            raise bad(
                WHERE, "spelled bytes", self._spelled, f"{MAX_WORD} a word and {MAX_SPELLED} in all at most"
            )
        letters = letters or bytes(length)
        try:
            return bytes(choice(coder, "letter", 8, letter) for letter in letters).decode()
        except UnicodeDecodeError as error:
            raise bad(WHERE, "word", error.object, "UTF-8") from error


def _checksum(told: bytes, vocabulary: Vocabulary) -> bytes:
    return crc32(told, crc32(vocabulary.sha256)).to_bytes(_CRC, "little")


def _twice(words: Sequence[str]) -> str:
    return next(word for word, count in Counter(words).items() if count > 1)
