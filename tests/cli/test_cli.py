"""The command line, as a user types it, with its exit status and its messages."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from edgespeech import cli
from edgespeech.audio.io import write_audio
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.records.records import load_records, load_rows
from stranger import make_package


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    package = tmp_path / "package"
    package.mkdir()
    return {**os.environ, "EDGESPEECH_MIRROR": "", "PYTHONPATH": str(make_package(package))}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    lines = []
    for n, text in enumerate(["hello world", "hello word"]):
        write_audio(tmp_path / f"{n}.wav", np.full(SAMPLE_RATE, 0.01 * (n + 1), np.float32))
        lines.append(json.dumps({"id": f"u{n}", "audio_filepath": f"{n}.wav", "duration": 1.0, "text": text}))
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass(frozen=True)
class Done:
    """What a command left."""

    returncode: object
    stdout: str
    stderr: str


def edgespeech(environment: dict[str, str], *words: str) -> Done:
    """Run a command as `edgespeech` does, but in this process, whose imports are done."""
    out, err, status = io.StringIO(), io.StringIO(), None
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", ["edgespeech", *words]),
        mock.patch.object(sys, "path", [environment["PYTHONPATH"], *sys.path]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code
    return Done(status or 0, out.getvalue(), err.getvalue())


def evaluate(environment: dict[str, str], manifest: Path | str, out: Path, *words: str) -> Done:
    return edgespeech(
        environment,
        "evaluate",
        "--system",
        "stranger",
        "--manifest",
        str(manifest),
        "--out",
        str(out),
        *words,
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, edgespeech.cli; heavy = {'numpy', 'torch', 'pydantic', 'soundfile', 'matplotlib', 'jiwer'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_strangers_recogniser_is_listed(environment: dict[str, str]) -> None:
    listing = edgespeech(environment, "systems").stdout
    assert "stranger                 device  always says hello world" in listing
    assert "pocketsphinx" in listing


def test_evaluate_writes_one_record_with_its_hypotheses(
    environment: dict[str, str], manifest: Path, tmp_path: Path
) -> None:
    done = evaluate(environment, manifest, tmp_path / "out", "--network", "wifi")
    assert done.returncode == 0, done.stderr
    assert "WER 25.0" in done.stdout
    (record_file,) = (tmp_path / "out").glob("*.json")
    record = json.loads(record_file.read_text())
    assert record["status"] == "passed"
    assert record["accuracy"]["basic"]["wer"]["value"] == 0.25
    assert list(record["networks"]) == ["wifi"]
    rows = [
        json.loads(line) for line in (tmp_path / "out" / record["utterances_file"]).read_text().splitlines()
    ]
    assert [(row["id"], row["ref"], row["hyp_raw"]) for row in rows] == [
        ("u0", "hello world", "hello world"),
        ("u1", "hello word", "hello world"),
    ]


def test_evaluate_records_the_band(environment: dict[str, str], manifest: Path, tmp_path: Path) -> None:
    done = evaluate(environment, manifest, tmp_path / "out", "--network", "wifi", "--band", "telephone")
    assert done.returncode == 0, done.stderr
    assert "telephone" in done.stdout
    (record_file,) = (tmp_path / "out").glob("*.json")
    assert json.loads(record_file.read_text())["condition"]["band"] == "telephone"


def test_two_runs_of_one_seed_pick_the_same_utterances(
    environment: dict[str, str], manifest: Path, tmp_path: Path
) -> None:
    picked = []
    for n in range(2):
        assert evaluate(environment, manifest, tmp_path / f"out{n}", "--limit", "1").returncode == 0
        (rows,) = (tmp_path / f"out{n}").glob("*.hyps.jsonl")
        picked.append(json.loads(rows.read_text())["id"])
    assert picked[0] == picked[1]


def test_compare_takes_records_of_the_same_data_alone(
    environment: dict[str, str], manifest: Path, tmp_path: Path
) -> None:
    assert evaluate(environment, manifest, tmp_path / "a").returncode == 0
    manifest.write_text(manifest.read_text().replace("hello word", "hello you"))
    assert evaluate(environment, manifest, tmp_path / "b").returncode == 0
    one, other = [str(next((tmp_path / name).glob("*.json"))) for name in "ab"]
    same = edgespeech(environment, "compare", one, one)
    assert same.returncode == 0, same.stderr
    assert "tie" in same.stdout
    refused = edgespeech(environment, "compare", one, other)
    assert refused.returncode == 2
    assert "manifest" in refused.stderr


def test_transcribe_prints_text_or_json(environment: dict[str, str], manifest: Path, tmp_path: Path) -> None:
    audio = str(tmp_path / "0.wav")
    done = edgespeech(environment, "transcribe", audio, "--system", "stranger")
    assert done.stdout == f"{audio}\thello world\n"
    done = edgespeech(environment, "transcribe", audio, "--system", "stranger", "--json")
    assert json.loads(done.stdout)["text"] == "hello world"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--network", "pigeon"], "--network: name is 'pigeon', expected one of"),
        (["--noise", "kitchen"], "--noise and --snr come together"),
        (["--option", "delay"], "--option is 'delay', expected NAME=VALUE"),
        (["--option", "colour=1"], "--option for stranger: "),
        (["--option", os.fsdecode(b"delay=\xff")], "--option is 'delay=\\udcff', expected whole characters"),
        (["--option", 'delay="\\ud800"'], "expected whole characters"),
        (["--by", "colour"], "--by: field is 'colour', expected one of (the manifest has none)"),
        (["--context", "nowhere"], "--context: list is 'nowhere'"),
        (["--context", "manifest"], "utterance u0 has no context"),
        (
            ["--grammar", "coffee"],
            "--grammar is 'coffee', expected none, since no utterance of mine has an intent",
        ),
    ],
)
def test_mistakes_are_one_clear_line(
    environment: dict[str, str], manifest: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    done = evaluate(environment, manifest, tmp_path / "out", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


def test_a_system_that_does_not_exist(environment: dict[str, str], manifest: Path, tmp_path: Path) -> None:
    done = edgespeech(
        environment,
        "evaluate",
        "--system",
        "nobody",
        "--manifest",
        str(manifest),
        "--out",
        str(tmp_path / "out"),
    )
    assert done.returncode == 2
    assert "--system: name is 'nobody', expected one of" in done.stderr


def test_a_manifest_with_intents_needs_a_grammar(
    environment: dict[str, str], manifest: Path, tmp_path: Path
) -> None:
    line = json.loads(manifest.read_text().splitlines()[0])
    manifest.write_text(json.dumps({**line, "intent": "greet", "slots": {}}) + "\n")
    done = evaluate(environment, manifest, tmp_path / "out")
    assert done.returncode == 2
    assert "--grammar" in done.stderr


def test_bad_manifests_name_file_and_line(
    environment: dict[str, str], manifest: Path, tmp_path: Path
) -> None:
    manifest.write_text(manifest.read_text() + "{not json\n")
    done = evaluate(environment, manifest, tmp_path / "out")
    assert done.returncode == 2
    assert "mine.jsonl:3" in done.stderr


def test_verbose_says_on_stderr_what_is_read(tmp_path: Path) -> None:
    """In a process of its own, since logging is set up once in a process."""
    command = [sys.executable, "-m", "edgespeech.cli", "-v", "fetch", "assistant_mini"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "used where it is" in " ".join(told.stderr.split())
    assert "INFO" not in told.stdout
    quiet = subprocess.run([*command[:3], *command[4:]], capture_output=True, text=True, check=True)
    assert quiet.stderr == ""
    assert quiet.stdout == told.stdout


def test_the_demo_plays_a_recording_and_opens_nothing_unless_it_may() -> None:
    command = [sys.executable, "-m", "edgespeech.cli", "demo", "--seconds", "1", "--no-page"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "MB on disk. Recordings of assistant_mini" in " ".join(done.stdout.split())
    assert "words wrong" in done.stdout
    assert "All results" not in done.stdout
    assert edgespeech({"PYTHONPATH": ""}, "demo", "--seconds", "0", "--no-page").returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "edgespeech.cli", "--help"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 2
    assert ended.stderr == "edgespeech: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_change_nothing(
    environment: dict[str, str], manifest: Path, tmp_path: Path, closed: str
) -> None:
    """Else the next files that are opened get their numbers, and what is meant for a terminal is written into them."""
    words = ["evaluate", "--system", "stranger", "--manifest", str(manifest), "--out", str(tmp_path / "out")]
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "edgespeech.cli", *words]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    (record,) = load_records(tmp_path / "out")
    assert record.status == "passed"
    assert len(load_rows(tmp_path / "out", record)) == 2
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.EROFS, "Read-only file system", "/srv/w"),
            "edgespeech: /srv/w: Read-only file system\n",
        ),
        (RuntimeError("Symlink loop from 'a'"), "edgespeech: Symlink loop from 'a'\n"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        raise error

    monkeypatch.setattr(cli, "app", refused)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == line


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty() -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(cli, "app", faulty)
    with pytest.raises(RuntimeError, match="a fault"):
        cli.main()
