"""Shortening a long list of phrases by the posteriors of a first pass.

Source: Z. Yang et al., "Two stage contextual word filtering for context bias in unified streaming and non-streaming
transducer" (Interspeech 2023, arXiv:2301.06735): a first stage by the posteriors of a phrase's word pieces in any order
(posterior sum confidence), and a second by those in the phrase's order (sequence order confidence).

Letters: T frames, V word pieces, K phrases.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgespeech.core.labels import BLANK
from edgespeech.errors import bad
from edgespeech.model.biasing import check_phrases
from edgespeech.model.transducer import Transducer
from edgespeech.search.settings import MAX_LABELS

Posteriors = NDArray[np.float32]

FIRST = 4
"""The first stage leaves so many times as many phrases as the second."""


@torch.inference_mode()
def first_pass(model: Transducer, encoded: Tensor) -> Posteriors:
    """Posteriors of the word pieces in each frame along greedy search, without a list.

    Args:
        model: in evaluation mode.
        encoded: transcription, with shape `(T, J)`.

    Returns:
        With shape `(T, V)`: in a frame in which several labels are emitted, the largest of each piece.
    """
    predicted, state = model.start(1)
    rows = np.zeros((len(encoded), model.config.vocabulary), np.float32)
    for row, frame in zip(rows, encoded.unsqueeze(1), strict=True):
        for spent in range(MAX_LABELS + 1):
            shares = model.join(frame, predicted).softmax(dim=-1)[0]
            np.maximum(row, shares.numpy(), out=row)
            label = int(shares.argmax())
            if label == BLANK or spent == MAX_LABELS:
                break
            predicted, state = model.advance(torch.tensor([label]), state)
    return rows


def any_order(posteriors: Posteriors, phrases: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """The mean of the largest posterior of each piece of a phrase, with shape `(K,)`; 0 without frames."""
    if not len(posteriors):
        return np.zeros(len(phrases))
    most = posteriors.max(axis=0).astype(np.float64)
    return np.array([most[list(phrase)].mean() for phrase in phrases])


def in_order(posteriors: Posteriors, phrases: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """The largest mean of the posteriors of a phrase's pieces in frames that do not go back, with shape `(K,)`."""
    if not len(posteriors):
        return np.zeros(len(phrases))
    found = np.zeros(len(phrases))
    for number, phrase in enumerate(phrases):
        best = np.zeros(len(posteriors))
        for label in phrase:
            best = np.maximum.accumulate(best + posteriors[:, label])
        found[number] = best[-1] / len(phrase)
    return found


def shortlist(posteriors: Posteriors, phrases: Sequence[Sequence[int]], most: int) -> list[int]:
    """The numbers, from 0, of the phrases that were spoken most likely, in the list's order.

    Args:
        posteriors: see `first_pass`, with shape `(T, V)`.
        phrases: word pieces of each, any number of phrases.
        most: so many are left; a shorter list is left as it is.

    Raises:
        EdgeSpeechError: `most` is not at least 1, or a phrase has no pieces or labels that are none.
    """
    if most < 1:
        raise bad("shortlist", "most", most, "at least 1")
    check_phrases(phrases[:1], posteriors.shape[1], "shortlist")
    for number, phrase in enumerate(phrases, 1):
        if not phrase or not all(BLANK < label < posteriors.shape[1] for label in phrase):
            raise bad(
                "shortlist", f"phrase {number}", list(phrase), f"labels from 1 to {posteriors.shape[1] - 1}"
            )
    if len(phrases) <= most:
        return list(range(len(phrases)))
    first = np.argsort(-any_order(posteriors, phrases), kind="stable")[: FIRST * most]
    second = in_order(posteriors, [phrases[at] for at in first])
    return sorted(first[np.argsort(-second, kind="stable")[:most]].tolist())
