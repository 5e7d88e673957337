"""Runs over streams: refused where they make no sense, and heard with their lead-ins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgespeech.audio.io import write_audio
from edgespeech.contracts import Request
from edgespeech.corpora.manifest import load_manifest
from edgespeech.corpora.utterances import spoken_of, utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.evaluate import Settings, evaluate_run
from edgespeech.harness.hear import hear
from edgespeech.harness.plan import Run
from edgespeech.harness.runner import run_utterance
from edgespeech.packed.pack import Layout, pack
from edgespeech.systems.edge_packed import MODEL_VARIABLE
from helpers_packed import tiny

SETTINGS = Settings(
    seed=0, threads=1, cloud_speedup=10.0, networks=("wifi",), profile="full", concurrent_jobs=1
)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two utterances behind lead-ins, in one file each."""
    lines = []
    for number in range(2):
        samples = 0.1 * np.random.default_rng(number).standard_normal(32_000)
        samples[:9_600] *= 0.001  # the lead-in is faint
        write_audio(tmp_path / f"{number}.flac", samples.astype(np.float32))
        times = {"offset": 0.6, "duration": 1.4, "lead_in_s": 0.6, "sos_s": 0.1, "eos_s": 1.3}
        lines.append(
            {"id": f"u{number}", "audio_filepath": f"{number}.flac", "text": "turn on the light", **times}
        )
    path = tmp_path / "two.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run_of(corpus: Path, system: str = "edge-packed-greedy", stream: str | None = "manifest") -> Run:
    return Run(
        system=system,
        corpus=str(corpus),
        noise=None,
        snr_db=None,
        snr_rule=None,
        context=None,
        subset=None,
        stream=stream,
    )


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(tiny(), Layout(), tmp_path / "mine.edge")
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "mine.edge"))


def test_lead_ins_that_would_be_ignored_are_refused(manifest: Path) -> None:
    with pytest.raises(
        EdgeSpeechError, match="--stream: recogniser is 'null', expected one that takes lead-ins"
    ):
        evaluate_run(run_of(manifest, "null"), SETTINGS)
    noisy = replace(run_of(manifest), noise="kitchen", snr_db=6.0, snr_rule="mean")
    with pytest.raises(EdgeSpeechError, match="--stream: noise is 'kitchen', expected none"):
        evaluate_run(noisy, SETTINGS)
    with pytest.raises(EdgeSpeechError, match="streams: name is 'nosuch'"):
        evaluate_run(run_of(manifest, stream="nosuch"), SETTINGS)
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    del lines[1]["lead_in_s"]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(
        EdgeSpeechError, match="two: u1: lead_in_s is None, expected seconds, for --stream manifest"
    ):
        evaluate_run(run_of(manifest), SETTINGS)


def test_a_run_hears_the_lead_ins_of_its_manifest(manifest: Path) -> None:
    found = {}
    for stream in ("manifest", None):
        record, rows = evaluate_run(run_of(manifest, stream=stream), SETTINGS)
        assert record.status == "passed"
        assert record.condition.stream == stream
        found[stream] = [row.hyp_raw for row in rows]
    recogniser = find_recogniser("edge-packed-greedy")
    info = recogniser.load()
    expected = []
    for one in spoken_of(load_manifest(manifest)):
        lead_in, samples = one.stream()
        request = Request(utterance_id=one.id, lead_in=lead_in)
        expected.append(run_utterance(recogniser, samples, request, chunk_s=info.chunk_s).events[-1][1].text)
    recogniser.close()
    assert found["manifest"] == expected
    utterances = utterances_of({str(manifest): "basic"}, seed=0)
    assert list(hear(find_recogniser("edge-packed-greedy"), utterances).texts) == expected
    assert found[None] != expected
