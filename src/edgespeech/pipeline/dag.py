"""Building the DAG's description from a plan, and running it with Snakemake."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgespeech.core.files import write_atomic
from edgespeech.corpora.corpora import find_split
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.discovery import recognisers
from edgespeech.harness.plan import Plan, Profile, expand, load_plan, run_key
from edgespeech.pipeline.stages import RECORDS
from edgespeech.records.records import sha256_json

_log = logging.getLogger(__name__)

SNAKEFILE = Path(__file__).parent / "Snakefile"


def describe(plan: Plan, profile: Profile, *, jobs: int, published: Path | None) -> dict[str, Any]:
    """The DAG as data: every run by its key, with the corpora it needs.

    Args:
        plan: the runs.
        profile: quick or full.
        jobs: number of simultaneous runs, which is part of every record.
        published: folder of the records to compare with, or None.
    """
    runs: dict[str, Any] = {}
    for run in expand(plan, profile, list(recognisers())):
        needs = [run.corpus] + (["noise"] if run.noise else [])
        runs[run_key(run, plan, _declared_sha256(run.corpus))] = {**asdict(run), "needs": needs}
    dag = {
        "profile": profile,
        "jobs": jobs,
        "plan": plan.model_dump(),
        "published": None if published is None else str(published.resolve()),
        "runs": runs,
    }
    return {**dag, "key": sha256_json({"runs": sorted(runs), "profile": profile})[:16]}


def _declared_sha256(split: str) -> str | None:
    """The declared hash of a corpus's content, known before it is fetched."""
    corpus, name = find_split(split)
    return corpus.splits[name].content_sha256 or corpus.splits[name].sha256


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock the folder; the lock of a killed process is released, unlike Snakemake's own lock files."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EdgeSpeechError(f"{folder}: another replication is running in this folder") from None
        yield


def _forget(work: Path) -> None:
    """Remove results that may be different now: availability of corpora, and runs that were skipped or failed."""
    for marker in work.glob("corpora/*.json"):
        marker.unlink()
    for path in work.glob(f"{RECORDS}/*/*.json"):
        if json.loads(path.read_text(encoding="utf-8"))["status"] != "passed":
            (work / "runs" / path.parent.name).with_suffix(".json").unlink(missing_ok=True)
            shutil.rmtree(path.parent)


def run_dag(plan_path: Path, profile: Profile, *, work: Path, jobs: int, published: Path | None) -> Path:
    """Run the parts of the plan that have not been run yet.

    Args:
        plan_path: the plan's YAML.
        profile: quick or full.
        work: folder for outputs; existing ones are not run again.
        jobs: runs at once.
        published: folder of the published records, for comparison.

    Returns:
        The summary, a Markdown file in `work`.

    Raises:
        EdgeSpeechError: a stage failed; its message was printed.
    """
    work = work.resolve()  # stages run inside it
    dag = describe(load_plan(plan_path), profile, jobs=jobs, published=published)
    summary = work / "summary" / f"{dag['key']}.md"
    _log.info("%d runs of %s in %s", len(dag["runs"]), plan_path, work)
    with _alone(work):
        path = work / f"dag-{dag['key']}.json"
        write_atomic(path, json.dumps(dag, indent=1))
        _forget(work)
        summary.unlink(missing_ok=True)  # cheap, and the published records beside it may have changed
        # Stages write their outputs whole or not at all, so what is there is complete whatever was killed.
        # The description's name alone: Snakemake reads what follows `=` as YAML, where a colon in a folder splits.
        command = [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(work)),
            *(
                "--cores",
                str(jobs),
                "--config",
                f"dag={path.name}",
                "--nolock",
                "--ignore-incomplete",
                "--keep-going",
            ),
            *("--rerun-triggers", "mtime", "--quiet", "rules", "progress", "host"),
        ]
        # Snakemake keeps a cache in the home folder; keep that in the work folder too.
        environment = {**os.environ, "XDG_CACHE_HOME": str(work / "cache")}
        if subprocess.run(command, env=environment, check=False).returncode != 0:
            raise EdgeSpeechError(
                f"the pipeline stopped; run it again to resume (its log is in {work}/.snakemake/log)"
            )
    return summary


def records_of(dag_path: Path) -> Iterator[Path]:
    """The record files of a finished DAG, in the plan's order.

    Raises:
        EdgeSpeechError: a run has none.
    """
    dag = json.loads(dag_path.read_text())
    for key in dag["runs"]:
        marker = dag_path.parent / "runs" / f"{key}.json"
        if not marker.exists():
            raise EdgeSpeechError(f"{marker}: this run is not finished")
        yield dag_path.parent / json.loads(marker.read_text())["record"]
