"""Options of the command line: each once, and numbers that are some."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from edgespeech.cli import app, shared
from edgespeech.errors import EdgeSpeechError


def run(*words: str) -> None:
    typer.main.get_command(app).main(list(words), standalone_mode=False)


@pytest.mark.parametrize(
    "words",
    [
        ("transcribe", "--system", "null", "--system", "edge-packed", "a.wav"),
        ("evaluate", "--system", "null", "--manifest", "a", "--manifest", "b", "--out", "c"),
        ("lattice", "make", "a", "b", "--beam", "1", "--beam=2"),
        ("replicate", "--plan", "a", "--plan", "b"),
    ],
)
def test_an_option_twice_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(
        EdgeSpeechError, match=r"command line: --.* is 'given more than once', expected one value"
    ):
        run(*words)


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "--system", "null", "--manifest", "a", "--out", "c", "--snr"),
        ("lattice", "make", "a", "b", "--width"),
        ("demo", "--seconds"),
    ],
)
def test_a_number_that_is_none_is_refused(words: tuple[str, ...], number: str) -> None:
    with pytest.raises((EdgeSpeechError, typer.BadParameter, SystemExit)) as refused:
        run(*words, number)
    assert not isinstance(refused.value, EdgeSpeechError) or "a finite number" in str(refused.value)


def test_every_command_is_such_a_command() -> None:
    def check(command: object) -> int:
        if isinstance(command, typer.core.TyperGroup):
            return sum(check(one) for one in command.commands.values())
        assert isinstance(command, shared.PlainCommand)
        return 1

    assert check(typer.main.get_command(app)) > 20


def test_an_option_of_a_recogniser_twice_is_refused() -> None:
    assert shared.options_of(["a=1", "b=[2]"]) == {"a": 1, "b": [2]}
    with pytest.raises(EdgeSpeechError, match="--option is 'a=2', expected a once"):
        shared.options_of(["a=1", "a=2"])


def test_options_that_may_stand_twice_still_may(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from edgespeech.audio.io import write_audio

    write_audio(tmp_path / "a.wav", np.zeros(16_000, np.float32))
    (tmp_path / "m.jsonl").write_text(
        json.dumps({"audio_filepath": "a.wav", "duration": 1.0, "text": "hello"}) + "\n"
    )
    with pytest.raises(EdgeSpeechError, match="--by: field is 'nosuch'"):
        run("evaluate", "--system", "null", "--manifest", str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "out"),
            "--network", "wifi", "--network", "lte", "--by", "nosuch")  # fmt: skip
    assert not (tmp_path / "out").exists()
