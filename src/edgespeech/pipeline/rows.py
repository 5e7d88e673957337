"""The rows of a plan as steps of the pipeline: one evaluation for each recogniser, corpus and condition."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgespeech.core.places import manifests_dir
from edgespeech.corpora.corpora import find_split
from edgespeech.corpora.phrases import FROM_MANIFEST, load_phrases
from edgespeech.corpora.step import fetch_step
from edgespeech.corpora.streams import FOLDER, load_stream_plan
from edgespeech.harness.discovery import find_recogniser, recognisers
from edgespeech.harness.evaluate import Settings, evaluate_run
from edgespeech.harness.journal import SUFFIX
from edgespeech.harness.plan import Plan, Profile, Run, expand
from edgespeech.records.records import load_record, sha256_json
from edgespeech.report.tables import one_line
from edgespeech.steps.step import Step, code_sha256
from edgespeech.steps.store import Job, Made, folder_of, outcome_of

RULE = "evaluate"
_HARNESS = ("edgespeech.harness.evaluate",)
RECORD = "record"
"""In what an evaluation has to say: the name of its record's file."""


def row_steps(plan: Plan, profile: Profile) -> list[Step]:
    """Every row of a plan, in its order.

    Raises:
        EdgeSpeechError: the plan names a system, corpus, network, noise or phrase list that does not exist.
    """
    settings = Settings(
        seed=plan.seed,
        threads=plan.threads,
        cloud_speedup=plan.cloud_speedup,
        networks=tuple(plan.networks),
        profile=profile,
        concurrent_jobs=1,
    )
    return [_row_step(run, settings, profile) for run in expand(plan, profile, list(recognisers()))]


def _row_step(run: Run, settings: Settings, profile: Profile) -> Step:
    """One row. Its key holds all that decides its result: of the code, the harness and this recogniser's."""
    corpus, split = find_split(run.corpus)
    about = corpus.splits[split]
    lists = {
        name: load_phrases(name) for name in (run.context, about.context) if name not in (None, FROM_MANIFEST)
    }
    inputs = [] if about.grammar is None else [manifests_dir() / "grammars" / f"{about.grammar}.yaml"]
    further = ["noise"] if run.noise else []
    if run.stream not in (None, FROM_MANIFEST):
        inputs.append(manifests_dir() / FOLDER / f"{run.stream}.yaml")
        further += load_stream_plan(run.stream).corpora
    return Step(
        rule=RULE,
        name="-".join(map(str, filter(None, _words(run)))),
        function=f"{__name__}:evaluate_row",
        given={
            "run": asdict(run),
            "seed": settings.seed,
            "threads": settings.threads,
            "cloud_speedup": settings.cloud_speedup,
            "networks": list(settings.networks),
            "links": sha256_json({name: asdict(link) for name, link in settings.links().items()}),
            "lists": sha256_json(lists),
            "profile": profile,
            "recogniser": _recogniser_sha256(run.system),
        },
        needs=tuple(fetch_step(name) for name in dict.fromkeys((run.corpus, *further))),
        inputs=(*inputs, *_files(run.system)),
        code=_HARNESS,
        without=("systems",),
        anyway=True,
        notes=True,
    )


def _words(run: Run) -> list[Any]:
    ratio = None if run.snr_db is None else f"{run.snr_db:g}dB"
    subset = None if run.subset is None else f"first{run.subset}"
    return [
        run.system,
        run.corpus,
        run.noise,
        ratio,
        run.band,
        run.stream,
        run.context and f"with.{run.context}",
        subset,
    ]


@lru_cache(maxsize=256)
def _recogniser_sha256(name: str) -> str:
    """Of a recogniser's code with all that it imports."""
    return code_sha256((type(find_recogniser(name)).__module__,))


@lru_cache(maxsize=256)
def _files(name: str) -> tuple[Path, ...]:
    """The files that a recogniser loads."""
    return tuple(find_recogniser(name).files().values())


def evaluate_row(job: Job) -> Made:
    """Run one row, or go on where that was interrupted. A row that cannot run here leaves a record that says why."""
    given = job.given
    path = _measured(job.folder)
    if path is None:
        settings = Settings(
            seed=given["seed"],
            threads=given["threads"],
            cloud_speedup=given["cloud_speedup"],
            networks=tuple(given["networks"]),
            profile=given["profile"],
            concurrent_jobs=job.concurrent,
        )
        run = Run(**given["run"])
        record, _ = evaluate_run(run, settings, missing=job.missing, out=job.folder, resume=True)
        path = job.folder / f"{record.stem}.json"
    record = load_record(path)
    print(one_line(record), flush=True)
    rows = [] if record.utterances_file is None else [path.parent / record.utterances_file]
    skipped = None if record.status == "passed" else record.reason or record.status
    return Made([path, *rows], {RECORD: path.name}, skipped)


def _measured(folder: Path) -> Path | None:
    """The record of a run that was killed after its last utterance; those of rows that did not run are removed."""
    for path in sorted(folder.glob("*.json")):
        if load_record(path).status == "passed":
            for journal in folder.glob(f"*{SUFFIX}"):  # the kill came before it was removed
                journal.unlink()
            return path
        path.unlink()
    return None


def record_of(step: Step) -> Path | None:
    """The record of a row; None where it is not finished."""
    outcome = outcome_of(step)
    return None if outcome is None else folder_of(step) / outcome.about[RECORD]
