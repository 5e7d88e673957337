"""The stages, each a separate command: `python -m edgespeech.pipeline.stages STAGE DAG ...`.

A stage that cannot run because data, weights or a package are missing is not an error of the pipeline: it writes a
skipped record with the reason. A stage that fails writes nothing but its message. There is one process per row, so a
stage's imports are inside it.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError

RECORDS = Path("records")
"""Folder of the records in the pipeline's work folder, with one folder per run."""


def fetch(dag: dict[str, Any], corpus: str, output: Path) -> None:
    """Fetch a corpus, and write a marker that states whether it is available, or why not.

    For a missing corpus, the skipped records are written here by one process, since starting a process for each would
    take most of the time.
    """
    from edgespeech.corpora.download import UnavailableError
    from edgespeech.corpora.fetch import manifest_of

    try:
        manifest = manifest_of(corpus)
    except UnavailableError as error:
        rows = [key for key, run in dag["runs"].items() if run["needs"][0] == corpus]
        print(f"{corpus}: not available here; its {len(rows)} rows are skipped", flush=True)
        for key in rows:
            if _existing(key) is None:
                _run(dag, key, str(error))
        write_atomic(output, json.dumps({"missing": str(error)}))
        return
    print(f"{corpus}: {len(manifest.utterances)} entries", flush=True)
    write_atomic(output, json.dumps({"sha256": manifest.sha256}))


def evaluate(dag: dict[str, Any], key: str, output: Path) -> None:
    """Run one row, unless its record exists, and write a marker that names the record."""
    found = _existing(key)
    path = found or _run(dag, key, _missing(dag["runs"][key]["needs"]))
    status = json.loads(path.read_text(encoding="utf-8"))["status"]
    write_atomic(output, json.dumps({"record": path.as_posix(), "status": status}))
    if found is None:
        from edgespeech.records.records import load_record
        from edgespeech.report.tables import one_line

        print(one_line(load_record(path)), flush=True)


def _missing(corpora: Sequence[str]) -> str | None:
    """The reason for the first missing corpus."""
    markers = [json.loads(Path(f"corpora/{corpus}.json").read_text(encoding="utf-8")) for corpus in corpora]
    return next((marker["missing"] for marker in markers if "missing" in marker), None)


def _existing(key: str) -> Path | None:
    """The record of an earlier finished run."""
    return next((RECORDS / key).glob("*.json"), None)


def _run(dag: dict[str, Any], key: str, missing: str | None) -> Path:
    """Measure, or record what is missing; the record and its rows are written atomically."""
    from edgespeech.harness.evaluate import Settings, evaluate_run
    from edgespeech.harness.plan import Plan, Run
    from edgespeech.records.records import write_record

    values = {name: value for name, value in dag["runs"][key].items() if name != "needs"}
    run, plan = Run(**values), Plan.model_validate(dag["plan"])
    settings = Settings(
        seed=plan.seed,
        threads=plan.threads,
        cloud_speedup=plan.cloud_speedup,
        networks=tuple(plan.networks),
        profile=dag["profile"],
        concurrent_jobs=dag["jobs"],
    )
    record, rows = evaluate_run(run, settings, missing=missing)
    RECORDS.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=RECORDS, prefix=".run-"))
    try:
        path = write_record(record, rows, folder)
        folder.rename(RECORDS / key)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return RECORDS / key / path.name


def summary(dag_path: Path, output: Path) -> None:
    """Write the outcome of the DAG, and tables of all records beside the published ones."""
    from edgespeech.harness.discovery import recognisers
    from edgespeech.harness.plan import Plan, left_out
    from edgespeech.pipeline.dag import records_of
    from edgespeech.pipeline.summary import summarise

    dag = json.loads(dag_path.read_text())
    published = None if dag["published"] is None else Path(dag["published"])
    left = left_out(Plan.model_validate(dag["plan"]), dag["profile"], list(recognisers()))
    write_atomic(output, summarise(list(records_of(dag_path)), published, left))


def main(arguments: Sequence[str]) -> int:
    """Run one stage; a user error is one line on standard error and exit status 2."""
    stage, dag_path, *rest = arguments
    try:
        if stage == "summary":
            summary(Path(dag_path), Path(rest[0]))
        else:
            stages = {"fetch": fetch, "evaluate": evaluate}
            stages[stage](json.loads(Path(dag_path).read_text()), rest[0], Path(rest[1]))
    except EdgeSpeechError as error:
        print(f"{stage} {' '.join(rest[:1])}: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
