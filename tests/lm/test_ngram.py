"""Back-off n-gram models: estimated against the formulas, looked up by hand, and refused when damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import exp, log

import numpy as np
import pytest
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError
from edgespeech.lm.estimate import estimate
from edgespeech.lm.ngram import START, NGram

VOCABULARY = 6
SENTENCES = [(1, 2, 3), (1, 2, 4), (1, 2, 3, 5), (2, 3), (4, 1, 2), (5,), (1, 3, 3)] * 2 + [(3, 1), (2, 5)]
HISTORIES = [(), (START,), (START, 1), (1, 2), (START, 1, 2), (4,), (5, 5), (3, 1, 2), (2, 2)]

Table = NDArray[np.float16]


def by_hand() -> Table:
    """Root; 1 and 2; and 2 after 1."""
    return np.array(
        [[0, 1, 2, 2], [2, 1, 0, 0], [0, log(0.5), log(0.3), log(0.9)], [0, log(0.25), 0, 0]], np.float16
    )


def test_a_longer_context_says_what_it_knows_and_backs_off_for_the_rest() -> None:
    found = np.exp(NGram(by_hand(), 4, "t").log_probs((3, 1)))
    assert found == pytest.approx([0.25 / 3, 0.25 * 0.5, 0.9, 0.25 / 3], rel=2e-3)


def test_a_context_that_is_not_known_is_left_out() -> None:
    model = NGram(by_hand(), 4, "t")
    assert model.order == 2
    assert (model.log_probs((2,)) == model.log_probs(())).all()
    assert (model.log_probs((1, 3, 1)) == model.log_probs((1,))).all()


@pytest.mark.parametrize("prune", [0.0, 0.02])
@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("history", HISTORIES)
def test_probabilities_add_up_to_one(order: int, prune: float, history: tuple[int, ...]) -> None:
    model = estimate(SENTENCES, VOCABULARY, order, prune)
    assert np.exp(model.log_probs(history)[1:]).sum() == pytest.approx(1, abs=4e-3)


def test_two_labels_are_estimated_as_kneser_and_ney_have_it() -> None:
    pairs: Counter[tuple[int, int]] = Counter()
    for sentence in SENTENCES:
        pairs.update(zip((START, *sentence), sentence, strict=False))
    kinds = Counter(second for _, second in pairs)  # what a label comes after
    once, twice = (sum(1 for n in kinds.values() if n == times) for times in (1, 2))
    low = min(0.9, max(0.3, once / (once + 2 * twice))) if once and twice else 0.5
    once, twice = (sum(1 for n in pairs.values() if n == times) for times in (1, 2))
    high = min(0.9, max(0.3, once / (once + 2 * twice))) if once and twice else 0.5

    def single(label: int) -> float:
        share = low * len(kinds) / kinds.total()
        return (kinds[label] - low) / kinds.total() + share / (VOCABULARY - 1)

    after = {second: n for (first, second), n in pairs.items() if first == 1}
    expected = [
        max(after.get(label, 0) - high, 0) / sum(after.values())
        + high * len(after) / sum(after.values()) * single(label)
        for label in range(1, VOCABULARY)
    ]
    found = estimate(SENTENCES, VOCABULARY, 2, 0).log_probs((4, 1))[1:]
    assert np.exp(found) == pytest.approx(expected, rel=3e-3)


def test_pruning_leaves_out_what_is_hardly_missed() -> None:
    whole, less = (estimate(SENTENCES, VOCABULARY, 4, prune) for prune in (0.0, 0.02))
    assert less.table.shape[1] < whole.table.shape[1]
    assert exp(less.log_probs((START, 1))[2]) == pytest.approx(exp(whole.log_probs((START, 1))[2]), abs=0.15)


def test_a_frequent_continuation_is_likely() -> None:
    model = estimate(SENTENCES, VOCABULARY, 3, 0)
    assert int(model.log_probs((START, 1))[1:].argmax()) + 1 == 2


@pytest.mark.parametrize(
    ("arguments", "field"),
    [(([], 6, 3, 0.0), "sentences"), ((SENTENCES, 6, 1, 0.0), "order"), ((SENTENCES, 6, 3, -1.0), "prune")],
)
def test_what_cannot_be_estimated(
    arguments: tuple[list[tuple[int, ...]], int, int, float], field: str
) -> None:
    with pytest.raises(EdgeSpeechError, match=field):
        estimate(*arguments)


def changed(row: int, node: int, value: float) -> Callable[[Table], Table]:
    def change(table: Table) -> Table:
        table[row, node] = value
        return table

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda table: table[:3], "float16"),
        (lambda table: table.astype(np.float32), "float16"),
        (changed(2, 1, np.nan), "finite"),
        (changed(0, 1, 0.5), "whole numbers"),
        (changed(1, 1, -1), "whole numbers"),
        (changed(1, 2, 1), "every node but the first"),
        (lambda table: table[:, :3], "every node but the first"),
        (changed(0, 3, 4), "0 to 3"),
        (changed(0, 2, 1), "growing labels"),
        (lambda table: np.array([[0, 1], [0, 1], [0, 0], [0, 0]], np.float16), "breadth-first"),
    ],
)
def test_a_damaged_table_is_refused(change: Callable[[Table], Table], expected: str) -> None:
    with pytest.raises(EdgeSpeechError, match=expected):
        NGram(change(by_hand()), 4, "t")


def test_more_labels_than_half_precision_counts_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="vocabulary is 2049, expected 2 to 2048"):
        NGram(by_hand(), 2049, "t")
