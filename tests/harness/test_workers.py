"""Real processes: a recogniser that hangs or dies costs one utterance, never the run."""

from pathlib import Path

import numpy as np
import pytest

from edgespeech.audio.io import write_audio
from edgespeech.contracts import SAMPLE_RATE, Request
from edgespeech.corpora.manifest import Utterance
from edgespeech.corpora.utterances import Spoken
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.workers import GIVE_UP_AFTER, Job, Worker, run_jobs
from scripted import Scripted, Troubled

SHORT_S, LONG_S = 0.5, 3.0


def job_of(path: Path, name: str, seconds: float) -> Job:
    item = Utterance(id=name, audio_filepath=path.name, duration=seconds, text="")
    return Job(spoken=Spoken(corpus="toy", item=item, audio=path), request=Request(utterance_id=name))


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    rng = np.random.default_rng(0)
    made = []
    for n, seconds in enumerate([SHORT_S, LONG_S, SHORT_S]):
        path = tmp_path / f"{n}.flac"
        write_audio(path, (0.1 * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32))
        made.append(job_of(path, f"u{n}", seconds))
    return made


@pytest.mark.parametrize(
    ("trouble", "failure"),
    [
        ("raises", "raised: ValueError: the model is broken"),
        ("dies", "died: exit code 7"),
        ("never finalises", "never finalised"),
    ],
)
def test_trouble_is_recorded_and_the_others_go_on(jobs: list[Job], trouble: str, failure: str) -> None:
    run = run_jobs(Troubled, {"trouble": trouble, "after_s": 1.0}, jobs)
    failures = [done.trace.failure for done in run.done]
    assert [done.trace.utterance_id for done in run.done] == ["u0", "u1", "u2"]
    if trouble == "never finalises":
        assert failures == [failure] * 3
    else:
        assert failures[0] is None
        assert failures[1] is not None
        assert failures[1].startswith(failure)
        assert failures[2] is None


def test_a_hang_is_recorded_and_the_others_go_on(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "timeout_s", property(lambda self: 3.0))
    run = run_jobs(Troubled, {"trouble": "hangs", "after_s": 1.0}, jobs)
    assert [done.trace.failure for done in run.done] == [None, "hung: no answer in 3 s", None]


def test_after_failures_in_a_row_the_rest_is_recorded_without_a_try(jobs: list[Job]) -> None:
    run = run_jobs(Troubled, {"trouble": "dies", "after_s": 1.0}, [jobs[1]] * (GIVE_UP_AFTER + 2))
    failures = [done.trace.failure or "" for done in run.done]
    assert [failure.split(":")[0] for failure in failures] == ["died"] * GIVE_UP_AFTER + ["not tried"] * 2


def test_a_recogniser_that_cannot_load_is_one_clear_error(jobs: list[Job]) -> None:
    with pytest.raises(
        EdgeSpeechError, match="troubled cannot be loaded: raised: RuntimeError: the weights are broken"
    ):
        run_jobs(Troubled, {"trouble": "cannot load"}, jobs)


def test_audio_that_cannot_be_read_is_recorded(jobs: list[Job], tmp_path: Path) -> None:
    run = run_jobs(Scripted, {}, [job_of(tmp_path / "none.flac", "x", 1.0), jobs[0]])
    assert "none.flac" in (run.done[0].trace.failure or "")
    assert run.done[1].trace.failure is None


def test_a_finished_run_knows_its_memory_and_pins_threads(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run = run_jobs(Scripted, {}, jobs)
    assert run.memory is not None
    assert run.memory.peak_bytes >= run.memory.baseline_bytes > 0
    assert run.loaded.info.name == "scripted"
    import os

    assert "OMP_NUM_THREADS" not in os.environ


def test_leaving_a_worker_ends_its_process(jobs: list[Job]) -> None:
    with Worker(Scripted, {}, threads=1) as worker:
        assert worker.run(jobs[0]).trace.failure is None
        process = worker._process
    assert process.exitcode is not None
