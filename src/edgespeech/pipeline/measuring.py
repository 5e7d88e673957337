"""Measuring a technique and rendering its page, as steps of the pipeline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgespeech.core.config import words_in
from edgespeech.core.files import visible, write_atomic
from edgespeech.core.places import shipped_models
from edgespeech.corpora.step import fetch_step, is_corpus
from edgespeech.harness.checks import Page, Profile, measure
from edgespeech.harness.plan import source_sha256
from edgespeech.pipeline.replicate import load_experiment
from edgespeech.records.pages import load_page, write_page
from edgespeech.records.records import sha256_json, write_once
from edgespeech.report.page import END, files
from edgespeech.steps.step import PACKAGE, Resources, Step
from edgespeech.steps.store import Job, Made, folder_of, outcome_of

MEASURE, RENDER = "measure", "render"
_RECORD = "record"
_NO_INPUT = {".md", ".svg", ".py", ".pyc"}
"""Endings of a technique's files that decide no figure, or count as code."""
_BLOCK = re.compile(r"(<!-- table:[^>]*-->).*?" + re.escape(END), re.DOTALL)


def measure_step(name: str, profile: Profile, only: str = "*") -> Step:
    """The step that measures a technique, after those that make what is measured.

    Args:
        name: of its folder.
        profile: how much.
        only: as the shell has it; only arms whose names match are trained.

    Raises:
        EdgeSpeechError: there is no such technique, or its files are wrong.
    """
    page: Page = load_experiment(name).PAGE
    config = page.config()
    page.claims()
    made = page.steps(profile, only)
    corpora = {one for one in words_in(config) if is_corpus(one)}
    own = (
        path
        for path in visible(page.folder, "*")
        if path.suffix not in _NO_INPUT and path.name != "claim.yaml"
    )
    read = (*own, *(file for path in (shipped_models(), *page.reads) for file in _files(path)))
    return Step(
        rule=MEASURE,
        name=page.name,
        function=f"{__name__}:measure_page",
        given={"technique": page.name, "profile": profile, "code": page.code_sha256()},
        needs=(*dict.fromkeys(made), *(fetch_step(one) for one in sorted(corpora))),
        inputs=tuple(read),
        resources=Resources(alone=True),
        anyway=True,
    )


def render_step(measured: Step) -> Step:
    """The step that publishes what a technique's measurement found, and renders its page.

    Args:
        measured: from `measure_step`.
    """
    page: Page = load_experiment(measured.given["technique"]).PAGE
    written = _BLOCK.sub(r"\1", page.readme.read_text(encoding="utf-8"))
    return Step(
        rule=RENDER,
        name=page.name,
        function=f"{__name__}:render_page",
        given={
            "technique": page.name,
            "text": sha256_json(written),
            "claims": sha256_json((page.folder / "claim.yaml").read_text(encoding="utf-8")),
            "code": source_sha256(PACKAGE / "report", build=PACKAGE),
        },
        needs=(measured,),
        here=True,
    )


def measure_page(job: Job) -> Made:
    """Measure; the record is in the step's folder until it is published."""
    page: Page = load_experiment(job.given["technique"]).PAGE
    path = write_page(measure(page, job.given["profile"]), job.folder / page.name)
    return Made([path], {_RECORD: path.name})


def render_page(job: Job) -> Sequence[Path]:
    """Add the record to the published ones, and render the page from the newest."""
    page: Page = load_experiment(job.given["technique"]).PAGE
    need = f"{MEASURE}/{page.name}"
    name = job.outcomes[need].about[_RECORD]
    published = page.records / name
    write_once(published, (job.folders[need] / page.name / name).read_text(encoding="utf-8"))
    made = files(page, page.newest())
    for path, text in made.items():
        write_atomic(path, text)
    return [published, *made]


def page_summary(measured: Step) -> str | None:
    """What a technique's measurement found, in few lines; None where it is not finished."""
    from edgespeech.report.page import summary

    outcome = outcome_of(measured)
    if outcome is None:
        return None
    page: Page = load_experiment(measured.given["technique"]).PAGE
    return summary(page, load_page(folder_of(measured) / page.name / outcome.about[_RECORD], page.claims()))


def _files(path: Path) -> list[Path]:
    """A file, or all files of a folder, by name."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
