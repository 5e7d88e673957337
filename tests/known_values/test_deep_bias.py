"""Published hypotheses and scores on LibriSpeech (facebookresearch/fbai-speech, is21_deep_bias)."""

from __future__ import annotations

from pathlib import Path

import pytest
from replication.checks.published_scores import score_lines

from edgespeech.contracts import Difference
from edgespeech.core.places import mirror_root
from edgespeech.metrics.statistics import bootstrap_ratio, paired_ratio_difference
from edgespeech.metrics.wer import ErrorCounts, count_errors, total

pytestmark = pytest.mark.mirror


@pytest.mark.parametrize("system", ["b1.rnnt_baseline", "s1.b1+db-rnnt", "s2.b1+wfst", "s3.s2+db-rnnt"])
@pytest.mark.parametrize("split", ["test-clean", "test-other"])
def test_published_scores_to_every_printed_digit(split: str, system: str) -> None:
    folder = _folder()
    lines = score_lines(folder / f"{split}.ref.biasing_100.tsv", folder / f"{split}.{system}.hyp.tsv")
    assert lines == (folder / f"{split}.{system}.result").read_text(encoding="utf-8").splitlines()


class TestIntervals:
    """Another implementation's intervals on these hypotheses (plain percentiles, another generator)."""

    @pytest.mark.parametrize(
        ("split", "system", "rate", "by_utterance", "by_speaker"),
        [
            ("test-clean", "b1.rnnt_baseline", 3.654, (3.44, 3.88), (3.25, 4.07)),
            ("test-clean", "s2.b1+wfst", 3.062, (2.87, 3.26), (2.68, 3.46)),
            ("test-other", "b1.rnnt_baseline", 9.608, (9.21, 10.01), (8.01, 11.58)),
        ],
    )
    def test_intervals(
        self,
        split: str,
        system: str,
        rate: float,
        by_utterance: tuple[float, float],
        by_speaker: tuple[float, float],
    ) -> None:
        counts, speakers = _errors(split, system)
        errors, words = [c.errors for c in counts], [c.ref_words for c in counts]
        summed = total(counts)
        assert 100 * summed.errors / summed.ref_words == pytest.approx(rate, abs=5e-4)
        utterance = bootstrap_ratio(errors, words, [None] * len(words), seed=0)
        speaker = bootstrap_ratio(errors, words, speakers, seed=0)
        assert [100 * end for end in (utterance.low, utterance.high)] == pytest.approx(by_utterance, abs=0.03)
        assert [100 * end for end in (speaker.low, speaker.high)] == pytest.approx(by_speaker, rel=0.015)

    @pytest.mark.parametrize(
        ("split", "difference", "ends", "verdict"),
        [
            ("test-clean", 0.044, (-0.025, 0.114), Difference.TIE),
            ("test-other", 0.181, (0.037, 0.321), Difference.WORSE),
        ],
    )
    def test_paired_difference(
        self, split: str, difference: float, ends: tuple[float, float], verdict: Difference
    ) -> None:
        first, speakers = _errors(split, "s1.b1+db-rnnt")
        second, _ = _errors(split, "s2.b1+wfst")
        found = paired_ratio_difference(
            [c.errors for c in first],
            [c.errors for c in second],
            [c.ref_words for c in first],
            speakers,
            seed=0,
        )
        assert 100 * found.difference == pytest.approx(difference, abs=5e-4)
        assert [100 * end for end in (found.interval.low, found.interval.high)] == pytest.approx(
            ends, abs=0.02
        )
        assert found.verdict is verdict


def _errors(split: str, system: str) -> tuple[list[ErrorCounts], list[str]]:
    """Errors and speaker of every utterance; an id starts with its speaker."""
    refs, hyps = _published(split, system)
    counts = count_errors([fields[1] for fields in refs.values()], [hyps[name] for name in refs])
    return counts, [name.split("-")[0] for name in refs]


def _published(split: str, system: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """References (id, text, biasing words) by id, and hypotheses by id; a hypothesis may be empty."""
    refs = {fields[0]: fields for fields in _table(_folder() / f"{split}.ref.biasing_100.tsv")}
    hyps = {fields[0]: "".join(fields[1:]) for fields in _table(_folder() / f"{split}.{system}.hyp.tsv")}
    return refs, hyps


def _table(path: Path) -> list[list[str]]:
    return [line.strip().split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def _folder() -> Path:
    mirror = mirror_root()
    if mirror is None or not (mirror / "biasing_scores").is_dir():
        pytest.skip("biasing_scores is not here: it comes with the mirror of public corpora")
    return mirror / "biasing_scores"
