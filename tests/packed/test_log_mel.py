"""The engine's log-mel features against kaldi-native-fbank, and against themselves in other pieces and kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgespeech.audio.features import N_MELS, Features, StreamingLogMel, log_mel
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.loader import isas
from edgespeech.packed.log_mel import NativeLogMel

TOLERANCE = 1e-4
LENGTHS = (0, 1, 79, 80, 81, 119, 120, 239, 240, 279, 280, 281, 399, 400, 401, 1000, 1680, 5001)
"""Around the first frame, half a frame, the middle of a frame, and eight frames, which are summed up together."""


def audio(length: int, size: float = 0.1) -> Samples:
    return (size * np.random.default_rng(0).standard_normal(length)).astype(np.float32)


def tone(hz: float, size: float = 0.5) -> Samples:
    return (size * np.sin(2 * np.pi * hz * np.arange(SAMPLE_RATE) / SAMPLE_RATE)).astype(np.float32)


def features(samples: Samples, piece: int | None = None, isa: str | None = None) -> Features:
    extractor, piece = NativeLogMel(isa), piece or max(1, len(samples))
    found = [extractor.accept(samples[start : start + piece]) for start in range(0, len(samples), piece)]
    return np.concatenate([*found, extractor.finish()])


SOUNDS = {
    "noise": audio(16_000),
    "faint noise": audio(16_000, 1e-4),
    "loud noise": audio(16_000, 1.0),
    "far from zero": audio(16_000, 1e-3) + np.float32(0.3),
    "silence": np.zeros(4000, np.float32),
    "silence, then noise": np.concatenate([np.zeros(4000, np.float32), audio(4000)]),
    "low tone": tone(100),
    "tone": tone(1000, 0.9),
    "high tone": tone(7900),
    "click": np.eye(1, 4000, 2000, dtype=np.float32)[0],
}


@pytest.mark.parametrize("sound", SOUNDS)
def test_they_are_those_of_kaldi_native_fbank(sound: str) -> None:
    found, expected = features(SOUNDS[sound]), log_mel(SOUNDS[sound])
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_they_are_those_of_kaldi_native_fbank_on_speech() -> None:
    import soundfile

    paths = sorted((project_root() / "data_manifests" / "assistant_mini" / "audio").glob("*.opus"))[:3]
    assert len(paths) == 3
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == SAMPLE_RATE
        found, expected = features(samples), log_mel(samples)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
        assert np.mean(found == expected) > 0.8  # rounded in the same order, most are equal


@pytest.mark.parametrize("length", LENGTHS)
def test_any_length_is_mirrored_at_its_ends_as_there(length: int) -> None:
    found, expected = features(audio(length)), log_mel(audio(length))
    assert found.shape == expected.shape
    assert found.shape[1] == N_MELS
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("piece", [1, 7, 159, 160, 161, 280, 399, 400, 1280, 1440, 1920])
@pytest.mark.parametrize("length", [1, 80, 281, 1680, 5001])
def test_pieces_change_no_bit(length: int, piece: int) -> None:
    assert features(audio(length), piece).tobytes() == features(audio(length)).tobytes()


@pytest.mark.parametrize("piece", [161, 1920])
def test_frames_come_when_they_come_there(piece: int) -> None:
    samples, native, other = audio(5001), NativeLogMel(), StreamingLogMel()
    for start in range(0, len(samples), piece):
        given = samples[start : start + piece]
        assert native.accept(given).shape == other.accept(given).shape
    assert native.finish().shape == other.finish().shape


@pytest.mark.parametrize("sound", SOUNDS)
def test_every_isa_gives_the_same_bits(sound: str) -> None:
    found = [features(SOUNDS[sound], isa=isa).tobytes() for isa in isas()]
    assert found == [found[0]] * len(found)


def test_two_extractors_do_not_disturb_each_other() -> None:
    first, second = audio(2000), audio(2000)[::-1].copy()
    one, two = NativeLogMel(), NativeLogMel()
    got: tuple[list[Features], list[Features]] = ([], [])
    for start in range(0, 2000, 250):
        got[0].append(one.accept(first[start : start + 250]))
        got[1].append(two.accept(second[start : start + 250]))
    assert np.array_equal(np.concatenate([*got[0], one.finish()]), features(first))
    assert np.array_equal(np.concatenate([*got[1], two.finish()]), features(second))


def test_other_kinds_of_arrays_are_taken_as_floats() -> None:
    samples = audio(4000)
    others: list[Any] = [samples.astype(np.float64), np.repeat(samples, 2)[::2]]
    for same in others:
        assert np.array_equal(features(same), features(samples))


def test_an_array_that_is_written_to_afterwards_changes_nothing() -> None:
    samples = audio(500)
    extractor = NativeLogMel()
    found = extractor.accept(samples)
    samples[:] = 0
    assert np.array_equal(np.concatenate([found, extractor.finish()]), features(audio(500)))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_refused_and_leaves_no_trace(wrong: float) -> None:
    samples, extractor = audio(1000), NativeLogMel()
    broken = samples.copy()
    broken[999] = wrong
    with pytest.raises(EdgeSpeechError, match="samples hold a value that is not finite"):
        extractor.accept(broken)
    assert np.array_equal(np.concatenate([extractor.accept(samples), extractor.finish()]), features(samples))


def test_misuse_is_refused() -> None:
    extractor = NativeLogMel()
    with pytest.raises(EdgeSpeechError, match=r"shape of the samples is \(2, 5\)"):
        extractor.accept(audio(10).reshape(2, 5))
    extractor.finish()
    with pytest.raises(EdgeSpeechError, match="samples after the end"):
        extractor.accept(audio(10))
    with pytest.raises(EdgeSpeechError, match="isa: got 'mmx'"):
        NativeLogMel("mmx")
