import json
from pathlib import Path

import pytest
import yaml

from edgespeech.corpora.written import written
from edgespeech.errors import EdgeSpeechError
from edgespeech.text.grammar import split_of
from edgespeech.text.spoken import plain

SENTENCES = [
    f"{verb} the {thing}"
    for verb in ("play", "stop", "find", "call")
    for thing in "abcdefghijklmnopqrstuvwxyz"
]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text corpus: lines to learn from, and the same corpus's sentences to tune on and to test with."""
    folder = tmp_path / "mirror" / "letters"
    folder.mkdir(parents=True)
    (tmp_path / "corpora").mkdir()
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(folder.parent))
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    (folder / "lm.txt").write_text("\n".join(SENTENCES) + "\n")
    for name in ("devel", "test"):
        (folder / f"{name}.jsonl").write_text("")
    content = {
        "name": "letters", "title": "Letters", "kind": "text", "licence": "CC0-1.0", "citation": "none",
        "homepage": "none", "sources": [{"mirror": {"folder": "letters"}}],
        "splits": {
            "letters_lm": {"manifest": "lm.txt", "evaluation_only": False},
            "letters_devel": {"manifest": "devel.jsonl", "evaluation_only": False},
            "letters_test": {"manifest": "test.jsonl", "evaluation_only": True},
        },
    }  # fmt: skip
    (tmp_path / "corpora" / "letters.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_every_sentence_belongs_to_one_part_in_file_order(mirror: Path) -> None:
    train, dev, test = (
        written("letters_lm", "train"),
        written("letters_lm", "dev"),
        written("letters_lm", "test"),
    )
    assert train == [text for text in SENTENCES if split_of(text) == "train"]
    assert {split_of(text) for text in dev} == {"dev"}
    assert {split_of(text) for text in test} == {"test"}
    assert sorted(train + dev + test) == sorted(SENTENCES)


def test_a_sentence_comes_once(mirror: Path) -> None:
    before = written("letters_lm", "train")
    (mirror / "lm.txt").write_text("\n".join(SENTENCES + SENTENCES[::-1]))
    assert written("letters_lm", "train") == before


@pytest.mark.parametrize("other", ["devel", "test"])
def test_sentences_of_the_other_splits_are_left_out(mirror: Path, other: str) -> None:
    """However they are spelled there."""
    first, second, *rest = written("letters_lm", "train")
    spelled = [f"{first.title()}!", second.upper()]
    assert plain(spelled[0]) == plain(first)
    (mirror / f"{other}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in spelled))
    assert written("letters_lm", "train") == rest


def test_a_split_of_json_lines_is_read_by_its_text(mirror: Path) -> None:
    (mirror / "devel.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ["fresh one", *SENTENCES])
    )
    part = split_of("fresh one")
    assert written("letters_devel", part) == ["fresh one"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Play the a",
        "play the 5",
        "play the a.",
        "play the café",
        " play the a",
        "play  the a",
        " ".join(["a"] * 17),
    ],
)
def test_lines_that_are_not_short_plain_words_are_left_out(mirror: Path, line: str) -> None:
    (mirror / "lm.txt").write_text(f"{line}\n")
    assert [written("letters_lm", part) for part in ("train", "dev", "test")] == [[], [], []]


@pytest.mark.parametrize("line", ["go", "what's on", " ".join(["a"] * 16)])
def test_one_to_sixteen_words_are_kept(mirror: Path, line: str) -> None:
    (mirror / "lm.txt").write_text(f"{line}\n")
    assert written("letters_lm", split_of(line)) == [line]


def test_sentences_for_evaluation_are_refused(mirror: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="letters_test: is for evaluation only"):
        written("letters_test", "train")


@pytest.mark.parametrize("name", ["an4_train", "noise_household"])
def test_what_is_not_text_is_refused(name: str) -> None:
    with pytest.raises(EdgeSpeechError, match=f"{name}: kind is .*, expected a text corpus"):
        written(name, "train")


def test_an_unknown_split_is_named(mirror: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"split is 'letters_dev', expected one of .*letters_devel"):
        written("letters_dev", "train")
