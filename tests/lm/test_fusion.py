"""Shallow fusion: what is added, that the search adds exactly that, and that it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgespeech.core.labels import BLANK
from edgespeech.errors import EdgeSpeechError
from edgespeech.lm.estimate import estimate
from edgespeech.lm.fusion import FUSION, HIGH, Fusion, FusionWeights, load_fusion, save_fusion
from edgespeech.lm.ngram import START
from helpers_fusion import fusion_of


def test_scores_are_weighed_and_the_blank_gets_none() -> None:
    fusion = fusion_of(6)
    for labels in ((), (2,), (1, 2), (4, 1, 2, 5, 1)):
        history = (START, *labels)
        expected = 0.7 * fusion.high.log_probs(history) - 0.2 * fusion.low.log_probs(history) + 0.4
        found = fusion.scores(labels)
        assert found[1:] == pytest.approx(expected[1:], rel=1e-5)
        assert found[BLANK] == 0


def test_where_a_sentence_starts_counts() -> None:
    fusion = fusion_of(6)
    assert not np.array_equal(fusion.scores(()), fusion.scores((5, 5, 5, 5)))


def test_it_is_restored_from_its_file(tmp_path: Path) -> None:
    fusion = fusion_of(6)
    save_fusion(tmp_path, fusion)
    found = load_fusion(tmp_path, 6)
    assert found is not None
    for labels in ((), (2,), (3, 1, 2)):
        assert np.array_equal(found.scores(labels), fusion.scores(labels))
    assert load_fusion(tmp_path / "other", 6) is None


def test_what_is_not_one_is_refused(tmp_path: Path) -> None:
    save_fusion(tmp_path, fusion_of(6))
    with pytest.raises(EdgeSpeechError, match=f"{FUSION}: {HIGH}: labels is 5, expected 0 to 3"):
        load_fusion(tmp_path, 4)
    path = tmp_path / FUSION
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(EdgeSpeechError, match=FUSION):
        load_fusion(tmp_path, 6)


def test_models_of_other_words_and_endless_weights_are_refused() -> None:
    four, six = (estimate([(1, 2, 3)], size, 2, 0) for size in (4, 6))
    with pytest.raises(EdgeSpeechError, match="vocabulary is 6, expected 4"):
        Fusion(four, six, FusionWeights(high=1, low=0, label=0))
    with pytest.raises(EdgeSpeechError, match="weights"):
        Fusion(four, four, FusionWeights(high=float("inf"), low=0, label=0))
