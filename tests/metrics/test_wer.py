from __future__ import annotations

import math
import time

import jiwer
import kaldialign
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics import wer as metric
from edgespeech.metrics.registry import Scored
from edgespeech.metrics.wer import ErrorCounts, confusions, count_errors, n_empty, total, wer

texts = st.lists(st.sampled_from("abc"), max_size=7).map(" ".join)


def test_each_kind_of_error() -> None:
    refs = ["a b c", "a b c", "a b c", "a b c"]
    hyps = ["a b c", "a x c", "a c", "a b b2 c"]
    assert count_errors(refs, hyps) == [
        ErrorCounts(hits=3),
        ErrorCounts(hits=2, substitutions=1),
        ErrorCounts(hits=2, deletions=1),
        ErrorCounts(hits=3, insertions=1),
    ]


def test_corpus_ratio_is_not_the_mean_of_ratios() -> None:
    counts = count_errors(["a", "a b c d e f g h i"], ["x", "a b c d e f g h i"])
    assert wer(counts) == 1 / 10
    assert np.mean([wer([count]) for count in counts]) == 0.5


def test_a_failed_utterance_is_full_deletions() -> None:
    assert count_errors(["one two three"], [""]) == [ErrorCounts(deletions=3)]


def test_an_empty_reference_adds_insertions_and_is_counted_apart() -> None:
    counts = count_errors(["a b", "", "  "], ["a b", "x y z", ""])
    assert counts[1] == ErrorCounts(insertions=3)
    assert wer(counts) == 3 / 2
    assert n_empty(counts) == 2


def test_no_reference_words_at_all() -> None:
    assert wer([]) == 0
    assert wer(count_errors([""], [""])) == 0
    assert wer(count_errors([""], ["x"])) == math.inf


def test_white_space_of_any_kind_separates() -> None:
    assert count_errors(["a\tb  c\n"], [" a b c"]) == [ErrorCounts(hits=3)]


def test_other_lengths_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="hypotheses is 1, expected as many as references, 2"):
        count_errors(["a", "b"], ["a"])


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
def test_agrees_with_jiwer_and_kaldialign(pairs: list[tuple[str, str]]) -> None:
    refs, hyps = [ref for ref, _ in pairs], [hyp for _, hyp in pairs]
    counts = count_errors(refs, hyps)
    if any(refs):
        assert wer(counts) == pytest.approx(jiwer.wer(refs, hyps))
    for count, ref, hyp in zip(counts, refs, hyps, strict=True):
        assert count.errors == kaldialign.edit_distance(ref.split(), hyp.split())["total"]
        assert count.ref_words == len(ref.split())
        assert count.hits + count.substitutions + count.insertions == len(hyp.split())


def test_confusions_are_sorted_and_cut() -> None:
    refs = ["a b c"] * 3 + ["a b c", "p q r", "p q"]
    hyps = ["a x c"] * 3 + ["a y c", "p r", "p q extra"]
    found = confusions(refs, hyps)
    assert found.substitutions[0] == ("b", "x", 3)
    assert ("b", "y", 1) in found.substitutions
    assert found.deletions == (("q", 1),)
    assert found.insertions == (("extra", 1),)
    assert len(confusions(refs, hyps, top=1).substitutions) == 1


def test_confusions_add_up_to_the_counts() -> None:
    rng = np.random.default_rng(3)
    refs, hyps = ([" ".join(rng.choice(list("abcdef"), 9)) for _ in range(50)] for _ in range(2))
    found, summed = confusions(refs, hyps, top=1000), total(count_errors(refs, hyps))
    assert sum(n for *_, n in found.substitutions) == summed.substitutions
    assert sum(n for _, n in found.deletions) == summed.deletions
    assert sum(n for _, n in found.insertions) == summed.insertions


def test_three_thousand_utterances_take_a_moment() -> None:
    rng = np.random.default_rng(0)
    refs, hyps = ([" ".join(rng.choice(list("abcdefgh"), 20)) for _ in range(3000)] for _ in range(2))
    start = time.process_time()
    count_errors(refs, hyps)
    assert time.process_time() - start < 5


def test_figure() -> None:
    scored = [
        Scored(duration_s=1.0, reference="a b", hypothesis=hyp, speaker=f"s{index % 3}")
        for index, hyp in enumerate(["a b", "a x", "", "a b"])
    ]
    figure = metric.measure(scored, seed=0)["wer"]
    assert figure.value == 3 / 8
    assert (figure.n, figure.unit, figure.definition) == (8, "ratio", "wer")
    assert figure.method == "bootstrap over 3 speakers, 2000 resamples"
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.value < figure.high


def test_one_utterance_has_no_interval() -> None:
    figure = metric.measure([Scored(duration_s=1.0, reference="a b", hypothesis="a")], seed=0)["wer"]
    assert (figure.value, figure.low, figure.high, figure.method) == (0.5, None, None, "")
