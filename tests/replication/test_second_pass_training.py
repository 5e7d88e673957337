"""The language model of the second pass as it is trained for real, and how its scales are found."""

from __future__ import annotations

import runpy
from typing import Any

import pytest
import torch
from replication.lattices.lists import ARMS

from edgespeech.core.places import project_root
from edgespeech.corpora.corpora import CorpusKind, corpus_names, load_corpus
from edgespeech.lattice.lattice import Arc, Final, Lattice
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transducer
from edgespeech.secondpass.config import load_lm_config
from edgespeech.secondpass.model import LanguageModel
from edgespeech.secondpass.scoring import InternalScorer, RememberingScorer
from secondpass.lm_helpers import tiny_lm

FOLDER = project_root() / "replication" / "lattices"
OTHERS = {"librispeech", "biasing_scores", "request_labels"}
"""Corpora of read books, of which nothing is learned, and one of labels alone, whose sentences other corpora hold."""


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "rescore.py"), run_name="rescore")


def test_ten_million_parameters_in_ten_megabytes(script: dict[str, Any]) -> None:
    config = load_lm_config(FOLDER / "lm.yaml")
    with torch.device("meta"):
        model = LanguageModel(config.shape)
    twice = 4 * config.width * config.layers  # the second bias of each layer, which is stored with the first
    parameters = sum(parameter.numel() for parameter in model.parameters()) - twice
    assert parameters >= 10e6
    assert parameters * script["BITS"] / 8 < 9.5e6


def test_no_evaluation_sentence_is_used_for_training() -> None:
    config = load_lm_config(FOLDER / "lm.yaml")
    kept = {
        split
        for corpus in map(load_corpus, corpus_names())
        if corpus.kind in (CorpusKind.SPEECH, CorpusKind.TEXT) and corpus.name not in OTHERS
        for split, about in corpus.splits.items()
        if about.evaluation_only
    }
    assert kept <= set(config.held_out)


def test_scales_are_found_for_every_arm(script: dict[str, Any]) -> None:
    lm = tiny_lm()
    torch.manual_seed(0)
    model = Transducer(ModelConfig(vocabulary=40, layers=1, hidden=8, joiner=8, context=2)).eval()
    scorer = RememberingScorer(lm)
    better = max(("lamp", "light"), key=lambda word: scorer.sentence([word]))
    arcs = (Arc(0, 1, "lamp", -1.0), Arc(0, 1, "light", -1.0))
    found = script["find_scales"](
        [(better, Lattice(arcs, (Final(1),)))] * 2, scorer, InternalScorer(model, lm.tokeniser)
    )
    assert found.keys() == {arm.name for arm in ARMS}
    # Of the bytes of this lattice there is only the best path's.
    assert {found[arm.name].errors for arm in ARMS if arm.paths != "equal bytes"} == {0}
    assert found[ARMS[0].name].scales.prediction == 0
    assert found[ARMS[0].name].words == 2
