"""Adaptive binary range coding of whole numbers.

Every binary decision has a context with an adaptive probability. Source: G. Martin, "Range encoding" (Video and
Data Recording Conference, Southampton, 1979); numbers as exponent and bits after it as in P. Elias, "Universal
codeword sets" (IEEE Transactions on Information Theory, 1975). All arithmetic is on whole numbers, so that every
machine gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from edgespeech.errors import EdgeSpeechError

_ONE = 1 << 16
"""Probabilities are in units of one over this."""
_LEAST = 1 << 7
"""The smallest probability, so that no decision is impossible."""
_SLOWEST = 6
"""Adaptation rate of a context after this many decisions: 2 to the minus this."""
_TOP = 1 << 24
"""The range is never smaller before a decision."""
_MASK = (1 << 32) - 1
MAX_EXPONENT = 24
"""Maximum number of bits of a number."""


class Coder(Protocol):
    """Either direction: an encoder writes its arguments, a decoder ignores them and returns the values written."""

    def bit(self, context: Hashable, value: int = 0) -> int:
        """A decision, 0 or 1."""

    def number(self, context: Hashable, value: int = 0) -> int:
        """A whole number of at least 0, below 2 to the power of `MAX_EXPONENT`, less 1."""


class _Contexts:
    """The state of all contexts: the probability of a 1, and the number of decisions."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[int, int]] = {}

    def one(self, context: Hashable) -> int:
        """The probability of a 1."""
        return self._known.get(context, (_ONE // 2, 0))[0]

    def learn(self, context: Hashable, value: int) -> None:
        """Adapt to a decision, at a rate that falls with the number of decisions."""
        one, seen = self._known.get(context, (_ONE // 2, 0))
        seen = min(seen + 1, (1 << _SLOWEST) - 2)
        one += ((_ONE if value else 0) - one) // (seen + 2)
        self._known[context] = max(_LEAST, min(_ONE - _LEAST, one)), seen


class Encoder:
    """Writes numbers; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._contexts = _Contexts()
        self._low = 0
        self._range = _MASK
        self._out = bytearray()

    def bit(self, context: Hashable, value: int = 0) -> int:
        """Write a decision; see `Coder`."""
        part = (self._range >> 16) * self._contexts.one(context)
        if value:
            self._range = part
        else:
            self._low += part
            self._range -= part
        self._contexts.learn(context, value)
        if self._low > _MASK:
            self._carry()
        while self._range < _TOP:
            self._out.append(self._low >> 24)
            self._low = self._low << 8 & _MASK
            self._range <<= 8
        return value

    def number(self, context: Hashable, value: int = 0) -> int:
        """Write a number; see `Coder`."""
        return _number(self, context, value)

    def finish(self) -> bytes:
        """The bytes written, as few as are unambiguous. A decoder reads zeros after them."""
        for kept in range(5):  # bytes of a number between low and the end of the range
            step = 1 << (32 - 8 * kept)
            value = -(-self._low // step) * step
            if value < self._low + self._range:
                break
        if value > _MASK:
            self._carry()
        self._out += (value & _MASK).to_bytes(4, "big")[:kept]
        return bytes(self._out).rstrip(b"\0")

    def _carry(self) -> None:
        """Add 1 to the bytes that are out."""
        self._low &= _MASK
        at = len(self._out) - 1
        while self._out[at] == 255:
            self._out[at] = 0
            at -= 1
        self._out[at] += 1


class Decoder:
    """Reads the output of an `Encoder`, given the same calls in the same order.

    Args:
        content: the bytes.
    """

    def __init__(self, content: bytes) -> None:
        self._contexts = _Contexts()
        self._content = content
        self._at = 4
        self._range = _MASK
        self._value = int.from_bytes(content[:4].ljust(4, b"\0"), "big")

    def bit(self, context: Hashable, value: int = 0) -> int:
        """Read a decision; see `Coder`."""
        del value
        part = (self._range >> 16) * self._contexts.one(context)
        found = int(self._value < part)
        if found:
            self._range = part
        else:
            self._value -= part
            self._range -= part
        self._contexts.learn(context, found)
        while self._range < _TOP:
            following = self._content[self._at] if self._at < len(self._content) else 0
            self._at += 1
            self._value = (self._value << 8 | following) & _MASK
            self._range <<= 8
        return found

    def number(self, context: Hashable, value: int = 0) -> int:
        """Read a number; see `Coder`.

        Raises:
            EdgeSpeechError: it has too many bits.
        """
        del value
        return _number(self, context, 0)


def signed(coder: Coder, context: Hashable, value: int = 0) -> int:
    """A whole number of either sign, by its size and whether it is negative."""
    size = coder.number((context, "size"), abs(value))
    return -size if size and coder.bit((context, "minus"), int(value < 0)) else size


def _number(coder: Coder, context: Hashable, value: int) -> int:
    """Code value + 1: the number of bits after the first in unary, then the bits, the highest two with contexts."""
    wanted = (value + 1).bit_length() - 1
    exponent = 0
    while coder.bit((context, exponent), int(wanted > exponent)):
        exponent += 1
        if exponent > MAX_EXPONENT:
            raise EdgeSpeechError(f"range coder: a number of more than {MAX_EXPONENT} bits")
    found = 1
    for place in reversed(range(exponent)):
        known = exponent - place <= 2
        where = (context, exponent, found) if known else (context, "low")
        found = found << 1 | coder.bit(where, (value + 1) >> place & 1)
    return found - 1


def choice(coder: Coder, context: Hashable, bits: int, value: int = 0) -> int:
    """A whole number of at least 0, below 2 to the power of `bits`, with an adaptive probability for each value."""
    found = 1
    for place in reversed(range(bits)):
        found = found << 1 | coder.bit((context, found), value >> place & 1)
    return found - (1 << bits)
