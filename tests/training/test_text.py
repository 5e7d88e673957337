from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.corpora.written import lines_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.text.grammar import split_of
from edgespeech.training.text import TextSource, assert_unseen, load_text

SENTENCES = [f"{verb} the {thing}" for verb in ("play", "stop") for thing in "abcdefghijklmnopqrstuvwxyz"]


@pytest.fixture(autouse=True)
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of text with a split for tests; and `spoken.jsonl`, `kept.jsonl`: speech."""
    folder = tmp_path / "mirror" / "letters"
    folder.mkdir(parents=True)
    (tmp_path / "corpora").mkdir()
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(folder.parent))
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    (folder / "lm.txt").write_text("\n".join(SENTENCES) + "\n")
    (folder / "test.jsonl").write_text(json.dumps({"text": "sing"}) + "\n")
    content = {
        "name": "letters", "title": "Letters", "kind": "text", "licence": "CC0-1.0", "citation": "none",
        "homepage": "none", "sources": [{"mirror": {"folder": "letters"}}],
        "splits": {
            "letters_lm": {"manifest": "lm.txt", "evaluation_only": False},
            "letters_test": {"manifest": "test.jsonl", "evaluation_only": True},
        },
    }  # fmt: skip
    (tmp_path / "corpora" / "letters.yaml").write_text(yaml.safe_dump(content))
    speech(tmp_path / "spoken.jsonl", "GO", "HELP ME", "GO")
    speech(tmp_path / "kept.jsonl", "help me!")
    return tmp_path


def speech(path: Path, *texts: str) -> None:
    for n in range(len(texts)):
        (path.parent / f"{n}.flac").touch()
    write_manifest(
        path,
        [
            Utterance(id=str(n), audio_filepath=f"{n}.flac", duration=1.0, text=text)
            for n, text in enumerate(texts)
        ],
    )


def test_every_kind_of_source(corpora: Path) -> None:
    sources = [
        TextSource(grammar="volume", sentences=30),
        TextSource(written="letters_lm"),
        TextSource(transcripts=str(corpora / "spoken.jsonl"), repeat=2),
    ]
    text = load_text(sources, ["letters_test"], seed=0)
    assert all(split_of(sentence) == "train" for sentence in text.sentences[:30])
    written = [sentence for sentence in SENTENCES if split_of(sentence) == "train"]
    assert list(text.sentences[30:]) == [*written, *["go", "help me", "go"] * 2]
    assert text.left_out == 0


def test_the_same_seed_gives_the_same_text() -> None:
    source = TextSource(grammar="lights", sentences=20)
    one = load_text([source, source], ["letters_test"], seed=1)
    assert load_text([source, source], ["letters_test"], seed=1).sha256 == one.sha256
    assert load_text([source, source], ["letters_test"], seed=2).sha256 != one.sha256
    assert one.sentences[:20] != one.sentences[20:]


def test_what_is_held_out_is_never_learned_however_it_is_spelled(corpora: Path) -> None:
    sources = [TextSource(transcripts=str(corpora / "spoken.jsonl"))]
    text = load_text(sources, [str(corpora / "kept.jsonl"), "letters_test"], seed=0)
    assert text.sentences == ("go", "go")
    assert text.left_out == 1


def test_a_draw_of_a_grammar_is_held_out_too(corpora: Path) -> None:
    source = TextSource(grammar="volume", sentences=50)
    drawn = load_text([source], ["letters_test"], seed=0).sentences
    speech(corpora / "kept.jsonl", drawn[0].title())
    kept = load_text([source], [str(corpora / "kept.jsonl")], seed=0)
    assert drawn[0] not in kept.sentences
    assert kept.left_out == drawn.count(drawn[0])


def test_other_characters_are_left_out(corpora: Path) -> None:
    speech(corpora / "spoken.jsonl", "seat 12", "go now", "café", "stop.")
    text = load_text([TextSource(transcripts=str(corpora / "spoken.jsonl"))], ["letters_test"], seed=0)
    assert text.sentences == ("go now",)
    assert text.left_out == 3


def test_nothing_left(corpora: Path) -> None:
    speech(corpora / "spoken.jsonl", "help me")
    with pytest.raises(EdgeSpeechError, match="none of the 1 sentences of its text may be learned"):
        load_text(
            [TextSource(transcripts=str(corpora / "spoken.jsonl"))], [str(corpora / "kept.jsonl")], seed=0
        )


def test_splits_for_evaluation_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="coffee_dev: is for evaluation only"):
        load_text([TextSource(transcripts="coffee_dev")], ["letters_test"], seed=0)
    with pytest.raises(EdgeSpeechError, match="letters_test: is for evaluation only"):
        load_text([TextSource(written="letters_test")], ["letters_test"], seed=0)


def test_the_assertion_sees_other_spellings() -> None:
    with pytest.raises(EdgeSpeechError, match="'cannot stop' is a sentence for evaluation"):
        assert_unseen(["go", "cannot stop"], {"can not stop"})


def test_lines_of_text_and_speech(corpora: Path) -> None:
    assert lines_of("letters_test") == ["sing"]
    assert lines_of(str(corpora / "kept.jsonl")) == ["help me!"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"grammar": "volume"},
        {"written": "letters_lm", "sentences": 3},
        {"grammar": "volume", "sentences": 3, "written": "letters_lm"},
        {"grammar": "volume", "sentences": 3, "repeat": 2},
        {"grammar": "volume", "sentences": 0},
        {"written": "letters_lm", "repeat": 0},
        {"text": "letters_lm"},
    ],
)
def test_bad_sources(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        TextSource.model_validate(values)
