import json
from pathlib import Path

import pytest
import yaml

from edgespeech.corpora.written import lines_of, written
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
def test_sentences_of_one_to_sixteen_words_are_used(mirror: Path, line: str) -> None:
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
    with pytest.raises(
        EdgeSpeechError, match=r"split is 'letters_dev', expected one that .*similar: letters_devel"
    ):
        written("letters_dev", "train")


def described(mirror: Path, **splits: dict[str, object]) -> None:
    """Another corpus in the same folder, called `other`."""
    content = {
        "name": "other", "title": "Other", "kind": "text", "licence": "CC0-1.0", "citation": "none",
        "homepage": "none", "sources": [{"mirror": {"folder": "letters"}}],
        "splits": {name: {"evaluation_only": False} | split for name, split in splits.items()},
    }  # fmt: skip
    (mirror.parents[1] / "corpora" / "other.yaml").write_text(yaml.safe_dump(content))


def test_prose_is_turned_into_words(mirror: Path) -> None:
    described(mirror, other_prose={"manifest": "prose.txt", "prose": True})
    lines = ["It was good, and it was so!", "x = 5", "He waited for 12 days."]
    (mirror / "prose.txt").write_text("\n".join(lines))
    said = ["it was good and it was so", "he waited for twelve days"]
    assert lines_of("other_prose") == said
    assert sorted(
        text for part in ("train", "dev", "test") for text in written("other_prose", part)
    ) == sorted(said)
    (mirror / "prose.txt").write_text("Another one, longer than before, in the same file, today.")
    assert lines_of("other_prose") == ["another one longer than before in the same file today"]


def test_longer_sentences_where_they_are_asked_for(mirror: Path) -> None:
    line = " ".join(["a"] * 20)
    (mirror / "lm.txt").write_text(f"{line}\n")
    assert written("letters_lm", split_of(line)) == []
    assert written("letters_lm", split_of(line), longest=20) == [line]


def test_tables_and_parts_of_a_file_are_read(mirror: Path) -> None:
    described(
        mirror,
        other_table={"manifest": "t.csv"},
        other_part={"manifest": "p.json", "select": {"split": "train"}},
    )
    (mirror / "t.csv").write_text('id;answer_from_anno;x\n1;"wake me";y\n2;stop;y\n')
    (mirror / "p.json").write_text(json.dumps({"train": [["hello", "greet"]], "test": [["bye", "leave"]]}))
    assert lines_of("other_table") == ["wake me", "stop"]
    assert lines_of("other_part") == ["hello"]


@pytest.mark.parametrize(("name", "content"), [("t.csv", "id;x\n1;2\n"), ("p.json", "{}"), ("p.json", "[")])
def test_another_layout_is_named(mirror: Path, name: str, content: str) -> None:
    described(mirror, other_split={"manifest": name, "select": {"split": "train"}})
    (mirror / name).write_text(content)
    with pytest.raises(EdgeSpeechError, match=rf"{name}: not the layout that its name says"):
        lines_of("other_split")
