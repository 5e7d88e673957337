"""Speakers that are held out of training: the same ones on every machine, and never trained on."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from edgespeech.audio.io import write_audio
from edgespeech.core.files import sha256_file
from edgespeech.corpora.corpora import assert_trainable, load_corpus
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Manifest, Utterance, load_manifest, write_manifest
from edgespeech.corpora.real_dev import held_out
from edgespeech.errors import EdgeSpeechError
from edgespeech.training.speech import trainable


def manifest(folder: Path, speakers: int, *, named: bool = True) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number in range(3 * speakers):
        name = f"u{number:03d}.flac"
        write_audio(folder / name, np.full(1600, 0.1, dtype=np.float32))
        speaker = f"s{number % speakers}" if named else None
        items.append(
            Utterance(id=f"u{number:03d}", audio_filepath=name, duration=0.1, text="yes", speaker=speaker)
        )
    write_manifest(folder / "tiny.jsonl", items)
    return load_manifest(folder / "tiny.jsonl", "tiny_train")


@pytest.mark.parametrize(("speakers", "expected"), [(1, 1), (6, 1), (40, 4)])
def test_a_tenth_of_the_speakers_is_held_out_and_no_speaker_is_on_both_sides(
    tmp_path: Path, speakers: int, expected: int
) -> None:
    whole = manifest(tmp_path, speakers)
    rest, held = held_out(whole)
    names = [{item.speaker for item in part.utterances} for part in (rest, held)]
    assert len(names[1]) == expected
    assert not names[0] & names[1]
    assert len(rest.utterances) + len(held.utterances) == len(whole.utterances)


def test_the_choice_does_not_depend_on_the_order(tmp_path: Path) -> None:
    whole = manifest(tmp_path, 40)
    turned = Manifest(
        name=whole.name, path=whole.path, sha256=whole.sha256, utterances=tuple(reversed(whole.utterances))
    )
    assert {u.id for u in held_out(whole)[1].utterances} == {u.id for u in held_out(turned)[1].utterances}


def test_without_speakers_utterances_are_held_out(tmp_path: Path) -> None:
    rest, held = held_out(manifest(tmp_path, 10, named=False))
    assert (len(rest.utterances), len(held.utterances)) == (27, 3)


@pytest.fixture
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A training split `tiny_train` and `tiny_dev`, its held-out speakers."""
    whole = manifest(tmp_path / "mirror" / "tiny", 20)
    about = {"kind": "speech", "licence": "none", "citation": "none", "homepage": "none", "title": "tiny"}
    split = {"manifest": "tiny.jsonl", "sha256": sha256_file(whole.path), "evaluation_only": False}
    tiny = {
        **about,
        "name": "tiny",
        "sources": [{"mirror": {"folder": "tiny"}}],
        "splits": {"tiny_train": split},
    }
    dev = {
        **about,
        "name": "tiny_dev",
        "sources": [{"held_out": {"splits": ["tiny_train"]}}],
        "splits": {"tiny_dev": {"manifest": "tiny_dev.jsonl", "evaluation_only": False, "tuning_only": True}},
    }
    for content in (tiny, dev):
        (tmp_path / "corpora").mkdir(exist_ok=True)
        (tmp_path / "corpora" / f"{content['name']}.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    return whole


def test_training_never_gets_what_is_held_out(corpora: Manifest) -> None:
    held = manifest_of("tiny_dev")
    trained = trainable("tiny_train")
    audio = [{part.audio_path(u).resolve() for u in part.utterances} for part in (held, trained)]
    assert len(audio[0]) == 6
    assert not audio[0] & audio[1]
    assert all(item.id.startswith("tiny_train/") for item in held.utterances)


def test_what_is_held_out_is_refused_by_every_other_name(corpora: Manifest, tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="tiny_dev: is for tuning only"):
        trainable("tiny_dev")
    with pytest.raises(EdgeSpeechError, match="is tiny_train, expected that name"):
        trainable(str(corpora.path))
    with pytest.raises(EdgeSpeechError, match="held out for tuning"):
        trainable(str(manifest_of("tiny_dev").path))


def test_real_dev_is_held_out_of_every_corpus_that_it_names() -> None:
    (source,) = load_corpus("real_dev").sources
    assert source.held_out is not None
    for split in source.held_out.splits:
        assert_trainable(split)
    with pytest.raises(EdgeSpeechError, match="for tuning only"):
        assert_trainable("real_dev")


@pytest.mark.mirror
def test_real_dev_is_what_its_description_says() -> None:
    assert len(manifest_of("real_dev").utterances) == load_corpus("real_dev").splits["real_dev"].utterances
