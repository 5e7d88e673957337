"""Pulses and noise: that they have the pitch and the spectrum that they are given, and that a network can be fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgespeech.contracts import Samples
from edgespeech.errors import EdgeSpeechError
from edgespeech.synthesis import envelope, fit_envelope
from edgespeech.synthesis.envelope import BANDS, HOP, RATE, SHA256, EnvelopeVocoder, Network, load_network
from edgespeech.synthesis.fit_envelope import Example, energies, filters, fit

FRAMES = 80


@pytest.fixture(scope="module")
def vocoder() -> EnvelopeVocoder:
    return EnvelopeVocoder(load_network())


def pitch_of(hz: float) -> Samples:
    return np.full(FRAMES, hz, np.float32)


def shaped(peak: int) -> torch.Tensor:
    """Log energies with a hill around a band."""
    bands = -np.abs(np.arange(BANDS) - peak) / 8.0
    return torch.from_numpy(np.tile(bands, (FRAMES, 1)).astype(np.float32))


@pytest.mark.parametrize("hz", [90.0, 160.0, 250.0])
def test_voiced_speech_has_the_pitch(vocoder: EnvelopeVocoder, hz: float) -> None:
    samples = vocoder.filtered(shaped(10), pitch_of(hz), 1)
    assert samples.shape == (HOP * FRAMES,)
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    waves = np.fft.irfft(spectrum)
    low, high = round(RATE / 400), round(RATE / 60)
    assert RATE / (low + int(np.argmax(waves[low:high]))) == pytest.approx(hz, rel=0.02)


def test_voiceless_speech_has_no_period(vocoder: EnvelopeVocoder) -> None:
    flat = torch.zeros(FRAMES, BANDS)
    samples = vocoder.filtered(flat, pitch_of(0.0), 1)
    waves = np.fft.irfft(np.abs(np.fft.rfft(samples)) ** 2)
    low, high = round(RATE / 400), round(RATE / 60)
    assert waves[low:high].max() < 0.1 * waves[0]


@pytest.mark.parametrize("hz", [0.0, 120.0])
@pytest.mark.parametrize("peak", [20, 50, 80])
def test_the_energies_are_those_asked_for(vocoder: EnvelopeVocoder, hz: float, peak: int) -> None:
    wanted = shaped(peak)
    found = energies(vocoder.filtered(wanted, pitch_of(hz), 2), FRAMES)[:, 5:-5].exp().mean(1).log()
    # of voiced sounds low bands lie between harmonics: compared where bands are wider than these
    where = slice(0 if hz == 0 else 30, BANDS - 2)
    assert (found[where] - wanted[0][where]).abs().mean() < 0.6  # 2.6 dB
    assert abs(int(found[where].argmax()) + (where.start or 0) - max(peak, where.start or 0)) <= 3


def test_noise_is_drawn_from_the_seed(vocoder: EnvelopeVocoder) -> None:
    first, second, third = (vocoder.filtered(shaped(40), pitch_of(0.0), seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_loud_speech_does_not_clip(vocoder: EnvelopeVocoder) -> None:
    quiet, loud = (vocoder.filtered(shaped(20) + level, pitch_of(120.0), 1) for level in (0.0, 9.0))
    assert np.abs(loud).max() == pytest.approx(0.95, rel=1e-4)
    assert np.corrcoef(quiet, loud)[0, 1] > 0.9999


def test_a_sentence_without_voice_is_synthesised(vocoder: EnvelopeVocoder) -> None:
    features = np.zeros((1, 512, FRAMES), np.float32)
    samples = vocoder(features, np.zeros((1, 128), np.float32), np.zeros((1, 1, FRAMES), np.float32), 1)
    assert samples.shape == (HOP * FRAMES,)
    assert np.isfinite(samples).all()


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "envelope.safetensors"
    path.write_bytes(b"x")
    monkeypatch.setattr(envelope, "weights_file", lambda: path)
    with pytest.raises(EdgeSpeechError, match=rf"sha256 is .*, expected {SHA256}"):
        load_network()


def test_every_band_has_bins() -> None:
    weights = filters()
    assert weights.shape == (BANDS, envelope.FFT // 2 + 1)
    assert np.allclose(weights.sum(1), 1)


def test_a_network_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands that are a linear function of features and style are learned."""
    monkeypatch.setattr(fit_envelope, "_STEPS", 150)
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(BANDS, 6, generator=generator)

    def example(frames: int) -> Example:
        features, style = torch.randn(6, frames, generator=generator), torch.randn(3, generator=generator)
        return Example(features, style, mix @ features + style.sum() - 4)

    data = [example(frames) for frames in [*range(60, 110), *range(64, 104)]]
    network, error_db = fit(data)
    spread = torch.cat([one.bands for one in data], 1).std().item() * 10 / np.log(10)
    assert error_db < 0.25 * spread
    assert isinstance(network, Network)
    with pytest.raises(EdgeSpeechError, match="utterances is 40, expected more than 40"):
        fit(data[:40])
