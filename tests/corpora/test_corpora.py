from pathlib import Path
from typing import Any

import pytest
import yaml

from edgespeech.corpora.corpora import (
    CorpusKind,
    assert_trainable,
    corpus_names,
    find_split,
    load_corpus,
    split_names,
)
from edgespeech.corpora.readers import READERS
from edgespeech.errors import EdgeSpeechError

CORPORA = {
    "an4", "assistant_mini", "biasing_scores", "coffee", "commonvoice", "digits", "librispeech", "noise",
    "slurp_text", "speechocean762", "wakeword",
}  # fmt: skip


def description(**changes: Any) -> dict[str, Any]:
    content = {
        "name": "mine",
        "title": "My own corpus",
        "kind": "speech",
        "licence": "CC0-1.0",
        "citation": "Me",
        "homepage": "here",
        "sources": [{"mirror": {"folder": "mine"}}],
        "splits": {"mine_test": {"manifest": "mine_test.jsonl", "evaluation_only": True}},
    }
    return content | changes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path))
    return tmp_path


def write(folder: Path, content: dict[str, Any], name: str = "mine") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_every_corpus_is_described() -> None:
    assert set(corpus_names()) >= CORPORA
    for name in corpus_names():
        corpus = load_corpus(name)
        for source in corpus.sources:
            if source.remote:
                assert source.reader in READERS or source.note, f"{name}: {source}"
            if source.mirror:
                assert all(split.sha256 for split in corpus.splits.values()), name


def test_librispeech_has_all_parts_and_the_published_utterances() -> None:
    splits = load_corpus("librispeech").splits
    assert len(splits) == 7
    # Panayotov et al. 2015: 281,241 utterances to train on; the biasing scores have 2,620 and 2,939 to test.
    train = sum(split.utterances or 0 for split in splits.values() if not split.evaluation_only)
    assert train == 281_241
    assert splits["librispeech_test_clean"].utterances == 2620
    assert splits["librispeech_test_other"].utterances == 2939


def test_a_new_corpus_is_one_file(folder: Path) -> None:
    write(folder, description())
    assert "mine" in corpus_names()
    assert split_names()["mine_test"] == "mine"
    assert load_corpus("mine").kind is CorpusKind.SPEECH
    assert find_split("mine") == (load_corpus("mine"), "mine_test")
    assert find_split("mine_test") == find_split("mine")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licens": "x"}, "unknown key 'licens'"),
        ({"kind": "music"}, "kind is 'music', expected 'speech', 'noise', 'text' or 'scores'"),
        ({"sources": []}, "sources is"),
        ({"splits": {}}, "splits is"),
        ({"name": "other"}, "name is 'other', expected 'mine', as the file is called"),
        ({"sources": [{"reader": "an4"}]}, "exactly one of embedded, mirror, package, url, git"),
        (
            {"sources": [{"mirror": {"folder": "a"}, "embedded": {"folder": "a"}}]},
            "exactly one of embedded, mirror, package, url, git",
        ),
        ({"sources": [{"mirror": {"folder": "../up"}}]}, "expected a relative path that stays in its folder"),
        ({"sources": [{"mirror": {"folder": "/etc"}}]}, "expected a relative path that stays in its folder"),
        ({"sources": [{"mirror": {"folder": "a"}, "splits": ["no"]}]}, "sources that name its splits only"),
        (
            {"sources": [{"git": {"repo": "r", "commit": "1234567"}}, {"mirror": {"folder": "a"}}]},
            "sources in the order embedded, mirror, package, then url, git or npm",
        ),
        ({"sources": [{"git": {"repo": "r", "commit": "main"}}]}, "sources.0.git.commit is 'main'"),
        ({"sources": [{"url": {"url": "ftp://x/y", "sha256": "0" * 64}}]}, "sources.0.url.url is 'ftp"),
        ({"sources": [{"url": {"url": "http://x/y", "sha256": "123"}}]}, "sources.0.url.sha256 is '123'"),
        ({"splits": {"a": {"manifest": "a.jsonl"}}}, "splits.a.evaluation_only is missing"),
        (
            {"splits": {"a": {"manifest": "a", "evaluation_only": False, "utterances": -1}}},
            "splits.a.utterances is -1, expected greater than 0",
        ),
        (
            {"splits": {"a": {"manifest": "a", "evaluation_only": False, "select": {}}}},
            "expected exactly one of split, ids",
        ),
        ({"files": {"x": "123"}}, "files.x is '123'"),
    ],
)
def test_a_bad_description_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    write(folder, description(**changes))
    with pytest.raises(EdgeSpeechError, match=rf"mine\.yaml: .*{message}"):
        load_corpus("mine")


def test_a_file_that_is_not_yaml_is_named(folder: Path) -> None:
    (folder / "mine.yaml").write_text("name: [mine\n")
    with pytest.raises(EdgeSpeechError, match=r"mine\.yaml: not YAML: .*line 2"):
        load_corpus("mine")
    (folder / "mine.yaml").write_text("")
    with pytest.raises(EdgeSpeechError, match=r"mine\.yaml: content is None"):
        load_corpus("mine")


def test_a_folder_of_corpora_that_is_not_there_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "gone"))
    with pytest.raises(EdgeSpeechError, match=r"EDGESPEECH_CORPORA is .*gone', expected an existing folder"):
        corpus_names()


def test_names_are_unique(folder: Path) -> None:
    write(folder, description(name="an4"), "an4")
    with pytest.raises(EdgeSpeechError, match="name is 'an4', expected a new name"):
        corpus_names()
    (folder / "an4.yaml").unlink()
    write(folder, description(splits={"an4_test": {"manifest": "a", "evaluation_only": True}}))
    with pytest.raises(
        EdgeSpeechError, match="split is 'an4_test', expected a name of its own: an4 has this one"
    ):
        split_names()


def test_an_unknown_name_lists_known_ones() -> None:
    with pytest.raises(EdgeSpeechError, match="name is 'an5', expected one of an4, "):
        load_corpus("an5")
    with pytest.raises(
        EdgeSpeechError,
        match=r"split is 'an4_dev', expected one .*; similar: .*an4_test",
    ):
        find_split("an4_dev")
    with pytest.raises(
        EdgeSpeechError, match="split is 'an4', expected one split of an4: an4_train, an4_test"
    ):
        find_split("an4")


@pytest.mark.parametrize(
    "split",
    [
        "an4_test", "coffee_dev", "commonvoice_en", "digits_test", "noise_kitchen", "slurp_test",
        "speechocean762_test", "librispeech_test_clean", "librispeech_dev_other", "biasing_test_clean",
    ],
)  # fmt: skip
def test_evaluation_splits_are_not_trained_on(split: str) -> None:
    with pytest.raises(EdgeSpeechError, match=f"{split}: is for evaluation only"):
        assert_trainable(split)


@pytest.mark.parametrize(
    "split", ["an4_train", "speechocean762_train", "noise_household", "slurp_lm", "wakeword_alexa"]
)
def test_training_splits_are_trained_on(split: str) -> None:
    assert_trainable(split)
