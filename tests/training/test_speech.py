"""What may be trained on, and how it is kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgespeech.audio.io import read_audio, write_audio
from edgespeech.core.places import project_root, work_dir
from edgespeech.corpora.manifest import load_manifest, write_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.training.config import Source, TrainConfig
from edgespeech.training.speech import encode_items, load_noises, load_speech, trainable

pytestmark = pytest.mark.usefixtures("settings")


def test_samples_are_those_of_the_files(corpus: Path) -> None:
    speech = load_speech([Source(corpus=str(corpus))], longest_s=5)
    manifest = load_manifest(corpus)
    assert [item.id for item in speech.items] == [u.id for u in manifest.utterances]
    for item, utterance in zip(speech.items, manifest.utterances, strict=True):
        np.testing.assert_allclose(
            speech.samples(item), read_audio(manifest.audio_path(utterance)), atol=1 / 32768
        )
        assert item.seconds == pytest.approx(utterance.duration)


def test_the_same_lines_in_another_folder_are_other_audio(corpus: Path) -> None:
    other = corpus.parent / "other" / corpus.name
    other.parent.mkdir()
    unhashed = [item.model_copy(update={"sha256": None}) for item in load_manifest(corpus).utterances]
    for path in (corpus, other):
        write_manifest(path, unhashed)
    for utterance in load_manifest(corpus).utterances:
        samples = read_audio(load_manifest(corpus).audio_path(utterance))
        write_audio(other.parent / utterance.audio_filepath, -samples)
    heard = [load_speech([Source(corpus=str(path))], longest_s=5) for path in (corpus, other)]
    assert heard[0].sha256 != heard[1].sha256
    for one, two in zip(heard[0].items, heard[1].items, strict=True):
        np.testing.assert_allclose(heard[0].samples(one), -heard[1].samples(two), atol=2 / 32768)
    both = load_speech([Source(corpus=str(path)) for path in (corpus, other)], longest_s=5)
    assert len(both.items) == 2 * len(heard[0].items)


def test_decoding_is_done_once(corpus: Path) -> None:
    sources = [Source(corpus=str(corpus))]
    first = load_speech(sources, longest_s=5)
    for file in corpus.parent.glob("*.flac"):
        file.write_bytes(b"")
    again = load_speech(sources, longest_s=5)
    assert again.sha256 == first.sha256
    np.testing.assert_array_equal(again.samples(again.items[3]), first.samples(first.items[3]))
    assert not list((work_dir() / "training" / "speech").glob("*.part"))


def test_other_words_are_other_speech(corpus: Path) -> None:
    before = load_speech([Source(corpus=str(corpus))], longest_s=5).sha256
    manifest = load_manifest(corpus)
    write_manifest(corpus, [u.model_copy(update={"text": "red"}) for u in manifest.utterances])
    assert load_speech([Source(corpus=str(corpus))], longest_s=5).sha256 != before


@pytest.mark.parametrize(
    "split", ["coffee_dev", "an4_test", "commonvoice_en", "digits_test", "assistant_mini"]
)
def test_evaluation_splits_are_refused(split: str) -> None:
    with pytest.raises(EdgeSpeechError, match="evaluation only"):
        load_speech([Source(corpus=split)], longest_s=5)


def test_an_evaluation_split_by_its_path_is_refused_too(tmp_path: Path) -> None:
    original = project_root() / "data_manifests" / "assistant_mini" / "assistant_mini.jsonl"
    copy = tmp_path / "renamed.jsonl"
    copy.write_bytes(original.read_bytes())
    (tmp_path / "audio").symlink_to(original.parent / "audio")
    with pytest.raises(EdgeSpeechError, match="evaluation split assistant_mini"):
        trainable(str(copy))


def test_utterances_of_another_part_are_refused(corpus: Path) -> None:
    manifest = load_manifest(corpus)
    write_manifest(corpus, [u.model_copy(update={"split": "test"}) for u in manifest.utterances])
    with pytest.raises(EdgeSpeechError, match="c00: split is 'test', expected train"):
        trainable(str(corpus))


def test_the_evaluation_noise_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="evaluation only"):
        load_noises("noise_kitchen")


def test_a_long_utterance_is_refused_by_name(corpus: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"utterance c02: duration is 1\.1.*longest_s"):
        load_speech([Source(corpus=str(corpus))], longest_s=1)


def test_the_same_corpus_twice_is_refused(corpus: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="each corpus once"):
        load_speech([Source(corpus=str(corpus)), Source(corpus=str(corpus), repeat=2)], longest_s=5)


def test_more_labels_than_frames_are_refused_by_name(
    settings: Callable[..., TrainConfig], corpus: Path
) -> None:
    speech = load_speech([Source(corpus=str(corpus))], longest_s=5)
    pieces = Tokeniser.train(["on off red blue"], 32)
    with pytest.raises(EdgeSpeechError, match=r"utterance c0\d: labels is \d+, expected at most its frames"):
        encode_items(speech.items, pieces, ModelConfig(vocabulary=32, stack=40))
