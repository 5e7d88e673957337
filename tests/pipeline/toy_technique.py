"""A technique with two arms and two seeds, as a folder of `replication/` has it; a node of a cluster dies in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgespeech.core.files import write_atomic
from edgespeech.core.places import project_root, work_dir
from edgespeech.core.yaml_files import load_yaml
from edgespeech.harness.checks import Page, Row, parser
from edgespeech.report.page import run
from edgespeech.steps.step import Step
from edgespeech.steps.store import Job, folder_of

HERE = Path(__file__).parent
STEPS = 8
DEADLY = 4
"""After so many steps the first arm that runs on node `a` waits to be killed."""


def value(factor: int, seed: int, steps: int = STEPS) -> int:
    """What an arm comes to."""
    found = seed
    for _ in range(steps):
        found = (found * factor + 1) % 10_007
    return found


def count_step(factor: int, seed: int) -> Step:
    return Step(
        rule="count",
        name=f"times_{factor}_seed{seed}",
        function=f"{__name__}:count",
        given={"factor": factor, "seed": seed},
        code=(__name__,),
    )


def count(job: Job) -> list[Path]:
    state, log, waits = job.folder / "state", work_dir() / "log.txt", work_dir() / "waits"
    at = int(state.read_text()) if state.exists() else 0
    node = os.environ.get("NODE", "here")
    while at < STEPS:
        at += 1
        write_atomic(state, str(at))
        with log.open("a") as file:
            file.write(f"{job.name} {at} {node}\n")
        if node == "a" and at == DEADLY and not waits.exists():
            waits.touch()
            time.sleep(600)
    (job.folder / "value").write_text(str(value(job.given["factor"], job.given["seed"], at)))
    return [job.folder / "value"]


def all_steps(config: dict[str, Any]) -> list[Step]:
    return [count_step(factor, seed) for factor in config["factors"] for seed in config["seeds"]]


def steps(profile: str, only: str) -> list[Step]:
    del profile, only
    return all_steps(load_yaml(HERE / "config.yaml"))


def values(config: dict[str, Any], seed: int) -> Iterator[Row]:
    del seed
    for step in all_steps(config):
        found = int((folder_of(step) / "value").read_text())
        yield {"claim": "toy.value", "detail": step.name, "measured": found, "n": 1}


PAGE = Page(folder=HERE, records=project_root() / "results" / "toy", checks=(values,), steps=steps)


def main(words: Sequence[str] | None = None) -> None:
    parser(__doc__).parse_args(words)
    run(PAGE, render_only=True)
