"""Annotated requests: the layouts of the corpora, on files of a few lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from edgespeech.corpora.requests import Request, annotated, requests_of, slots_of, tagged
from edgespeech.errors import EdgeSpeechError

Describe = Callable[..., None]


@pytest.fixture
def describe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Describe:
    """Makes a corpus of text of one split, `NAME_train`, whose files lie in a folder that stands for the mirror."""
    (tmp_path / "corpora").mkdir()
    (tmp_path / "mirror" / "here").mkdir(parents=True)
    monkeypatch.setenv("EDGESPEECH_CORPORA", str(tmp_path / "corpora"))
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(tmp_path / "mirror"))

    def made(name: str, files: dict[str, str], part: str | None = None) -> None:
        for file, content in files.items():
            (tmp_path / "mirror" / "here" / file).write_text(content)
        split: dict[str, object] = {"manifest": next(iter(files)), "evaluation_only": False}
        if part is not None:
            split["select"] = {"split": part}
        described = {
            "name": name,
            "title": "made for a test",
            "kind": "text",
            "licence": "none",
            "citation": "none",
            "homepage": "none",
            "sources": [{"mirror": {"folder": "here"}}],
            "splits": {f"{name}_train": split},
        }
        (tmp_path / "corpora" / f"{name}.yaml").write_text(yaml.safe_dump(described))

    return made


def test_slots_in_brackets_become_tags() -> None:
    found = annotated("wake me at [time : 5 am] [day: tomorrow], please", "alarm_set")

    assert found.text == "wake me at five a m tomorrow please"
    assert found.tags == ("O", "O", "O", "B-time", "I-time", "I-time", "B-day", "O")


def test_a_token_of_several_words_hands_its_slot_on_and_one_without_words_is_left_out() -> None:
    found = tagged(["-", "12-ounce", "isn't", "."], ["B-size", "I-size", "O", "O"], "order")

    assert found == Request(("twelve", "ounce", "is", "not"), "order", ("B-size", "I-size", "O", "O"))


def test_slots_of_tags_are_spans_also_without_a_beginning() -> None:
    tags = ["B-a", "I-a", "B-a", "O", "I-b", "I-a"]

    assert slots_of(["a", "b", "c", "d", "e", "f"], tags) == [
        ("a", 0, 2),
        ("a", 2, 3),
        ("b", 4, 5),
        ("a", 5, 6),
    ]


def test_a_table_a_json_and_json_lines_are_read(describe: Describe) -> None:
    describe("table", {"t.csv": 'scenario;intent;answer_annotation\nalarm;set;"at [time : noon]"\n'})
    describe("lines", {"l.jsonl": json.dumps({"intent": "play", "annotation": "play [song : x]"}) + "\n"})
    describe("pairs", {"p.json": json.dumps({"train": [["how are you", "chat"]], "test": []})}, "train")

    assert requests_of("table_train") == (Request(("at", "noon"), "alarm_set", ("O", "B-time")),)
    assert requests_of("lines_train") == (Request(("play", "x"), "play", ("O", "B-song")),)
    assert requests_of("pairs_train") == (Request(("how", "are", "you"), "chat", None),)


def test_a_table_without_its_columns_is_refused(describe: Describe) -> None:
    describe("table", {"t.csv": "answer\nnoon\n"})

    with pytest.raises(EdgeSpeechError, match=r"t\.csv: not the layout .* KeyError\('answer_annotation'\)"):
        requests_of("table_train")


def test_text_without_intents_and_speech_are_refused(describe: Describe) -> None:
    describe("plain", {"p.txt": "noon\n"})

    with pytest.raises(EdgeSpeechError, match="plain_train: layout"):
        requests_of("plain_train")
    with pytest.raises(EdgeSpeechError, match="assistant_mini: kind"):
        requests_of("assistant_mini")


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("split", "count", "intents"),
    [("atis_valid", 500, 16), ("snips_valid", 700, 7), ("hwu64_test", 1076, 64), ("clinc150_val", 3000, 150)],
)
def test_the_public_corpora_have_their_intents(split: str, count: int, intents: int) -> None:
    found = requests_of(split)

    assert len(found) == count
    assert len({one.intent for one in found}) == intents
    assert all(one.tags is None or len(one.tags) == len(one.words) for one in found)
