"""The local Whispers buffer, decode once at the end, and load only verified weights (scripted backend)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgespeech.cloud import whisper_backend
from edgespeech.contracts import EventKind, Request, Samples
from edgespeech.corpora.weights import Weights
from edgespeech.errors import EdgeSpeechError
from edgespeech.systems import _batch
from edgespeech.systems.whisper_base_local import WhisperBaseLocal
from edgespeech.systems.whisper_tiny_local import WhisperTinyLocal


class FakeBackend:
    """Answers with the number of samples, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Samples, tuple[str, ...], str]] = []

    def transcribe(self, samples: Samples, context: Sequence[str], language: str) -> str:
        self.asked.append((samples, tuple(context), language))
        return f"{len(samples)} samples"


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeBackend:
    fake = FakeBackend()
    built: list[tuple[Path, int]] = []

    def build(folder: Path, threads: int) -> FakeBackend:
        built.append((folder, threads))
        return fake

    def resolve(name: str, path: Path | None) -> Weights:
        files = {"model.bin": "0" * 64}
        return Weights(
            folder=path or tmp_path / name, files=files, n_bytes=123, source="here", citation="somebody"
        )

    monkeypatch.setattr(_batch, "build_whisper", build)
    monkeypatch.setattr(_batch, "resolve_weights", resolve)
    monkeypatch.setattr(whisper_backend, "count_parameters", lambda _: 60)
    monkeypatch.setattr(fake, "built", built, raising=False)
    return fake


def test_the_whole_file_is_decoded_once_at_the_end(backend: FakeBackend) -> None:
    recogniser = WhisperBaseLocal()
    recogniser.load()
    samples = np.arange(3000, dtype=np.float32)
    stream = recogniser.open(Request(utterance_id="x", language="de", context=("flat white",)))
    for start in (0, 1600):
        assert stream.accept(samples[start : start + 1600]) == ()
    assert stream.state_bytes() == 3000 * 4
    assert backend.asked == []
    (event,) = stream.finish()
    assert (event.kind, event.text) == (EventKind.FINAL, "3000 samples")
    ((heard, context, language),) = backend.asked
    assert np.array_equal(heard, samples)
    assert (context, language) == (("flat white",), "de")


def test_without_audio_nothing_is_decoded(backend: FakeBackend) -> None:
    recogniser = WhisperTinyLocal()
    recogniser.load()
    (event,) = recogniser.open(Request(utterance_id="x")).finish()
    assert (event.kind, event.text) == (EventKind.FINAL, "")
    assert backend.asked == []


def test_the_row_says_what_ran(backend: Any, tmp_path: Path) -> None:
    info = WhisperTinyLocal(threads=3).load()
    assert backend.built == [(tmp_path / "whisper-tiny", 3)]
    assert (info.model_bytes, info.parameters, info.config["cpu_threads"]) == (123, 60, 3)
    assert {"beam_size", "temperature", "compute_type", "weights"} <= set(info.config)
    assert any("no streaming" in note for note in info.notes)
    WhisperBaseLocal(weights=str(tmp_path)).load()
    assert backend.built[-1] == (tmp_path, 1)


def test_the_english_model_refuses_other_languages(backend: FakeBackend) -> None:
    recogniser = WhisperTinyLocal()
    recogniser.load()
    with pytest.raises(EdgeSpeechError, match="whisper-tiny-local: language is 'de', expected en"):
        recogniser.open(Request(utterance_id="x", language="de"))


def test_opening_before_loading_is_a_clear_error() -> None:
    with pytest.raises(EdgeSpeechError, match=r"whisper-tiny-local: not loaded: call load\(\)"):
        WhisperTinyLocal().open(Request(utterance_id="x"))


def test_missing_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "no folder" in (WhisperTinyLocal(weights=str(tmp_path / "nowhere")).missing() or "")
    monkeypatch.setattr(_batch, "weights_available", lambda *_: "no weights")
    assert WhisperTinyLocal().missing() == "no weights"
    monkeypatch.setattr(_batch, "find_spec", lambda _: None)
    assert WhisperTinyLocal().missing() == "package faster-whisper is not installed"


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / name).write_bytes(b"not this")
    with pytest.raises(EdgeSpeechError, match=r"not the weights of whisper-tiny: .*sha256 is"):
        WhisperTinyLocal(weights=str(tmp_path)).load()
