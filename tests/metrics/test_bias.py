from __future__ import annotations

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics import bias
from edgespeech.metrics.bias import count_bias_errors, words_of
from edgespeech.metrics.registry import Scored
from edgespeech.metrics.wer import ErrorCounts


def test_errors_are_split_by_the_list() -> None:
    count = count_bias_errors(
        ["call jane doe at home now"], ["call jayne doe home now smith please"], [{"jane", "doe", "smith"}]
    )[0]
    assert count.biased == ErrorCounts(hits=1, substitutions=1, insertions=1)  # doe; jane; smith
    assert count.unbiased == ErrorCounts(hits=3, deletions=1, insertions=1)  # call home now; at; please
    assert count.all == count.biased + count.unbiased


def test_a_deletion_and_an_insertion_are_cheaper_than_two_substitutions() -> None:
    # Unit costs call both equal; costs of 4 and 3 make 6 of a gap on each side and 8 of two substitutions.
    count = count_bias_errors(["a b"], ["b c"], [set()])[0]
    assert count.all == ErrorCounts(hits=1, deletions=1, insertions=1)


def test_ties_are_decided_from_the_end() -> None:
    # Either x may be the inserted one; from the end, the last x is matched first, so the first is inserted.
    found = list(bias._align(["x"], ["x", "x"]))
    assert found == [("x", "x"), (None, "x")]
    # a -> x, b deleted against a deleted, b -> x: the last word is substituted.
    assert list(bias._align(["a", "b"], ["x"])) == [("b", "x"), ("a", None)]


@pytest.mark.parametrize(("ref", "hyp"), [("", ""), ("a b", ""), ("", "a b")])
def test_empty_sides(ref: str, hyp: str) -> None:
    count = count_bias_errors([ref], [hyp], [{"a"}])[0]
    assert count.biased == ErrorCounts(deletions="a" in ref, insertions="a" in hyp)
    assert count.unbiased == ErrorCounts(deletions="b" in ref, insertions="b" in hyp)


def test_other_lengths_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="three of one length"):
        count_bias_errors(["a"], ["a"], [])


def test_an_utterance_s_own_context() -> None:
    assert words_of(["iced latte", "oat milk"]) == {"iced", "latte", "oat", "milk"}
    scored = [
        Scored(duration_s=1.0, reference="an iced latte", hypothesis="a nice latte", context=("iced latte",)),
        Scored(
            duration_s=1.0, reference="an iced latte", hypothesis="an iced latte", context=("iced latte",)
        ),
        Scored(duration_s=1.0, reference="tea", hypothesis="coffee"),
    ]
    figures = bias.measure(scored, seed=0)
    assert figures["b_wer"].value == 1 / 4
    assert figures["u_wer"].value == 1 / 2
    assert (figures["b_wer"].n, figures["u_wer"].n) == (4, 2)
    assert figures["b_wer"].used_share == pytest.approx(2 / 3)


def test_without_lists_there_is_no_figure() -> None:
    assert bias.measure([Scored(duration_s=1.0, reference="tea", hypothesis="tea")] * 2, seed=0) == {}
