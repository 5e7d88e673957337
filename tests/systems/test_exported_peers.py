"""ONNX Runtime and sherpa-onnx on an exported model recognise what the model recognises by greedy search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgespeech.contracts import EventKind, Recogniser, Request, Samples
from edgespeech.core.files import sha256_file
from edgespeech.core.places import MODEL_VARIABLE
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.hear import text_of
from edgespeech.harness.runner import run_utterance
from edgespeech.model.checkpoint import save_model
from edgespeech.model.export_onnx import export_onnx, quantise_onnx
from edgespeech.search.settings import MAX_LABELS
from edgespeech.systems import _exported
from helpers_packed import tiny

PEERS = {"onnxruntime": "onnxruntime", "sherpa-onnx": "sherpa_onnx"}
REQUEST = Request(utterance_id="x")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's exported files; the model is that of edge-fp32."""
    pytest.importorskip("onnx")
    trained = tiny()
    save_model(tmp_path / "model", trained.model, trained.tokeniser, {})
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "model"))
    export_onnx(trained, tmp_path / "exported", labels=1)
    export_onnx(trained, tmp_path / "labels", labels=MAX_LABELS)
    return tmp_path / "exported"


def samples(seed: int = 0) -> Samples:
    noise: Samples = (0.1 * np.random.default_rng(seed).standard_normal(24_000)).astype(np.float32)
    return noise


def text(recogniser: Recogniser, seed: int) -> str:
    info = recogniser.load()
    trace = run_utterance(recogniser, samples(seed), REQUEST, chunk_s=info.chunk_s)
    recogniser.close()
    assert trace.failure is None
    assert trace.events[-1][1].kind is EventKind.FINAL
    return text_of(trace)


def test_onnx_runtime_recognises_what_torch_recognises(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    theirs = [text(find_recogniser("onnxruntime", folder=str(folder)), seed) for seed in (0, 1)]
    ours = [text(find_recogniser("edge-fp32", beam=1, final_s=None), seed) for seed in (0, 1)]
    assert all(ours)
    assert theirs == ours


def test_sherpa_onnx_recognises_what_torch_recognises(folder: Path) -> None:
    """Where it may put out as many labels a frame as we do."""
    pytest.importorskip("sherpa_onnx")
    theirs = text(find_recogniser("sherpa-onnx", folder=str(folder.with_name("labels"))), 0)
    ours = text(find_recogniser("edge-fp32", beam=1, final_s=None), 0)
    # Their last chunk has more silence behind it, in which a model that knows no silence may go on.
    assert ours
    assert theirs.split()[: len(ours.split())] == ours.split()


@pytest.mark.parametrize("name", PEERS)
def test_it_says_what_it_runs(folder: Path, name: str) -> None:
    pytest.importorskip(PEERS[name])
    recogniser = find_recogniser(name, folder=str(folder))
    assert recogniser.missing() is None
    info = recogniser.load()
    files = sorted(file for file in folder.iterdir())
    assert info.model_sha256 == {file.name: sha256_file(file) for file in files}
    assert info.model_bytes == sum(file.stat().st_size for file in files)
    with pytest.raises(EdgeSpeechError, match=f"{name}: language is 'fr', expected en"):
        recogniser.open(Request(utterance_id="x", language="fr"))
    recogniser.close()
    with pytest.raises(EdgeSpeechError, match="not loaded"):
        recogniser.open(REQUEST)


@pytest.mark.parametrize("name", PEERS)
def test_what_is_missing_is_named(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(PEERS[name])
    reason = find_recogniser(name, folder=str(folder), int8=True).missing()
    assert reason is not None
    assert "encoder.int8.onnx" in reason
    assert "edgespeech export" in reason
    with pytest.raises(EdgeSpeechError, match=r"no .*encoder\.int8\.onnx"):
        find_recogniser(name, folder=str(folder), int8=True).load()
    quantise_onnx(folder)
    assert find_recogniser(name, folder=str(folder), int8=True).missing() is None
    monkeypatch.setattr(_exported, "find_spec", lambda package: None)
    assert find_recogniser(name, folder=str(folder)).missing() == f"package {name} is not installed"


@pytest.mark.parametrize(("option", "value"), [("int8", 1), ("threads", 0)])
def test_an_option_out_of_range_is_refused(option: str, value: int) -> None:
    with pytest.raises(EdgeSpeechError, match=f"onnxruntime: {option} is {value}"):
        find_recogniser("onnxruntime", **{option: value})
