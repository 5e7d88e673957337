"""The utterances of a measurement: subset, condition, what is missing, and the audio that comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgespeech.audio.channel import telephone_band
from edgespeech.audio.io import read_audio, write_audio
from edgespeech.audio.mix import mix_at_snr
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.corpora.utterances import AudioCondition, Noise, spoken_of, utterances_of
from edgespeech.errors import EdgeSpeechError


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A corpus of three utterances: two in one file, and one that is a file of its own."""
    rng = np.random.default_rng(0)
    for name, seconds in (("two", 1.0), ("own", 0.5)):
        write_audio(
            tmp_path / f"{name}.flac",
            (0.1 * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32),
        )
    items = [
        Utterance(id="a", audio_filepath="two.flac", duration=0.4, offset=0.0, text="one", speaker="s"),
        Utterance(id="b", audio_filepath="two.flac", duration=0.4, offset=0.5, text="two", speaker="s"),
        Utterance(id="c", audio_filepath="own.flac", duration=0.499, text="three"),
    ]
    write_manifest(tmp_path / "toy.jsonl", items)
    return tmp_path / "toy.jsonl"


def test_what_is_here_and_what_is_missing(toy: Path) -> None:
    found = utterances_of({str(toy): "basic", "nowhere": "basic"}, seed=0)
    assert [(one.corpus, one.id, one.text, one.speaker) for one in found] == [
        ("toy", "a", "one", "s"),
        ("toy", "b", "two", "s"),
        ("toy", "c", "three", None),
    ]
    assert len(found) == 3
    assert found.normalisers == {"toy": "basic"}
    assert found.manifests.keys() == {"toy"}
    assert list(found.missing) == ["nowhere"]
    assert "nowhere" in found.missing["nowhere"]


def test_none_at_all_is_an_error(toy: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"none of these corpora is available: gone \(.*"):
        utterances_of({str(toy.with_name("gone.jsonl")): "basic"}, seed=0)


def test_a_manifest_in_the_work_folder_is_found(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(toy.parent))
    assert utterances_of({"toy.jsonl": "basic"}, seed=0, count=2).manifests.keys() == {"toy"}
    assert len(utterances_of({"toy.jsonl": "basic"}, seed=0, count=2)) == 2


def test_a_file_that_is_one_utterance_is_read_to_its_end(toy: Path) -> None:
    found = utterances_of({str(toy): "basic"}, seed=0)
    lengths = [len(one.samples()) for one in found]
    assert lengths == [round(0.4 * SAMPLE_RATE)] * 2 + [SAMPLE_RATE // 2]


def test_noise_then_band_by_seed_and_utterance(toy: Path) -> None:
    noise = Noise(path=toy.with_name("own.flac"), snr_db=6, rule="mean")
    found = utterances_of({str(toy): "basic"}, seed=3, noise=noise, band="telephone")
    one = found.items[1]
    clean = replace(one, condition=AudioCondition()).samples()
    mixed = mix_at_snr(clean, read_audio(noise.path), 6, rule="mean", seed=3, utterance_id="b")
    assert np.array_equal(one.samples(), telephone_band(mixed))
    assert np.array_equal(one.samples(), one.samples())
    other = replace(one, condition=replace(one.condition, seed=4))
    assert not np.array_equal(one.samples(), other.samples())
    assert len(one.samples()) == len(clean)


def test_a_band_that_does_not_exist_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="band is 'radio', expected one of telephone"):
        AudioCondition(band="radio")  # type: ignore[arg-type]  # that is the test


def test_a_manifest_can_have_another_name(toy: Path) -> None:
    from edgespeech.corpora.manifest import load_manifest

    assert {one.corpus for one in spoken_of(load_manifest(toy), corpus="x")} == {"x"}
