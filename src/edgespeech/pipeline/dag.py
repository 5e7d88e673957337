"""What of a pipeline has to be made, decided here and nowhere else, and Snakemake to make it.

Snakemake gets the steps that are not finished (`edgespeech.steps.store`), runs them in order, as many at once as there
may be, here or on a cluster, and runs one again whose node died. A pipeline that was stopped, however, is planned again
and goes on with what is left; a step that was stopped goes on from the checkpoint in its folder, if it has one.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespeech.core.extras import need
from edgespeech.core.files import write_atomic
from edgespeech.core.locks import locked
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.plan import measuring_code_sha256
from edgespeech.records.records import sha256_json
from edgespeech.steps.step import Step, everything
from edgespeech.steps.store import MADE, VARIABLE, forget, outcome_of, steps_dir

_log = logging.getLogger(__name__)

SNAKEFILE = Path(__file__).parent / "Snakefile"
DONE = "done"
"""Folder of the markers that Snakemake sees."""
LOCAL = "local"
RETRIES = 2
"""How often a step is begun again on a cluster, where nodes die."""
_SECRET = {"EDGESPEECH_TOKEN"}
_MEMORY_MB = 4000
_MINUTES = 24 * 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Where a pipeline's steps run.

    Attributes:
        jobs: steps at once; on this machine each step counts as many as it has threads.
        executor: Snakemake's name of an executor (`slurm`, `kubernetes`, ...), or `local`.
        profile: a folder with Snakemake settings (`config.yaml`), which may name the executor.
        gpus: of every training step, in place of its own number.
    """

    jobs: int = 2
    executor: str = LOCAL
    profile: Path | None = None
    gpus: int | None = None

    def __post_init__(self) -> None:
        if self.profile is not None and not (self.profile / "config.yaml").is_file():
            raise bad(
                "replicate", "--cluster", str(self.profile), "a folder with a config.yaml for Snakemake"
            )

    @property
    def local(self) -> bool:
        """Whether all steps run on this machine."""
        return self.executor == LOCAL and self.profile is None


def to_make(targets: Iterable[Step], again: Sequence[str] = ()) -> list[Step]:
    """The steps that have to be made, what is needed first.

    A step is made if it is not finished, or was skipped, or went without something that it needs and that may be there
    now. What a finished step needs is not looked at.

    Args:
        targets: what is wanted.
        again: rules whose steps are made in any case.
    """
    wanted: dict[str, Step] = {}

    def missing(step: Step) -> bool:
        found = outcome_of(step)
        if found is None or found.skipped is not None or step.rule in again:
            return True
        outcomes = [outcome_of(one) for one in step.needs] if step.anyway else []
        return any(one is not None and one.skipped is not None for one in outcomes)

    def visit(step: Step) -> None:
        if step.id in wanted or not missing(step):
            return
        for one in step.needs:
            visit(one)
        wanted[step.id] = step

    targets = list(targets)
    everything(targets)  # refuses two steps of one name
    for target in targets:
        visit(target)
    return list(wanted.values())


def run_dag(targets: Sequence[Step], where: Where, again: Sequence[str] = ()) -> list[Step]:
    """Make what is not finished of some steps and of all that they need.

    Args:
        targets: what is wanted.
        where: the steps run.
        again: rules whose steps are made in any case.

    Returns:
        The steps that were made.

    Raises:
        EdgeSpeechError: a step failed, having said why; all that does not need it is made. Or another pipeline runs in
            the folder.
    """
    folder = steps_dir()
    with _alone(folder):
        steps = to_make(targets, again)
        if not steps:
            return []
        need("snakemake", "pipeline")
        for step in steps:
            forget(step)
            (folder / DONE / step.id).unlink(missing_ok=True)
        description = _describe(steps, targets, where)
        path = folder / f"dag-{sha256_json(sorted(description['tasks']))[:16]}.json"
        write_atomic(path, json.dumps(description, indent=1))
        _log.info("%d steps in %s", len(steps), folder)
        # Snakemake has a cache in the home folder; have that in the pipeline's folder too.
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
        code = subprocess.run(_command(folder, path, where), env=environment, check=False).returncode
        left = [step for step in steps if outcome_of(step) is None]
        if left or code != 0:
            raise EdgeSpeechError(
                f"the pipeline stopped with {len(left)} of {len(steps)} steps not made"
                f"{''.join(f', {one.rule} {one.name}' for one in left[:3])}{', ...' if len(left) > 3 else ''}; their "
                f"messages are above, Snakemake's log is in {folder}/.snakemake/log; the same command goes on"
            )
    return steps


def _describe(steps: Sequence[Step], targets: Sequence[Step], where: Where) -> dict[str, Any]:
    """All that Snakemake and a node of a cluster have to know."""
    ids = {step.id for step in steps}
    environment = {name: value for name, value in os.environ.items() if name.startswith("EDGESPEECH_")}
    return {
        "tasks": {step.id: step.task().to_json() for step in steps},
        "targets": sorted({target.id for target in targets} & ids),
        "environment": {name: environment[name] for name in environment.keys() - _SECRET}
        | {VARIABLE: str(steps_dir())},
        "made": str(steps_dir() / MADE),
        "code": measuring_code_sha256(),
        "jobs": where.jobs,
        "local": where.local,
        "memory_mb": _MEMORY_MB,
        "minutes": _MINUTES,
    }


def _command(folder: Path, description: Path, where: Where) -> list[str]:
    """Snakemake's command line."""
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(folder)),
        # The description's name alone: Snakemake reads what follows `=` as YAML, where a colon in a folder splits.
        *("--config", f"dag={description.name}"),
        # Steps write down what they made whole or not at all, so what is there is complete whatever was killed.
        *("--nolock", "--ignore-incomplete", "--keep-going", "--rerun-triggers", "mtime"),
    ]
    if where.local:
        # The steps say themselves what they do and what went wrong; Snakemake's words are in its log.
        command += ["--cores", str(where.jobs), "--quiet", "all"]
    else:
        command += ["--jobs", str(where.jobs), "--retries", str(RETRIES)]
        command += ["--quiet", "rules", "progress", "host"]
        command += [] if where.executor == LOCAL else ["--executor", where.executor]
        command += [] if where.profile is None else ["--profile", str(where.profile.resolve())]
    if where.gpus is not None:
        command += ["--set-resources", f"train_step:gpu={where.gpus}"]
    return command


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder; a killed holder lets go by itself, unlike Snakemake's own lock files."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", busy=f"{folder}: another replication is running in this folder"):
        yield
