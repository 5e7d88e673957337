"""What makes no sense is refused before anything runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgespeech.audio.io import write_audio
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness import evaluate
from edgespeech.harness.evaluate import Settings, evaluate_run
from edgespeech.harness.plan import Run
from edgespeech.harness.workers import CannotLoadError, Job

SETTINGS = Settings(
    seed=0, threads=1, cloud_speedup=10.0, networks=("wifi",), profile="full", concurrent_jobs=1
)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of one command, as the split `orders` and as a manifest file (returned)."""
    path = tmp_path / "mirror" / "orders" / "orders.jsonl"
    write_audio(path.parent / "0.flac", np.zeros(SAMPLE_RATE, np.float32))
    line = {"id": "u0", "audio_filepath": "0.flac", "duration": 1.0, "text": "a small latte"}
    path.write_text(json.dumps({**line, "intent": "orderDrink", "slots": {"size": "small"}}) + "\n")
    (tmp_path / "corpora").mkdir()
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    describe(tmp_path)
    return path


def describe(folder: Path, **changes: Any) -> None:
    split = {"manifest": "orders.jsonl", "evaluation_only": True} | changes
    content = {
        "name": "orders", "title": "One order", "kind": "speech", "licence": "none", "citation": "none",
        "homepage": "none", "sources": [{"mirror": {"folder": "orders"}}], "splits": {"orders": split},
    }  # fmt: skip
    (folder / "corpora" / "orders.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the utterances run so far; a run then fails."""
    ids: list[str] = []

    def run_jobs(recogniser: object, options: object, jobs: Sequence[Job], **settings: object) -> None:
        ids.extend(job.request.utterance_id for job in jobs)
        raise CannotLoadError("enough")

    monkeypatch.setattr(evaluate, "run_jobs", run_jobs)
    return ids


def run_of(corpus: str) -> Run:
    return Run(
        system="null", corpus=corpus, noise=None, snr_db=None, snr_rule=None, context=None, subset=None
    )


@pytest.mark.parametrize("is_split", [True, False])
def test_intents_without_a_grammar_are_refused_before_anything_runs(
    corpus: Path, ran: list[str], is_split: bool
) -> None:
    with pytest.raises(
        EdgeSpeechError, match=r"orders: the manifest has intents, expected a grammar .*--grammar"
    ):
        evaluate_run(run_of("orders" if is_split else str(corpus)), SETTINGS)
    assert ran == []


def test_a_grammar_that_does_not_exist_is_refused_before_anything_runs(corpus: Path, ran: list[str]) -> None:
    with pytest.raises(EdgeSpeechError, match=r"nosuch\.yaml"):
        evaluate_run(run_of("orders"), SETTINGS, grammar="nosuch")
    assert ran == []


def test_a_phrase_list_that_does_not_exist_is_refused_before_anything_runs(
    corpus: Path, ran: list[str], tmp_path: Path
) -> None:
    describe(tmp_path, grammar="coffee", context="nosuch")
    with pytest.raises(EdgeSpeechError, match="nosuch"):
        evaluate_run(run_of("orders"), SETTINGS)
    assert ran == []


@pytest.mark.parametrize("named_by", ["split", "caller"])
def test_with_a_grammar_it_runs(corpus: Path, ran: list[str], tmp_path: Path, named_by: str) -> None:
    if named_by == "split":
        describe(tmp_path, grammar="coffee")
    grammar = "coffee" if named_by == "caller" else None
    record, rows = evaluate_run(run_of("orders"), SETTINGS, grammar=grammar)
    assert ran == ["u0"]
    assert (record.status, record.reason, rows) == ("failed", "enough", [])
