"""Phrases as word pieces, from the list of pieces alone: a packed model has no sentencepiece file.

The rule is that of byte pair encoding as sentencepiece applies it (R. Sennrich et al., "Neural machine translation of
rare words with subword units", ACL 2016): of all neighbours that together are a piece, those with the smallest label,
the first of them where there are several, become one, until there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from edgespeech.core.labels import SPACE


def piece_labels(text: str, labels: Mapping[str, int]) -> tuple[int, ...] | None:
    """The labels of some words.

    Args:
        text: words with single spaces between them.
        labels: of every piece.

    Returns:
        None if a letter is in no piece.
    """
    found = []
    for word in text.split():
        parts = list(SPACE + word)
        while True:
            pairs = [labels.get(one + other) for one, other in pairwise(parts)]
            known = [label for label in pairs if label is not None]
            if not known:
                break
            at = pairs.index(min(known))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        for part in parts:
            if part not in labels:
                return None
            found.append(labels[part])
    return tuple(found)


def phrase_labels(texts: Iterable[str], pieces: Sequence[str], most: int) -> list[tuple[int, ...]]:
    """The labels of each phrase that has at least one and at most `most` pieces; the others are left out.

    Args:
        texts: of the phrases.
        pieces: every word piece by its label, see `Tokeniser.pieces`.
        most: number of pieces.
    """
    labels = {piece: label for label, piece in enumerate(pieces)}
    spelled = (piece_labels(text, labels) for text in texts)
    return [found for found in spelled if found and len(found) <= most]
