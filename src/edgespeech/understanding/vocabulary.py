"""Words by fingerprints: 24 bits of a hash stand for a word, so that a vocabulary has 3 bytes a word, no letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 0
"""The number of every word that the vocabulary lacks."""
_BYTES = 3


@lru_cache(maxsize=1 << 16)
def fingerprint(word: str) -> int:
    """24 bits of the word's hash."""
    return int.from_bytes(blake2b(word.encode(), digest_size=_BYTES).digest(), "big")


@lru_cache(maxsize=1 << 16)
def bucket(word: str, which: int, buckets: int) -> int:
    """The row of a table that one of a word's hashes names."""
    digest = blake2b(word.encode(), digest_size=8, salt=which.to_bytes(2, "big")).digest()
    return int.from_bytes(digest, "big") % buckets


class Vocabulary:
    """Numbers of words, from 1 on, in the order of their fingerprints.

    Two words with one fingerprint share a number: in 8,000 words about 2 do, and 1 of 2,000 unknown words is taken for
    a known one.

    Args:
        prints: distinct fingerprints, ascending, with shape `(V,)`.
    """

    def __init__(self, prints: NDArray[np.int64]) -> None:
        self.prints = prints

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]], least: int = 1, most: int | None = None) -> Vocabulary:
        """Of the words of some texts.

        Args:
            texts: words of each.
            least: occurrences of a word.
            most: words; the most frequent ones, of equals the first by fingerprint.
        """
        counts = Counter(fingerprint(word) for words in texts for word in words)
        kept = sorted((one for one in counts if counts[one] >= least), key=lambda one: (-counts[one], one))
        return cls(np.array(sorted(kept[:most]), np.int64))

    def __len__(self) -> int:
        return len(self.prints)

    def numbers(self, words: Sequence[str]) -> NDArray[np.int64]:
        """The words' numbers, with shape `(T,)`; `UNKNOWN` for words that it lacks."""
        wanted = np.array([fingerprint(word) for word in words], np.int64)
        if not len(self.prints):
            return np.zeros(len(wanted), np.int64)
        places = np.searchsorted(self.prints, wanted).clip(max=len(self.prints) - 1)
        return np.where(self.prints[places] == wanted, places + 1, UNKNOWN)

    def to_bytes(self) -> NDArray[np.uint8]:
        """The fingerprints' bytes, with shape `(3, V)`, the highest first."""
        shifts = 8 * np.arange(_BYTES)[::-1, None]
        return (self.prints[None] >> shifts & 255).astype(np.uint8)

    @classmethod
    def from_bytes(cls, rows: NDArray[np.uint8]) -> Vocabulary:
        """The reverse of `to_bytes`."""
        shifts = 8 * np.arange(_BYTES)[::-1, None]
        return cls((rows.astype(np.int64) << shifts).sum(axis=0))


def bucket_numbers(words: Sequence[str], hashes: int, buckets: int) -> NDArray[np.int64]:
    """The rows of a hashed table of each word, with shape `(T, hashes)`."""
    return np.array([[bucket(word, which, buckets) for which in range(hashes)] for word in words], np.int64)
