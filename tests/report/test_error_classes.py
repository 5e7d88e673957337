"""Which errors dominate."""

from __future__ import annotations

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.records.records import Row
from edgespeech.report.error_classes import HEAD, classes_table, error_classes
from edgespeech.report.text import NONE

SAID = [
    ("play the song", "play a song"),
    ("play the tune", "play a tune"),
    ("stop", "stop stop"),
    ("next please", "next"),
    ("Louder!", "louder"),
]


def rows(speakers: bool = False) -> list[Row]:
    return [
        Row(id=f"u{n}", ref=ref, hyp_raw=hyp, duration_s=1.0, speaker=f"s{n % 2}" if speakers else None)
        for n, (ref, hyp) in enumerate(SAID)
    ]


def test_errors_are_counted_by_kind_and_words() -> None:
    found = error_classes(rows(), "basic", seed=0, top=5)
    assert (found["utterances"], found["words"], found["wer"], found["right"]) == (5, 10, 0.4, 0.2)
    assert (found["substitutions"], found["deletions"], found["insertions"]) == (2, 1, 1)
    assert found["most"] == {
        "substitutions": [["the", "a", 2]],
        "deletions": [["please", 1]],
        "insertions": [["stop", 1]],
    }
    assert found["low"] < 0.4 < found["high"]


def test_the_interval_is_over_speakers_where_there_are_any() -> None:
    by_utterance, by_speaker = (error_classes(rows(s), "basic", seed=0, top=1) for s in (False, True))
    assert (by_utterance["low"], by_utterance["high"]) != (by_speaker["low"], by_speaker["high"])


def test_the_table_leaves_single_errors_out() -> None:
    lines = classes_table({"toy": error_classes(rows(), "basic", seed=0, top=5)}).splitlines()
    assert lines[0] == f"| {' | '.join(HEAD)} |"
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:3] == ["toy", "5", "10"]
    assert cells[3].startswith("40.0 % [")
    assert cells[4:] == ["20.0 %", "2 / 1 / 1", "the → a (2)", NONE, NONE]


def test_one_utterance_has_no_interval() -> None:
    with pytest.raises(EdgeSpeechError):
        error_classes(rows()[:1], "basic", seed=0, top=1)
