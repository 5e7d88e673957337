"""Long lists are shortened to what the first pass could have meant."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgespeech.errors import EdgeSpeechError
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.shortlist import any_order, first_pass, in_order, shortlist
from helpers_packed import features, tiny

P = np.zeros((6, 10), np.float32)
P[:, 0] = 1.0
P[1, 4], P[3, 5], P[5, 6] = 0.9, 0.8, 0.7


def test_order_counts_in_the_second_stage_alone() -> None:
    phrases = [[4, 5, 6], [6, 5, 4], [7, 8], [4, 4]]
    assert any_order(P, phrases) == pytest.approx([0.8, 0.8, 0, 0.9])
    # Backwards only one of the pieces counts; a frame may count for two pieces.
    assert in_order(P, phrases) == pytest.approx([0.8, 0.9 / 3, 0, 0.9])
    assert any_order(P[:0], phrases).tolist() == in_order(P[:0], phrases).tolist() == [0, 0, 0, 0]


def test_what_was_said_stays_in_the_lists_order() -> None:
    random = np.random.default_rng(0)
    others = [[int(label) for label in random.integers(7, 10, 3)] for _ in range(500)]
    listed = [*others[:200], [4, 5, 6], *others[200:], [6, 5, 4], [5, 6]]
    assert shortlist(P, listed, 3) == [200, 501, 502]
    assert shortlist(P, listed, 2) == [200, 502]
    assert shortlist(P, listed[:3], 3) == [0, 1, 2]
    assert shortlist(P, [], 3) == []


def test_the_first_pass_sees_what_greedy_search_says() -> None:
    model = tiny().model
    x = torch.from_numpy(features(80))[None]
    encoded = model.transcribe(x, torch.tensor([80]))[0][0]
    decoder = GreedyDecoder(model)
    decoder.accept(encoded)
    posteriors = first_pass(model, encoded)
    assert posteriors.shape == (20, 40)
    assert decoder.best.labels
    for label, frame in zip(decoder.best.labels, decoder.best.frames, strict=True):
        assert posteriors[frame, label] > 1 / 40
    said = list(decoder.best.labels[:3])
    random = np.random.default_rng(1)
    others = [[int(label) for label in random.integers(1, 40, 3)] for _ in range(60)]
    assert shortlist(posteriors, [*others, said], 5)[-1] == 60


@pytest.mark.parametrize(
    ("phrases", "most", "message"),
    [([[4]], 0, "most is 0"), ([[4], []], 1, r"phrase 2 is \[\]"), ([[4], [10]], 1, r"phrase 2 is \[10\]")],
)
def test_what_is_no_list_is_refused(phrases: list[list[int]], most: int, message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        shortlist(P, phrases, most)
