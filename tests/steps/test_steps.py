"""Steps: what their keys depend on, what is finished, and who goes on with what."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.steps import step as module
from edgespeech.steps.step import Resources, Step, Task, code_sha256, everything
from edgespeech.steps.store import (
    Job,
    Made,
    SkippedError,
    folder_of,
    is_made,
    make,
    outcome_of,
    run,
    steps_dir,
)

HERE = __name__
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    monkeypatch.delenv("EDGESPEECH_PIPELINE", raising=False)
    CALLS.clear()


def write(job: Job) -> list[Path]:
    """Write what is given, and what the steps before wrote."""
    CALLS.append(job.name)
    before = [(folder / "out.txt").read_text() for folder in job.folders.values()]
    (job.folder / "out.txt").write_text("".join([*before, job.given["text"]]))
    return [job.folder / "out.txt"]


def cannot(job: Job) -> list[Path]:
    CALLS.append(job.name)
    raise SkippedError("the moon is not here\nTried: much")


def fails(job: Job) -> list[Path]:
    (job.folder / "half.txt").write_text("half")
    raise EdgeSpeechError("broken")


def slow(job: Job) -> Made:
    time.sleep(0.3)
    with (job.folder / "log").open("a") as log:
        log.write("x")
    return Made([job.folder / "log"], {"pid": os.getpid()})


def a_step(text: str = "a", **changes: object) -> Step:
    plain: dict[str, object] = {
        "rule": "write",
        "name": text,
        "function": f"{HERE}:write",
        "given": {"text": text},
    }
    return Step(**(plain | changes))  # type: ignore[arg-type]  # tests change single fields


def test_a_step_is_made_once_and_its_file_is_watched() -> None:
    first = a_step("a")
    last = a_step("b", needs=(first,))
    assert not is_made(last)
    make(last)
    assert (folder_of(last) / "out.txt").read_text() == "ab"
    assert CALLS == ["a", "b"]
    make(last)
    assert CALLS == ["a", "b"]
    (folder_of(last) / "out.txt").write_text("else")
    assert outcome_of(last) is None
    make(last)
    assert CALLS == ["a", "b", "b"]
    (folder_of(last) / "out.txt").unlink()
    assert not is_made(last)
    assert is_made(first)


def test_what_a_key_depends_on(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("1")
    base = a_step(inputs=(file,))
    others = [
        a_step(inputs=(file,), given={"text": "other"}),
        a_step(inputs=(file,), function=f"{HERE}:slow"),
        a_step(inputs=(file,), rule="other"),
        a_step(inputs=(file,), needs=(a_step("z"),)),
        a_step(inputs=(file,), code=("edgespeech.errors",)),
        a_step(inputs=(file, tmp_path / "missing")),
    ]
    assert len({base.key, *(one.key for one in others)}) == 7
    assert a_step(inputs=(file,), resources=Resources(processes=8, gpus=2)).key == base.key
    assert a_step(inputs=(file,), name="another name").key == base.key
    file.write_text("2")
    assert a_step(inputs=(file,)).key != base.key


def test_code_counts_as_far_as_it_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "edgespeech"
    for room, text in (
        ("training", "from edgespeech.core import files\nx = 1\n"),
        ("core", "y = 2\n"),
        ("packed", "import edgespeech.engine.native\nx = 3\n"),
    ):
        (package / room).mkdir(parents=True)
        (package / room / ("files.py" if room == "core" else "loop.py")).write_text(text)
    (package / "engine").mkdir()
    (package / "engine" / "native.py").write_text("z = 1\n")
    (package / "engine" / "kernel.cpp").write_text("int a;\n")
    monkeypatch.setattr(module, "PACKAGE", package)
    monkeypatch.setattr(module, "_file_of", lambda name: package / (name.replace(".", "/") + ".py"))

    def hashes() -> tuple[str, str, str]:
        code_sha256.cache_clear()
        return (
            code_sha256(("training.loop",)),
            code_sha256(("training.loop",), ("core",)),
            code_sha256(("packed.loop",)),
        )

    before = hashes()
    (package / "engine" / "kernel.cpp").write_text(
        "int b;\n"
    )  # what packs depends on the kernel, training does not
    kernel = hashes()
    assert (kernel[0], kernel[1]) == (before[0], before[1])
    assert kernel[2] != before[2]
    (package / "core" / "files.py").write_text("y = 3\n")
    core = hashes()
    assert core[0] != kernel[0]
    assert (core[1], core[2]) == (kernel[1], kernel[2])
    (package / "core" / "files.py").write_text("# a comment\ny = 3\n")
    assert hashes() == core
    code_sha256.cache_clear()


def test_what_cannot_be_made_is_tried_again_and_what_needs_it_waits() -> None:
    moon = a_step("moon", function=f"{HERE}:cannot")
    strict, anyway = (
        a_step("s", needs=(moon,)),
        a_step("t", function=f"{HERE}:cannot", needs=(moon,), anyway=True),
    )
    assert make(strict).skipped == "the moon is not here\nTried: much"
    assert CALLS == ["moon"]
    assert not is_made(moon)
    make(anyway)
    assert CALLS == ["moon", "moon", "t"]


def test_a_failure_leaves_its_folder_and_is_not_finished() -> None:
    step = a_step("f", function=f"{HERE}:fails")
    with pytest.raises(EdgeSpeechError, match="broken"):
        make(step)
    assert outcome_of(step) is None
    assert (folder_of(step) / "half.txt").is_file()


def test_a_task_is_json_and_needs_what_is_finished() -> None:
    first = a_step("a", resources=Resources(processes=3, memory_mb=100))
    last = a_step("b", needs=(first,), anyway=True, here=True)
    task = Task.from_json(json.loads(json.dumps(last.task().to_json())))
    assert task == last.task()
    assert task.needs == {"write/a": first.id}
    with pytest.raises(EdgeSpeechError, match="write/a is not finished"):
        run(task)
    run(first.task())
    assert run(task).files.keys() == {"own/out.txt"}


def test_one_step_at_a_time() -> None:
    task = a_step("once", function=f"{HERE}:slow").task()
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        found = pool.map(run, [task, task])
    assert found[0].about == found[1].about
    assert (steps_dir() / "made" / task.id / "log").read_text() == "x"


def test_two_steps_of_one_name_are_refused() -> None:
    one = a_step("a")
    assert everything([a_step("b", needs=(one,)), one])[0] is one
    with pytest.raises(EdgeSpeechError, match="write is 'a', expected a name that no other step"):
        everything([one, a_step("a", given={"text": "else"})])


def test_wrong_steps_and_resources_are_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="rule is 'No rule'"):
        a_step(rule="No rule")
    with pytest.raises(EdgeSpeechError, match="module:function"):
        a_step(function="nothing")
    with pytest.raises(EdgeSpeechError, match=r"code is 'edgespeech\.nothing'"):
        _ = a_step(code=("edgespeech.nothing",)).key
    with pytest.raises(EdgeSpeechError, match=r"function is 'edgespeech\.errors:nothing'"):
        make(a_step(function="edgespeech.errors:nothing"))
    for values, message in (
        ({"gpu": 1}, "x.yaml: resources is 'gpu', expected one of alone, gpus"),
        ({"gpus": -1}, "gpus is -1, expected a whole number of at least 0"),
        ({"processes": 1.5}, "processes is 1.5"),
        ([1], "expected a mapping"),
    ):
        with pytest.raises(EdgeSpeechError, match=message):
            Resources.from_mapping(values, "x.yaml")  # type: ignore[arg-type]  # what a file may hold
    assert Resources.from_mapping({"processes": 2}, "x.yaml") == replace(Resources(), processes=2)
