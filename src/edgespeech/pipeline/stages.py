"""One step of a described pipeline, as a command: `python -m edgespeech.pipeline.stages DESCRIPTION STEP`.

A node of a cluster needs the checkout, the environment and the pipeline's folder, and nothing of the shell that the
pipeline was started from: the description holds what counts of that. A step that fails leaves its message and what is
in its folder, from which it goes on. There is a process for each step, so what it needs is imported inside.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgespeech.errors import EdgeSpeechError


def main(arguments: Sequence[str]) -> int:
    """Run one step; a mistake in what was given is one line on standard error and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m edgespeech.pipeline.stages")
    parser.add_argument("description", type=Path)
    parser.add_argument("step")
    parser.add_argument("--processes", type=int, help="in place of those that the step asks for")
    parser.add_argument("--gpus", type=int, help="the same for GPUs")
    given = parser.parse_args(arguments)
    description = json.loads(given.description.read_text(encoding="utf-8"))
    os.environ.update(description["environment"])
    if Path(description["made"], f"{given.step}.json").is_file():
        return 0  # by the step that it needed, which was not to be had
    try:
        _run(description, given.step, given.processes, given.gpus)
    except EdgeSpeechError as error:
        print(f"{given.step}: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


def _run(description: Mapping[str, Any], name: str, processes: int | None, gpus: int | None) -> None:
    """Run a step, and if it is skipped those that only write that down."""
    from edgespeech.harness.plan import measuring_code_sha256
    from edgespeech.pipeline.replicate import make_importable
    from edgespeech.steps.step import Task
    from edgespeech.steps.store import outcome_of, run

    if (found := measuring_code_sha256()) != description["code"]:
        raise EdgeSpeechError(
            f"{Path(__file__).parents[1]}: another code (sha256 {found}) than that which the pipeline was planned with "
            f"({description['code']}): start the pipeline again, and with the same checkout on every node"
        )
    make_importable()
    tasks = {id_: Task.from_json(values) for id_, values in description["tasks"].items()}
    task = tasks[name]
    asked = task.resources
    resources = replace(
        asked,
        processes=asked.processes if processes is None else processes,
        gpus=asked.gpus if gpus is None else gpus,
    )
    outcome = run(replace(task, resources=resources), description["jobs"])
    if outcome.skipped is None:
        return
    print(f"{task.rule} {task.name}: not to be had here: {outcome.skipped.splitlines()[0]}", flush=True)
    for other in tasks.values():
        needs = other.needs.values()
        if other.notes and name in needs and all(one not in tasks or outcome_of(tasks[one]) for one in needs):
            run(other, description["jobs"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
