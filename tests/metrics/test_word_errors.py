"""Word errors of whole corpora: counts, rates, paired differences, seeds, non-inferiority."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

from edgespeech.contracts import Verdict
from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.statistics import bootstrap_ratio, paired_ratio_difference
from edgespeech.metrics.wer import count_errors
from edgespeech.metrics.word_errors import (
    POOLED,
    Compared,
    WordErrors,
    errors_against,
    paired_over_seeds,
    word_errors_of,
)
from edgespeech.records.claims import Claim, Measured, judge
from edgespeech.text.normalise import normalisers


class Said(NamedTuple):
    corpus: str
    text: str
    speaker: str | None


SAID = [
    Said("a", "One two three.", "s1"),
    Said("a", "four five", "s2"),
    Said("b", "twenty one", None),
    Said("b", "six", "s1"),
]
CORPORA = {"a": "basic", "b": "whisper-en"}


def scored(said: list[Said] = SAID) -> WordErrors:
    return WordErrors(said, CORPORA, seed=3)


def test_each_corpus_is_normalised_by_its_own() -> None:
    counter = scored()
    texts = ["one TWO", "four five six", "21", "six"]
    expected = [
        count_errors(
            [normalisers()[CORPORA[one.corpus]](one.text)], [normalisers()[CORPORA[one.corpus]](text)]
        )[0]
        for one, text in zip(SAID, texts, strict=True)
    ]
    assert counter.counts(texts) == expected
    assert counter.errors(texts) == [1, 1, 0, 0]
    assert counter.words == [count.ref_words for count in expected] == [3, 2, 1, 1]
    assert counter.corpora == ["a", "b", POOLED]
    assert (counter.places("b"), counter.places(POOLED)) == ([2, 3], [0, 1, 2, 3])


def test_a_rate_has_the_interval_over_speakers() -> None:
    counter = scored()
    errors = [1, 1, 0, 0]
    interval = bootstrap_ratio([1, 1], [3, 2], ["a s1", "a s2"], seed=3)
    assert counter.rate(errors, "a") == {"wer": 2 / 5, "n": 2, "low": interval.low, "high": interval.high}
    assert scored()._groups([0, 3]) == ["a s1", "b s1"]  # speakers of two corpora are two


def test_a_single_utterance_has_no_interval_and_no_words_no_rate() -> None:
    counter = WordErrors([Said("a", "one", None)], {"a": "basic"}, seed=0)
    assert counter.rate([1]) == {"wer": 1.0, "n": 1}
    silent = WordErrors([Said("a", "", None)] * 2, {"a": "basic"}, seed=0)
    assert silent.rate([0, 0])["wer"] == 0.0
    assert math.isinf(silent.rate([0, 1])["wer"])


def test_one_training_is_compared_as_before() -> None:
    ours, theirs = [0, 1, 0, 0], [1, 1, 1, 0]
    found = scored().compare([ours], [theirs])
    groups = ["a s1", "a s2", None, "b s1"]
    paired = paired_ratio_difference(ours, theirs, [3, 2, 1, 1], groups, seed=3)
    assert (found.difference, found.low, found.high) == (
        paired.difference,
        paired.interval.low,
        paired.interval.high,
    )
    assert (found.relative, found.verdict, found.seeds, found.n) == (-2 / 3, paired.verdict.value, 1, 4)
    assert found.resampled == ("utterances",)


def test_seeds_widen_the_interval_by_what_they_differ() -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(3, 9, 60)
    groups = [f"s{n % 12}" for n in range(60)]
    theirs = rng.poisson(1.0, (3, 60))
    alike, resampled = paired_over_seeds(theirs + 1, theirs, words, groups, seed=0)
    one, _ = paired_over_seeds(theirs[:1] + 1, theirs[:1], words, groups, seed=0)
    assert resampled == ("speakers", "seeds")
    assert alike.interval.low == pytest.approx(one.interval.low)
    shifts = np.array([[0], [1], [2]])
    apart, _ = paired_over_seeds(theirs + shifts, theirs, words, groups, seed=0)
    assert apart.difference == pytest.approx(alike.difference)
    assert apart.interval.high - apart.interval.low > 3 * (alike.interval.high - alike.interval.low)
    assert (alike.verdict.value, apart.verdict.value) == ("worse", "tie")


@pytest.mark.parametrize(("spread", "seeds"), [(0.0, 3), (0.3, 3), (1.0, 3), (0.5, 5)])
def test_the_interval_over_seeds_covers(spread: float, seeds: int) -> None:
    """At least 93 of 100 intervals hold the difference of an endless number of trainings and speakers."""
    rng = np.random.default_rng(7)
    speakers, each, runs, held = 12, 5, 300, 0
    groups = [f"s{n}" for n in range(speakers) for _ in range(each)]
    words = np.full(speakers * each, 6)
    for run in range(runs):
        effect = rng.normal(0, spread, seeds)[:, None] + np.repeat(rng.normal(0, 0.4, speakers), each)[None]
        ours = 3 + effect + rng.normal(0, 0.8, (seeds, len(words)))
        theirs = 3 + rng.normal(0, 0.8, (seeds, len(words)))
        found, _ = paired_over_seeds(ours, theirs, words, groups, seed=run)
        held += found.interval.low <= 0 <= found.interval.high
    assert held / runs >= 0.93


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.02, 0.004, Verdict.MET), (-0.01, 0.006, Verdict.UNDECIDED), (0.006, 0.01, Verdict.MISSED)],
)
def test_a_claim_of_non_inferiority_reads_the_row(low: float, high: float, verdict: Verdict) -> None:
    row = Compared(0.0, low, high, 0.0, "tie", 1, 100, ("speakers",)).as_row()
    row["value"] = row.pop("measured")
    bar = {"direction": "at_most", "value": 0, "margin": 0.005}
    about = {"id": "x.no_loss", "short": "x", "text": "X loses nothing.", "kind": "target", "unit": "points"}
    claim = Claim.model_validate({**about, "bar": bar})
    assert judge(claim, Measured.model_validate(row)).verdict is verdict


def test_capitals_of_one_writer_say_nothing() -> None:
    counter = word_errors_of(["I AM HERE", "TURN IT UP"], "spelled-en")
    assert counter.errors(["i am here", "turn it up"]) == [0, 0]


def test_one_corpus_by_itself() -> None:
    counter = word_errors_of(["One two.", "three"], speakers=["a", "b"], seed=1)
    texts = ["one too many", ""]
    assert counter.errors(texts) == [2, 1]
    assert counter.wer(texts) == 1.0
    assert counter.describe(texts) == "100.0 % (1 substitutions, 1 deletions, 1 insertions)"
    assert counter.rate([2, 1])["high"] > 0
    assert errors_against("one two", ["one two", "one", ""]) == [0, 1, 2]
    with pytest.raises(EdgeSpeechError, match="speakers is 1, expected as many as texts, 2"):
        word_errors_of(["one", "two"], speakers=["a"])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="word errors: texts is 1, expected as many as utterances, 4"):
        scored().errors(["one"])
    with pytest.raises(EdgeSpeechError, match="normaliser is 'no', expected one of"):
        WordErrors(SAID, {"a": "no", "b": "basic"}, seed=0)
    with pytest.raises(EdgeSpeechError, match="corpus is 'b', expected one of a"):
        WordErrors(SAID, {"a": "basic"}, seed=0)
    with pytest.raises(EdgeSpeechError, match="seeds"):
        scored().compare([[0] * 4], [])
