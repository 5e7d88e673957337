"""Nothing that can be known before a run is found after it, and nothing that a run has finished is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgespeech.audio.io import write_audio
from edgespeech.contracts import SAMPLE_RATE, Kind, SystemInfo
from edgespeech.corpora.manifest import load_manifest
from edgespeech.errors import EdgeSpeechError, InterruptedRunError
from edgespeech.harness import evaluate
from edgespeech.harness.evaluate import Settings, evaluate_run
from edgespeech.harness.journal import SUFFIX
from edgespeech.harness.plan import Run
from edgespeech.harness.workers import GIVEN_UP, Job
from edgespeech.harness.workers import Run as JobsRun
from edgespeech.records.records import load_records, load_rows
from edgespeech.report.groups import groups_table
from scripted import answering

SETTINGS = Settings(
    seed=0, threads=1, cloud_speedup=10.0, networks=("wifi",), profile="full", concurrent_jobs=1
)
INFO = SystemInfo(
    name="null", kind=Kind.DEVICE, model_bytes=0, parameters=0, chunk_s=0.1, citation="none", config={"n": 1}
)


class Machine:
    """Stands for the processes: says what each utterance's id is, and stops or fails where it is told to."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.stop_at: str | None = None
        self.failing: Callable[[str], str | None] = lambda name: None
        self.info = INFO

    def run_jobs(self, factory: object, options: object, jobs: Sequence[Job], **more: Any) -> JobsRun:
        return answering(self._answer, self.info)(factory, options, jobs, **more)

    def _answer(self, job: Job) -> tuple[str, str | None]:
        name = job.request.utterance_id
        if name == self.stop_at:
            raise KeyboardInterrupt
        self.ran.append(name)
        return f"word {name}", self.failing(name)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(evaluate, "run_jobs", made.run_jobs)
    return made


def manifest(folder: Path, *changes: Mapping[str, Any], name: str = "m.jsonl") -> Path:
    """A manifest of a line for each of the changes, its audio of 1 s beside it."""
    folder.mkdir(exist_ok=True)
    write_audio(folder / "a.wav", np.zeros(SAMPLE_RATE, np.float32))
    lines = [
        {"id": f"u{n}", "audio_filepath": "a.wav", "duration": 1.0, "text": f"word u{n}", **change}
        for n, change in enumerate(changes)
    ]
    path = folder / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run_of(path: Path, **changes: Any) -> Run:
    fields = {"noise": None, "snr_db": None, "snr_rule": None, "context": None, "subset": None}
    return Run(**{"system": "null", "corpus": str(path), **fields, **changes})


FIVE: tuple[dict[str, Any], ...] = ({}, {}, {}, {}, {})


def test_an_interrupted_run_is_gone_on_with(tmp_path: Path, machine: Machine) -> None:
    path, out = manifest(tmp_path, *FIVE), tmp_path / "out"
    machine.stop_at = "u3"
    with pytest.raises(
        InterruptedRunError, match=rf"finished utterances are in .*{SUFFIX}: --resume continues"
    ):
        evaluate_run(run_of(path), SETTINGS, out=out)
    (kept,) = out.iterdir()
    assert len(kept.read_text().splitlines()) == 1 + 3
    machine.stop_at = None
    record, rows = evaluate_run(run_of(path), SETTINGS, out=out, resume=True)
    assert machine.ran == ["u0", "u1", "u2", "u3", "u4"]
    assert [row.hyp_raw for row in rows] == [f"word u{n}" for n in range(5)]
    assert record.accuracy["basic"].wer.value == 0
    assert "3 of 5 utterances are of an earlier process of this run" in record.corpus.notes[-1]
    (found,) = load_records(out)
    assert load_rows(out, found) == rows
    assert not list(out.glob(f"*{SUFFIX}"))


@pytest.mark.parametrize("cut", [1, 2, 20, 100, 400])
def test_a_run_killed_while_it_wrote_is_gone_on_with(tmp_path: Path, machine: Machine, cut: int) -> None:
    path, out = manifest(tmp_path, *FIVE), tmp_path / "out"
    machine.stop_at = "u4"
    with pytest.raises(InterruptedRunError):
        evaluate_run(run_of(path), SETTINGS, out=out)
    (kept,) = out.iterdir()
    kept.write_bytes(kept.read_bytes()[:-cut])
    machine.stop_at = None
    _, rows = evaluate_run(run_of(path), SETTINGS, out=out, resume=True)
    assert [row.hyp_raw for row in rows] == [f"word u{n}" for n in range(5)]
    assert sorted(set(machine.ran)) == [f"u{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("was", "edited"),
    [
        ('"word u1"', "5"),
        ("0.001", "NaN"),
        ("0.001", "-5"),
        ('"word u1"', '"word u9"'),
        ('"id":"u1"', '"id":"u0"'),
    ],
)
def test_a_line_that_was_edited_is_run_again(tmp_path: Path, machine: Machine, was: str, edited: str) -> None:
    path, out = manifest(tmp_path, *FIVE), tmp_path / "out"
    machine.stop_at = "u3"
    with pytest.raises(InterruptedRunError):
        evaluate_run(run_of(path), SETTINGS, out=out)
    (kept,) = out.iterdir()
    head, *lines = kept.read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace(was, edited)
    kept.write_text("".join([head, *lines]))
    machine.stop_at = None
    machine.ran.clear()
    _, rows = evaluate_run(run_of(path), SETTINGS, out=out, resume=True)
    assert [row.hyp_raw for row in rows] == [f"word u{n}" for n in range(5)]
    assert machine.ran == ["u1", "u2", "u3", "u4"]


def test_a_folder_of_the_name_of_a_journal_is_none(tmp_path: Path, machine: Machine) -> None:
    path, out = manifest(tmp_path, *FIVE), tmp_path / "out"
    machine.stop_at = "u3"
    with pytest.raises(InterruptedRunError):
        evaluate_run(run_of(path), SETTINGS, out=out)
    (kept,) = out.iterdir()
    kept.unlink()
    kept.mkdir()
    machine.stop_at = None
    assert len(evaluate_run(run_of(path), SETTINGS, out=out, resume=True)[1]) == 5


def test_equal_runs_have_a_journal_each_whatever_the_numbers_of_their_processes(
    tmp_path: Path, machine: Machine
) -> None:
    """Containers that share a folder number their processes alike."""
    path, out = manifest(tmp_path, *FIVE), tmp_path / "out"
    for count in (1, 2):
        machine.stop_at = "u3"
        with pytest.raises(InterruptedRunError):
            evaluate_run(run_of(path), SETTINGS, out=out)
        assert len(list(out.iterdir())) == count
    assert all(len(kept.read_text().splitlines()) == 1 + 3 for kept in out.iterdir())


def test_audio_that_is_exchanged_during_the_run_costs_its_utterance(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = manifest(tmp_path, *FIVE)
    given: list[Job] = []

    def run_jobs(factory: object, options: object, jobs: Sequence[Job], **more: Any) -> JobsRun:
        given.extend(jobs)
        return machine.run_jobs(factory, options, jobs, **more)

    monkeypatch.setattr(evaluate, "run_jobs", run_jobs)
    evaluate_run(run_of(path), SETTINGS)
    assert len(given[0].spoken.samples()) == SAMPLE_RATE
    write_audio(tmp_path / "a.wav", np.full(SAMPLE_RATE, 0.1, np.float32))
    with pytest.raises(EdgeSpeechError, match="it is another file"):
        given[0].spoken.samples()


def test_other_runs_are_not_gone_on_with(tmp_path: Path, machine: Machine) -> None:
    path, out = manifest(tmp_path, *FIVE), tmp_path / "out"
    machine.stop_at = "u2"
    with pytest.raises(InterruptedRunError):
        evaluate_run(run_of(path), SETTINGS, out=out)
    machine.stop_at, machine.ran = None, []
    evaluate_run(run_of(path, subset=4), SETTINGS, out=out, resume=True)
    assert len(machine.ran) == 4
    machine.info = SystemInfo(**{name: getattr(INFO, name) for name in INFO.__slots__} | {"config": {"n": 2}})
    with pytest.raises(EdgeSpeechError, match="made by another model or configuration"):
        evaluate_run(run_of(path), SETTINGS, out=out, resume=True)


def test_exchanged_audio_is_another_manifest(tmp_path: Path, machine: Machine) -> None:
    path, out = manifest(tmp_path, *FIVE), tmp_path / "out"
    machine.stop_at = "u3"
    with pytest.raises(InterruptedRunError):
        evaluate_run(run_of(path), SETTINGS, out=out)
    machine.stop_at, machine.ran = None, []
    first = load_manifest(path).identity()
    file = path.parent / "a.wav"
    write_audio(file, np.full(SAMPLE_RATE, 0.1, np.float32))
    record, _ = evaluate_run(run_of(path), SETTINGS, out=out, resume=True)
    assert machine.ran == ["u0", "u1", "u2", "u3", "u4"]
    assert record.corpus.manifest_sha256 == load_manifest(path).identity() != first


def test_two_equal_runs_of_one_second_both_land(tmp_path: Path, machine: Machine) -> None:
    path, out = manifest(tmp_path, *FIVE), tmp_path / "out"
    ids = {evaluate_run(run_of(path), SETTINGS, out=out)[0].run_id for _ in range(3)}
    assert len(ids) == len(load_records(out)) == 3


def test_a_run_in_which_nothing_worked_failed(tmp_path: Path, machine: Machine) -> None:
    path, out = manifest(tmp_path, *FIVE), tmp_path / "out"
    machine.failing = lambda name: "raised: /home/somebody/x is broken"
    record, rows = evaluate_run(run_of(path), SETTINGS, out=out)
    assert record.status == "failed"
    assert record.reason == "no utterance was recognised; the first: raised: x is broken"
    assert len(rows) == len(load_rows(out, load_records(out)[0])) == 5


def test_a_run_that_was_given_up_failed(tmp_path: Path, machine: Machine) -> None:
    path = manifest(tmp_path, *FIVE)
    machine.failing = lambda name: f"{GIVEN_UP}died" if name > "u2" else None
    record, _ = evaluate_run(run_of(path), SETTINGS)
    assert (record.status, record.reason) == ("failed", "2 utterances were not tried: died")


def test_a_failure_of_some_is_a_measurement(tmp_path: Path, machine: Machine) -> None:
    machine.failing = lambda name: "audio: bad" if name == "u1" else None
    record, _ = evaluate_run(run_of(manifest(tmp_path, *FIVE)), SETTINGS)
    assert (record.status, record.corpus.n_failed) == ("passed", 1)
    assert record.accuracy["basic"].wer.value == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"duration": 600.0}, "duration is 600.0, expected at most the 1.000 s that are there"),
        ({"duration": 1e6}, "duration is 1000000.0, expected at most"),
        ({"duration": 0.5}, "duration is 0.5, expected the file's 1.000 s, or an offset"),
        ({"offset": 0.0, "duration": 1.2}, "at most the 1.000 s that are there after the offset"),
        ({"offset": 5.0}, "offset is 5.0, expected less than the file's 1.000 s"),
        ({"sha256": "0" * 64}, "sha256 is .*, expected 0{64}: it is another file"),
        ({"text": ""}, "no reference word is left under basic"),
        ({"text": "um"}, "no reference word is left under whisper-en"),
        ({"text": "..."}, "no reference word is left"),
    ],
)
def test_what_the_manifest_says_wrongly_is_found_before_the_run(
    tmp_path: Path, machine: Machine, change: dict[str, Any], message: str
) -> None:
    path, out = manifest(tmp_path / "in", change), tmp_path / "out"
    with pytest.raises(EdgeSpeechError, match=message):
        evaluate_run(run_of(path), SETTINGS, out=out)
    assert machine.ran == []
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize("lang", ["de", "en-US", "EN", "eng", "xx"])
def test_a_language_that_the_recogniser_does_not_know_is_found_before_the_run(
    tmp_path: Path, machine: Machine, lang: str
) -> None:
    path = manifest(tmp_path, {}, {"lang": lang})
    with pytest.raises(EdgeSpeechError, match=f"m: u1: lang is '{lang}', expected en, for edge-packed"):
        evaluate_run(run_of(path, system="edge-packed"), SETTINGS)
    assert machine.ran == []


def test_phrases_that_would_be_ignored_are_refused(tmp_path: Path, machine: Machine) -> None:
    path = manifest(tmp_path, {})
    with pytest.raises(EdgeSpeechError, match="--context: recogniser is 'null', expected one that takes"):
        evaluate_run(run_of(path, context="coffee"), SETTINGS)
    assert machine.ran == []


def test_phrases_that_are_not_used_are_counted_in_the_record(tmp_path: Path, machine: Machine) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("latte\n東京\nlatte\n", encoding="utf-8")
    run = run_of(manifest(tmp_path, {}), system="edge-packed", context=str(phrases))
    record, _ = evaluate_run(run, SETTINGS)
    assert record.corpus.notes == (
        "1 context phrases are in the list twice (line 3)",
        "1 of 2 context phrases are not used (no spelling in letters from a to z): '東京'",
    )
    assert machine.ran


def test_a_list_out_of_its_limits_is_found_before_the_run(tmp_path: Path, machine: Machine) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("\n".join(f"name {n}" for n in range(2001)))
    run = run_of(manifest(tmp_path, {}), system="cloud-whisper-base", context=str(phrases))
    with pytest.raises(EdgeSpeechError, match="number of context phrases is 2001, expected at most 2000"):
        evaluate_run(run, SETTINGS)
    assert machine.ran == []


@pytest.mark.parametrize("snr_db", [float("nan"), float("inf"), 1e9, -1e3])
def test_a_ratio_that_is_none_is_refused(tmp_path: Path, machine: Machine, snr_db: float) -> None:
    run = run_of(manifest(tmp_path, {}), noise="kitchen", snr_db=snr_db, snr_rule="mean")
    with pytest.raises(EdgeSpeechError, match="--snr: ratio is"):
        evaluate_run(run, SETTINGS)


def a_file(folder: Path) -> Path:
    (folder / "out").write_text("a file")
    return folder / "out"


def no_folder(folder: Path) -> Path:
    return Path("/proc/nope")


def below_a_file(folder: Path) -> Path:
    return a_file(folder) / "deeper"


def a_long_name(folder: Path) -> Path:
    return folder / ("x" * 300)


@pytest.mark.parametrize("made", [a_file, no_folder, below_a_file, a_long_name])
def test_a_folder_that_cannot_be_written_is_found_before_the_run(
    tmp_path: Path, machine: Machine, made: Callable[[Path], Path]
) -> None:
    path = manifest(tmp_path, {})
    with pytest.raises(EdgeSpeechError, match=r"--out .*cannot be written to"):
        evaluate_run(run_of(path), SETTINGS, out=made(tmp_path))
    assert machine.ran == []


def test_a_name_that_is_too_long_is_found_before_the_run(tmp_path: Path, machine: Machine) -> None:
    path = manifest(tmp_path, {}, name="m" * 230 + ".jsonl")
    with pytest.raises(EdgeSpeechError, match=r"--out: file name is .*expected at most"):
        evaluate_run(run_of(path), SETTINGS, out=tmp_path / "out")
    assert machine.ran == []


def test_a_folder_without_space_is_found_before_the_run(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("edgespeech.harness.preflight.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(EdgeSpeechError, match=r"free bytes of .* is 1000, expected about"):
        evaluate_run(run_of(manifest(tmp_path, {})), SETTINGS, out=tmp_path / "out")


def test_a_record_that_cannot_be_written_keeps_what_was_run(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = manifest(tmp_path, *FIVE), tmp_path / "out"

    def full(*_: object) -> None:
        raise EdgeSpeechError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "write_record", full)
        with pytest.raises(
            EdgeSpeechError, match=r"no space left; finished utterances are in .*--resume continues"
        ):
            evaluate_run(run_of(path), SETTINGS, out=out)
    machine.ran = []
    _, rows = evaluate_run(run_of(path), SETTINGS, out=out, resume=True)
    assert (machine.ran, len(rows)) == ([], 5)


def test_a_manifest_s_fields_are_in_the_rows_and_group_them(tmp_path: Path, machine: Machine) -> None:
    lines = (
        {"kind": "wake", "gender": "f", "pred_text": "x", "source": "/home/somebody/a.wav"},
        {"kind": "not_wake", "host": "me", "nested": {"path": "/srv/data/x"}},
        {"text": "other words"},
    )
    record, rows = evaluate_run(run_of(manifest(tmp_path, *lines)), SETTINGS, out=tmp_path / "out")
    assert rows[0].fields == {"kind": "wake", "gender": "f", "pred_text": "x", "source": "a.wav"}
    assert rows[1].fields == {"kind": "not_wake", "nested": {"path": "x"}}
    assert load_rows(tmp_path / "out", load_records(tmp_path / "out")[0]) == rows
    table = groups_table(rows, "kind")
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "(none)",
        "not_wake",
        "wake",
        "all",
    ]
    assert "150.0 %" in table.splitlines()[2]
    with pytest.raises(
        EdgeSpeechError, match="--by: field is 'nosuch', expected one of gender, kind, nested"
    ):
        groups_table(rows, "nosuch")
    assert record.status == "passed"


def test_stereo_is_asked_for(tmp_path: Path, machine: Machine) -> None:
    settings = Settings(
        **{name: getattr(SETTINGS, name) for name in SETTINGS.__slots__} | {"channels": "left"}
    )
    with pytest.raises(EdgeSpeechError, match="channels is 'left', expected mono, average"):
        evaluate_run(run_of(manifest(tmp_path, {})), settings)
