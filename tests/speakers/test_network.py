"""The speaker network: what it ignores, its files in 16 and 8 bits, its training, and the controls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgespeech.audio.features import log_mel_at_once
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.errors import EdgeSpeechError
from edgespeech.speakers.network import (
    DIMENSIONS,
    Saved,
    SpeakerNet,
    Thresholds,
    load_network,
    pooled,
    prepared,
    rounded,
    save_network,
    unit,
    voice_of,
)
from edgespeech.speakers.spectrum import discriminants, spectrum_of, standardised
from edgespeech.speakers.training import MarginLoss, Schedule, Voices, train
from helpers_speakers import QUICK, speakers, trained, untrained, voices


@pytest.fixture(scope="module")
def saved() -> Saved:
    return trained()


def test_it_tells_speakers_apart_that_it_has_not_heard(saved: Saved) -> None:
    own = speakers(5, seed=9)
    embeddings = np.stack([saved.network.embed(one.says(900 + n)) for one in own for n in range(3)])
    cosines = embeddings @ embeddings.T
    same = np.kron(np.eye(5), np.ones((3, 3))).astype(bool)
    assert cosines[same & ~np.eye(15, dtype=bool)].mean() > cosines[~same].mean() + 0.3
    fresh = untrained()
    before = np.stack([fresh.embed(one.says(900 + n)) for one in own for n in range(3)])
    gap = (before @ before.T)[same & ~np.eye(15, dtype=bool)].mean() - (before @ before.T)[~same].mean()
    assert gap < 0.3


def test_an_embedding_has_length_1_and_ignores_level_and_silence_around_it(saved: Saved) -> None:
    samples = speakers(1)[0].says(3)
    found = saved.network.embed(samples)
    assert found.shape == (DIMENSIONS,)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert saved.network.embed(samples * np.float32(0.25)) @ found > 0.999
    silence = np.zeros(SAMPLE_RATE // 2, np.float32) + np.float32(1e-5)
    assert saved.network.embed(np.concatenate([silence, samples, silence])) @ found > 0.95


def test_only_speech_is_pooled() -> None:
    speech = torch.zeros(1, 6, 80)
    features = torch.cat([speech, speech - 20], 1)  # the second half 87 dB below
    level, is_speech = prepared(features)
    assert is_speech[0, :, 0].tolist() == [1] * 6 + [0] * 6
    assert level[0, 0].tolist() == pytest.approx([0] * 80)
    assert level[0, 6].tolist() == [-8] * 80  # it ends there
    values = torch.tensor([[[1.0], [3.0], [100.0]]])
    found = pooled(values, torch.tensor([[[1.0], [1.0], [0.0]]]))
    assert found[0].tolist() == pytest.approx([2, 1], abs=1e-4)


def test_a_file_keeps_it(saved: Saved, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_network(path, saved)
    found = load_network(path)
    assert (found.thresholds, found.given_sha256) == (saved.thresholds, "made")
    samples = speakers(1)[0].says(5)
    assert found.network.embed(samples) @ saved.network.embed(samples) > 0.9999


def test_a_packed_file_is_the_rounded_network_in_a_third_of_a_megabyte(saved: Saved, tmp_path: Path) -> None:
    path = tmp_path / "packed.safetensors"
    save_network(path, saved, packed=True)
    found = load_network(path).network
    own = rounded(saved.network)
    for (name, mine), theirs in zip(own.state_dict().items(), found.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name
    matrix = saved.network.out.weight
    steps = matrix.abs().amax(1, keepdim=True) / 127
    assert bool(((own.out.weight - matrix).abs() <= steps * 0.501).all())
    assert not torch.equal(own.out.weight, matrix)
    samples = speakers(1)[0].says(5)
    assert found.embed(samples) @ saved.network.embed(samples) > 0.99
    assert path.stat().st_size < 400_000


def test_the_parameters_are_those_of_its_state() -> None:
    network = untrained()
    learned = sum(one.numel() for one in network.parameters())
    norms = 2 * 80 + 2 * (128 * 4 + 768 + 160)  # the bands', and running means and variances
    assert network.parameters_count == learned + norms <= 500_000


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "other", "nan", "about"])
def test_files_that_are_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "network.safetensors"
    save_network(path, Saved(untrained(), Thresholds(0.5, 0.3), "given"))
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("no network")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        weights = load_file(path)
        about = {"voice": "0.5", "pair": "0.3", "given_sha256": ""}
        if damage == "other":
            del weights["out.weight"]
        elif damage == "nan":
            weights["out.weight"][:] = torch.nan
        else:
            about["voice"] = "high"
        save_file(weights, path, about)
    with pytest.raises(EdgeSpeechError, match=r"network\.safetensors"):
        load_network(path)


def test_a_seed_decides_the_network() -> None:
    own, schedule = voices(speakers(3), 2), replace(QUICK, steps=2, batch=3)
    first, again, other = (train(own, schedule, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["out.weight"], other["out.weight"])


def test_the_margin_makes_the_loss_higher_and_acts_on_the_right_speaker_alone() -> None:
    loss = MarginLoss(3, scale=10.0)
    with torch.no_grad():
        loss.weight.copy_(torch.eye(3, DIMENSIONS))
    given, right = torch.eye(3, DIMENSIONS)[:1] * 7, torch.tensor([0])
    # Cosines 1, 0, 0; with a margin of 0.2: 0.8, 0, 0.
    with torch.inference_mode():
        assert float(loss(given, right, 0.0)) == pytest.approx(np.log(1 + 2 * np.exp(-10)), rel=1e-2)
        assert float(loss(given, right, 0.2)) == pytest.approx(np.log(1 + 2 * np.exp(-8)), rel=1e-2)


def test_crops_are_repeated_where_an_utterance_is_too_short() -> None:
    own = voices(speakers(2), 1)
    whole = own.utterance(1).astype(np.float32)
    crop = own.crop(1, 2 * len(whole), np.random.default_rng(0))
    assert np.array_equal(crop[: len(whole)], whole)
    assert np.array_equal(crop[len(whole) :], whole)
    assert own.crop(1, 10, np.random.default_rng(0)).shape == (10, 80)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"steps": 0}, "steps"),
        ({"batch": 1}, "batch"),
        ({"rate": float("nan")}, "rate"),
        ({"margin": 1.5}, "margin"),
        ({"crop_s": (2.0, 1.0)}, "crop_s"),
        ({"microphone_db": -1.0}, "microphone_db"),
    ],
)
def test_schedules_out_of_range(values: dict[str, object], named: str) -> None:
    with pytest.raises(EdgeSpeechError, match=named):
        Schedule(**values)  # type: ignore[arg-type]  # wrong on purpose


def test_material_with_one_speaker_or_a_gap() -> None:
    own = voices(speakers(2), 1)
    for numbers in ([0, 0], [0, 2]):
        with pytest.raises(EdgeSpeechError, match="speakers"):
            Voices(own.frames, own.starts, own.lengths, np.array(numbers))


def test_too_short_for_an_embedding() -> None:
    with pytest.raises(EdgeSpeechError, match=r"at least 0\.1 s"):
        SpeakerNet().eval().embed(np.zeros(1000, np.float32))


def test_a_voice_is_the_direction_of_the_mean() -> None:
    assert voice_of(unit(np.eye(2))).tolist() == pytest.approx([2**-0.5, 2**-0.5])


def test_discriminants_ignore_what_varies_within_speakers() -> None:
    rng = np.random.default_rng(0)
    names = np.repeat(np.arange(20), 10)
    spectra = rng.standard_normal((200, 6))
    spectra[:, 0] += 3 * rng.standard_normal(20)[names]  # the speaker
    spectra[:, 1] *= 50  # the room
    one = discriminants(spectra, names, 1)
    direction = np.abs(one.projection[:, 0] * spectra.std(0))
    assert direction[0] > 5 * np.delete(direction, 0).max()
    with pytest.raises(EdgeSpeechError, match="1 to 6"):
        discriminants(spectra, names, 7)


def test_spectra_tell_speakers_apart_and_ignore_the_level() -> None:
    own = speakers(6, seed=2)
    features = [log_mel_at_once(one.says(n)) for one in own for n in range(4)]
    spectra = np.stack([spectrum_of(one) for one in features])
    assert spectrum_of(features[0] + 3) == pytest.approx(spectra[0], abs=1e-4)
    names = np.repeat(np.arange(6), 4)
    for control in (standardised(spectra), discriminants(spectra, names, 5)):
        vectors = np.stack([control.embed(one.says(50 + n)) for one in own for n in range(2)])
        cosines = vectors @ vectors.T
        same = np.kron(np.eye(6), np.ones((2, 2))).astype(bool)
        assert cosines[same].mean() > cosines[~same].mean() + 0.3
