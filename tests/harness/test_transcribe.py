"""Plain transcription: what one file has wrong never keeps another from being heard."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from edgespeech.audio.io import write_audio
from edgespeech.cli import app
from edgespeech.cloud.whisper_backend import LANGUAGES
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.core.threads import THREAD_VARIABLES
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness import transcribe
from edgespeech.harness.discovery import find_recogniser
from edgespeech.harness.preflight import check_language
from edgespeech.harness.transcribe import STDIN, transcribe_files
from scripted import Scripted


class English(Scripted):
    """A recogniser of English that ignores phrases."""

    name = "english"
    languages = ("en",)
    takes_context = False


class Taking(Scripted):
    """A recogniser that has something to say of its phrases."""

    name = "taking"
    takes_context = True

    def context_remarks(self, context: Sequence[str], weights: Sequence[float] = ()) -> Sequence[str]:
        return (f"not used: {context} {weights}",)


@pytest.fixture(autouse=True)
def recogniser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcribe, "find_recogniser", lambda system, **options: English(final="hello"))


def sound(folder: Path, name: str = "a.wav") -> Path:
    write_audio(folder / name, np.full(SAMPLE_RATE, 0.1, np.float32))
    return folder / name


def results(*files: Path, **options: Any) -> list[tuple[str, str | None, tuple[str, ...]]]:
    found = transcribe_files(files, "english", {}, **options)
    return [(path.name, None if r.timeline is None else r.timeline.text, r.remarks) for path, r in found]


def test_bad_files_do_not_stop_the_others_and_duplicates_are_transcribed_twice(tmp_path: Path) -> None:
    good, gone = sound(tmp_path), tmp_path / "gone.wav"
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio in here")
    found = results(bad, good, gone, good)
    assert [(name, text) for name, text, _ in found] == [
        ("bad.wav", None),
        ("a.wav", "hello"),
        ("gone.wav", None),
        ("a.wav", "hello"),
    ]
    assert "could not be decoded" in found[0][2][0]
    assert "no such audio file" in found[2][2][0]


def test_stdin_is_transcribed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sound(tmp_path).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert results(STDIN) == [("-", "hello", ())]
    assert results(STDIN)[0][2] == ("stdin: is empty (0 bytes), expected audio",)


def test_another_language_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="--language: code is 'de', expected en, for english"):
        results(sound(tmp_path), language="de")


@pytest.mark.parametrize("code", ["", "english", "e", "e n", "x\n"])
def test_what_is_no_code_of_a_language_is_refused(code: str) -> None:
    with pytest.raises(EdgeSpeechError, match=r"--language: code is .*, expected a code such as en or pt-BR"):
        check_language(find_recogniser("null"), code, "--language", "code")


def test_languages_that_whisper_does_not_know_are_refused_before_anything_is_loaded() -> None:
    tokenizer = pytest.importorskip("faster_whisper.tokenizer")
    assert set(LANGUAGES.split()) == set(tokenizer._LANGUAGE_CODES) - {"yue"}  # which later models alone know
    for system in ("whisper-base-local", "cloud-whisper-base"):
        with pytest.raises(EdgeSpeechError, match="code is 'xx', expected one of its 99 languages"):
            check_language(find_recogniser(system), "xx", "--language", "code")


def test_phrases_that_would_be_ignored_are_refused(tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("latte\n")
    with pytest.raises(EdgeSpeechError, match="--context: recogniser is 'english', expected one that takes"):
        results(sound(tmp_path), context=str(phrases))


def test_what_of_a_list_is_not_used_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("latte\nlatte\n")
    monkeypatch.setattr(transcribe, "find_recogniser", lambda system: Taking(final="hello"))
    files = [sound(tmp_path)] * 2
    found = list(transcribe_files(files, "taking", {}, context=str(phrases)))
    assert [result.remarks for _, result in found] == [
        ("1 context phrases are in the list twice (line 2)", "not used: ('latte',) ()"),
        (),
    ]


def test_channels_are_averaged_or_chosen_and_cancelling_ones_are_reported(tmp_path: Path) -> None:
    path, wave = tmp_path / "st.flac", np.sin(np.arange(SAMPLE_RATE) / 9) / 2
    soundfile.write(path, np.stack([wave, -wave], axis=1), SAMPLE_RATE)
    ((_, text, remarks),) = results(path)
    assert text is None
    assert "cancel each other" in remarks[0]
    assert results(path, channels="1") == [("st.flac", "hello", ())]
    assert "channels is 2" in results(path, channels="mono")[0][2][0]


def test_a_stream_that_does_not_end_is_transcribed_with_a_remark(tmp_path: Path) -> None:
    path = sound(tmp_path, "a.opus")
    data = path.read_bytes()
    longer = tmp_path / "b.opus"
    write_audio(longer, np.full(5 * SAMPLE_RATE, 0.1, np.float32))
    cut = longer.read_bytes()
    longer.write_bytes(cut[: cut.rindex(b"OggS")])
    assert results(path)[0][2] == ()
    ((_, text, remarks),) = results(longer)
    assert text == "hello"
    assert "the stream does not end" in remarks[0]
    assert data[:4] == b"OggS"


def test_the_command_pins_threads_and_says_that_a_file_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "7")
    good, gone = sound(tmp_path), tmp_path / "gone.wav"
    done = CliRunner().invoke(app, ["transcribe", "--system", "english", str(gone), str(good)])
    assert done.exit_code == 1
    assert f"{good}\thello" in done.stdout
    assert f"edgespeech: {gone}: no such audio file" in done.stderr
    import os

    assert {os.environ[name] for name in THREAD_VARIABLES} == {"1"}


def test_a_closed_stdin_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for stdin, problem in (
        (None, "stdin: is closed, expected audio"),
        (_Broken(), "stdin: could not be read: "),
    ):
        monkeypatch.setattr("sys.stdin", stdin)
        ((_, result),) = transcribe_files([STDIN], "null", {})
        assert result.timeline is None
        assert result.remarks[0].startswith(problem)


class _Broken:
    """What is left of stdin where its descriptor is closed."""

    @property
    def buffer(self) -> _Broken:
        return self

    def read(self, n: int) -> bytes:
        raise OSError(errno.EBADF, "Bad file descriptor")
