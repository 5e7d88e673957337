"""Resemblyzer's way with an utterance: its mel bands, its stretches, its level, and files that are not its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgespeech.contracts import SAMPLE_RATE
from edgespeech.corpora import weights
from edgespeech.errors import EdgeSpeechError
from edgespeech.speakers import resemblyzer
from edgespeech.speakers.resemblyzer import Resemblyzer, stretches, without_silence
from helpers_speakers import speakers


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (1000, [0]),  # one stretch, however short
        (25_600, [0]),  # 1.6 s fill one
        (30_000, [0]),  # the second would begin at 0.77 s, and two thirds of it would be audio
        (36_000, [0, 77]),
        (64_000, [0, 77, 154, 231]),
    ],
)
def test_stretches_are_those_of_the_package(samples: int, expected: list[int]) -> None:
    assert stretches(samples) == expected


def test_mel_energies_of_a_tone_are_in_its_band() -> None:
    pytest.importorskip("faster_whisper")
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    peaks = []
    for hertz in (300, 1000, 4000):
        tone = (0.1 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)
        energies = resemblyzer._mel_energies(tone)
        assert energies.shape == (101, 40)
        peaks.append(int(energies[50].argmax()))
    assert peaks == sorted(peaks)
    assert len(set(peaks)) == 3
    quiet = resemblyzer._mel_energies(0.1 * tone)
    assert float(quiet[50].max() / energies[50].max()) == pytest.approx(0.01, rel=1e-3)  # power, no logarithm


def test_silence_goes_and_speech_stays() -> None:
    pytest.importorskip("faster_whisper")
    silence = np.zeros(SAMPLE_RATE, np.float32)
    assert len(without_silence(silence)) == len(silence)  # nothing is found: all stays
    assert len(without_silence(silence[:300])) == 300


def test_it_is_only_made_louder() -> None:
    loud = speakers(1)[0].says(1)
    assert np.array_equal(resemblyzer._louder(loud), loud)
    quiet = resemblyzer._louder(loud * np.float32(1e-3))
    assert 20 * np.log10(np.sqrt((quiet**2).mean())) == pytest.approx(-30, abs=0.01)
    assert np.isfinite(resemblyzer._louder(np.zeros(100, np.float32))).all()


def test_an_embedding_has_length_1_and_is_a_mean_of_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faster_whisper")
    monkeypatch.setattr(resemblyzer, "without_silence", lambda samples: samples)
    torch.manual_seed(0)
    network = Resemblyzer().eval()
    samples = speakers(1)[0].says(1, (77 + 160) / 100)
    found = network.embed(samples)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    mels = resemblyzer._mel_energies(samples)
    with torch.inference_mode():
        parts = network(torch.stack([mels[start : start + 160] for start in stretches(len(samples))]))
    mean = parts.mean(0).numpy()
    assert found == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pretrained.pt").write_bytes(b"no weights")
    with pytest.raises(EdgeSpeechError, match=r"pretrained\.pt: sha256"):
        Resemblyzer.loaded(tmp_path)
    monkeypatch.setattr(weights, "_mismatch", lambda folder, files: None)
    with pytest.raises(EdgeSpeechError, match=r"pretrained\.pt: no weights of resemblyzer"):
        Resemblyzer.loaded(tmp_path)
    torch.save({"model_state": {"lstm.weight_ih_l0": torch.zeros(2)}}, tmp_path / "pretrained.pt")
    with pytest.raises(EdgeSpeechError, match="no weights of resemblyzer"):
        Resemblyzer.loaded(tmp_path)


def test_a_pickled_object_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path(tmp_path / "ran").touch, ()  # type: ignore[return-value]  # harmful on purpose

    torch.save({"model_state": Harmful()}, tmp_path / "pretrained.pt")
    monkeypatch.setattr(weights, "_mismatch", lambda folder, files: None)
    with pytest.raises(EdgeSpeechError, match="no weights of resemblyzer"):
        Resemblyzer.loaded(tmp_path)
    assert not (tmp_path / "ran").exists()
