"""Entropy coding of large arrays: interleaved range asymmetric numeral systems (rANS) with one fixed table a stream.

Sources: J. Duda, "Asymmetric numeral systems" (arXiv:1311.2540); F. Giesen, "Interleaved entropy coders"
(arXiv:1402.3392). Symbol i belongs to coder i modulo the number of coders, so that numpy advances all coders at once;
arithmetic is on whole numbers alone, so every machine reads the same symbols. Rare non-zeros are coded by the distances
between them, which are near to geometric: quotients by rANS, remainders as they are (S. Golomb, "Run-length encodings",
IEEE Transactions on Information Theory, 1966).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError, bad

WHERE = "model update"
MAX_SYMBOLS = 1 << 10
"""Symbols of a stream's alphabet."""
_TABLE_BITS = 14
_TOTAL = 1 << _TABLE_BITS
_LOWEST = 1 << 16
"""A coder's state is at least this and below its square, between symbols."""
_EACH = 256
"""Bytes of a stream per coder: a coder costs 4, and more coders mean fewer steps."""
_MOST_CODERS = 512
_CONSTANT, _RANS, _PLAIN, _RARE = range(4)
_MOSTLY = 0.8
"""From this share of zeros on a stream is coded as rare non-zeros, which takes fewer steps."""
_MAX_NUMBER = 9
"""Bytes of a whole number: 7 bits each."""
_MAX_QUOTIENT = MAX_SYMBOLS - 1

Symbols = NDArray[np.int64]


class Writer:
    """Bytes of an update, from its parts."""

    def __init__(self) -> None:
        self._out = bytearray()

    def number(self, value: int) -> None:
        """A whole number of at least 0, in 7 bits a byte, the lowest first."""
        while value >= 128:
            self._out.append(value & 127 | 128)
            value >>= 7
        self._out.append(value)

    def block(self, content: bytes) -> None:
        """Bytes after their number."""
        self.number(len(content))
        self.raw(content)

    def raw(self, content: bytes) -> None:
        """Bytes whose number the reader knows."""
        self._out += content

    def symbols(self, values: Symbols, alphabet: int) -> None:
        """Symbols, each of at least 0 and below `alphabet`; the reader knows how many."""
        if 0 < (values == 0).sum() < len(values) and (values == 0).mean() > _MOSTLY:
            self.raw(bytes([_RARE]))
            self.rare(values, alphabet)
        elif len(values):
            self._dense(values, alphabet)

    def _dense(self, values: Symbols, alphabet: int) -> None:
        counts = np.bincount(values, minlength=alphabet)
        used = np.flatnonzero(counts)
        if len(used) == 1:
            self.raw(bytes([_CONSTANT]))
            self.number(int(used[0]))
            return
        coded = _encoded(values, counts, used)
        width = (alphabet - 1).bit_length()
        if len(coded) >= -(-len(values) * width // 8):
            self.raw(bytes([_PLAIN]))
            self.raw(_packed(values, width))
        else:
            self.raw(bytes([_RANS]))
            self.raw(coded)

    def rare(self, values: Symbols, alphabet: int) -> None:
        """As `symbols`, where most are 0: distances between the others, then those."""
        places = np.flatnonzero(values)
        self.number(len(places))
        if not len(places):
            return
        distances = np.diff(places, prepend=-1) - 1
        shift = max(0, int(np.log2(max(1.0, float(distances.mean())))))
        while int(distances.max()) >> shift > _MAX_QUOTIENT:
            shift += 1
        self.raw(bytes([shift]))
        self._dense(distances >> shift, _MAX_QUOTIENT + 1)
        self.raw(_packed(distances & (1 << shift) - 1, shift))
        self._dense(values[places] - 1, alphabet - 1)

    def finish(self) -> bytes:
        """All of it."""
        return bytes(self._out)


class Reader:
    """Reads what a `Writer` wrote; nothing is allocated beyond the counts that its caller gives.

    Args:
        content: the bytes.
        where: what errors begin with.
    """

    def __init__(self, content: bytes, where: str = WHERE) -> None:
        self._content = content
        self._where = where
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes that were not read."""
        return len(self._content) - self.at

    def raw(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            EdgeSpeechError: there are fewer.
        """
        if not 0 <= size <= self.left:
            raise bad(self._where, f"length at byte {self.at}", size, f"at most the {self.left} bytes left")
        found = self._content[self.at : self.at + size]
        self.at += size
        return found

    def number(self, most: int, field: str) -> int:
        """A whole number of at most `most`.

        Raises:
            EdgeSpeechError: it is larger, or longer than any number.
        """
        value = 0
        for place in range(_MAX_NUMBER):
            byte = self.raw(1)[0]
            value |= (byte & 127) << 7 * place
            if byte < 128:
                break
        else:
            raise bad(self._where, field, "more bytes than a number has", f"at most {most}")
        if value > most:
            raise bad(self._where, field, value, f"at most {most}")
        return value

    def block(self, most: int, field: str) -> bytes:
        """Bytes after their number, which is at most `most`."""
        return self.raw(self.number(most, field))

    def symbols(self, count: int, alphabet: int) -> Symbols:
        """`count` symbols below `alphabet`.

        Raises:
            EdgeSpeechError: the stream is cut, or has another symbol.
        """
        if not count:
            return np.zeros(0, np.int64)
        mode = self.raw(1)[0]
        return self.rare(count, alphabet) if mode == _RARE else self._dense(mode, count, alphabet)

    def _dense(self, mode: int, count: int, alphabet: int) -> Symbols:
        if mode == _CONSTANT:
            return np.full(count, self.number(alphabet - 1, "symbol"), np.int64)
        if mode == _PLAIN:
            found = self._unpacked(count, (alphabet - 1).bit_length())
            self._check(found, alphabet)
            return found
        if mode == _RANS:
            return self._decoded(count, alphabet)
        raise bad(
            self._where,
            "kind of a stream",
            mode,
            f"{_CONSTANT} to {_RARE}, and no further one among rare symbols",
        )

    def rare(self, count: int, alphabet: int) -> Symbols:
        """`count` symbols, most of which are 0; see `symbols`."""
        values = np.zeros(count, np.int64)
        some = self.number(count, "number of changes")
        if not some:
            return values
        shift = self.raw(1)[0]
        if shift > 40:
            raise bad(self._where, "bits of a distance", shift, "at most 40")
        quotients = self._dense(self.raw(1)[0], some, _MAX_QUOTIENT + 1)
        places = np.cumsum((quotients << shift) + self._unpacked(some, shift) + 1) - 1
        if not 0 <= int(places[-1]) < count:
            raise bad(self._where, "place of a change", int(places[-1]), f"below {count}")
        values[places] = self._dense(self.raw(1)[0], some, alphabet - 1) + 1
        return values

    def _unpacked(self, count: int, width: int) -> Symbols:
        if not width:
            return np.zeros(count, np.int64)
        content = np.frombuffer(self.raw(-(-count * width // 8)), np.uint8)
        bits = np.unpackbits(content, bitorder="little")
        if bits[count * width :].any():
            raise EdgeSpeechError(f"{self._where}: bits beyond the last symbol, expected zeros")
        grid = bits[: count * width].reshape(count, width).astype(np.int64)
        return np.asarray(grid @ (1 << np.arange(width, dtype=np.int64)), np.int64)

    def _check(self, found: Symbols, alphabet: int) -> None:
        if int(found.max()) >= alphabet:
            raise bad(self._where, "symbol", int(found.max()), f"below {alphabet}")

    def _decoded(self, count: int, alphabet: int) -> Symbols:
        table, used = self._table(alphabet)
        coders = self.number(_MOST_CODERS, "number of coders")
        if not 1 <= coders <= count:
            raise bad(self._where, "number of coders", coders, f"1 to {min(count, _MOST_CODERS)}")
        states = np.frombuffer(self.raw(4 * coders), "<u4").astype(np.uint64)
        words = np.frombuffer(self.raw(2 * self.number(self.left // 2, "words")), "<u2").astype(np.uint64)
        starts = np.cumsum(table) - table
        symbol_of = np.repeat(np.arange(len(table)), table)
        share, start = table.astype(np.uint64), starts.astype(np.uint64)
        found = np.zeros(count, np.int64)
        at = 0
        for first in range(0, count, coders):
            now = states[: min(coders, count - first)]
            slot = now & np.uint64(_TOTAL - 1)
            which = symbol_of[slot.astype(np.int64)]
            now[:] = share[which] * (now >> np.uint64(_TABLE_BITS)) + slot - start[which]
            low = np.flatnonzero(now < _LOWEST)
            if at + len(low) > len(words):
                raise EdgeSpeechError(f"{self._where}: a stream ends before its last symbol")
            now[low] = now[low] << np.uint64(16) | words[at : at + len(low)]
            at += len(low)
            found[first : first + len(now)] = which
        if at != len(words) or (states != _LOWEST).any():
            raise EdgeSpeechError(f"{self._where}: a stream does not end where its last symbol does")
        return np.asarray(used[found], np.int64)

    def _table(self, alphabet: int) -> tuple[Symbols, Symbols]:
        """Shares of the symbols that are used, which sum to 2^14, and those symbols."""
        used, shares, symbol = [], [], -1
        for _ in range(self.number(min(alphabet, _TOTAL), "symbols that are used")):
            symbol += 1 + self.number(alphabet, "symbol")
            used.append(symbol)
            shares.append(1 + self.number(_TOTAL, "share of a symbol"))
        if sum(shares) != _TOTAL or symbol >= alphabet:
            raise bad(self._where, "shares of symbols", sum(shares), f"{_TOTAL}, of symbols below {alphabet}")
        return np.array(shares, np.int64), np.array(used, np.int64)


def zigzag(values: NDArray[np.integer]) -> Symbols:
    """Whole numbers of either sign as those of at least 0: 0, -1, 1, -2 become 0, 1, 2, 3."""
    wide = values.astype(np.int64)
    return np.asarray(np.where(wide < 0, -2 * wide - 1, 2 * wide), np.int64)


def unzigzag(values: Symbols) -> Symbols:
    """The reverse of `zigzag`."""
    return np.asarray(np.where(values & 1, -(values + 1) // 2, values // 2), np.int64)


def _packed(values: Symbols, width: int) -> bytes:
    """The lowest `width` bits of each, one after the other."""
    if not width:
        return b""
    bits = (values[:, None] >> np.arange(width) & 1).astype(np.uint8)
    return np.packbits(bits.reshape(-1), bitorder="little").tobytes()


def _encoded(values: Symbols, counts: Symbols, used: Symbols) -> bytes:
    """Table, states and words of a stream with at least two different symbols."""
    table = _shares(counts[used])
    head = Writer()
    head.number(len(used))
    for gap, share in zip(np.diff(used, prepend=-1) - 1, table, strict=True):
        head.number(int(gap))
        head.number(int(share) - 1)
    bits = float((counts[used] * (_TABLE_BITS - np.log2(table))).sum())
    coders = min(max(1, int(bits / 8 / _EACH)), _MOST_CODERS, len(values))
    head.number(coders)
    share, start = table.astype(np.uint64), (np.cumsum(table) - table).astype(np.uint64)
    which = np.searchsorted(used, values)
    states = np.full(coders, _LOWEST, np.uint64)
    words = []
    for first in range((len(values) - 1) // coders * coders, -1, -coders):
        some = which[first : first + coders]
        now = states[: len(some)]
        high = np.flatnonzero(now >= share[some] << np.uint64(32 - _TABLE_BITS))
        words.append((now[high] & np.uint64(0xFFFF)).astype("<u2"))
        now[high] >>= np.uint64(16)
        now[:] = (now // share[some] << np.uint64(_TABLE_BITS)) + now % share[some] + start[some]
    head.raw(states.astype("<u4").tobytes())
    told = np.concatenate(words[::-1])
    head.number(len(told))
    head.raw(told.tobytes())
    return head.finish()


def _shares(counts: Symbols) -> Symbols:
    """Shares near to the counts', each at least 1, which sum to 2^14."""
    exact = counts * (_TOTAL / counts.sum())
    shares = np.maximum(1, np.rint(exact).astype(np.int64))
    while (beyond := int(shares.sum()) - _TOTAL) != 0:
        largest = int(shares.argmax())
        shares[largest] -= min(beyond, int(shares[largest]) - 1) if beyond > 0 else beyond
    return np.asarray(shares, np.int64)
