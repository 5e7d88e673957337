"""What `edgespeech replicate` makes: the rows of the plan, or techniques by their names, through one pipeline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgespeech.core.files import write_atomic
from edgespeech.core.places import project_root, records_dir
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.checks import Page
from edgespeech.harness.discovery import recognisers
from edgespeech.harness.plan import Profile, left_out, load_plan
from edgespeech.pipeline.dag import Where, run_dag, to_make
from edgespeech.pipeline.measuring import MEASURE, RENDER, measure_step, page_summary, render_step
from edgespeech.pipeline.replicate import load_experiment, techniques
from edgespeech.pipeline.rows import RULE as EVALUATE
from edgespeech.pipeline.rows import record_of, row_steps
from edgespeech.pipeline.summary import DETAILS, render_all, summarise
from edgespeech.records.records import publish_record
from edgespeech.steps.step import Step
from edgespeech.steps.store import VARIABLE, steps_dir

HEADLINE = "headline"
"""Names the rows of the plan among techniques."""
ALL = "all"
"""Names the rows and every technique."""
_ROUNDS = 4
"""Steps that decide on others may decide on one another, such as a model that a network is trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is replicated.

    Attributes:
        names: techniques, or `headline`.
        profile: how much.
        plan: the rows' file.
        only: as the shell has it; of the techniques' arms only those whose names match are trained.
        again: measure also what is measured.
    """

    names: Sequence[str]
    profile: Profile
    plan: Path
    only: str = "*"
    again: bool = False

    @property
    def techniques(self) -> list[str]:
        """The techniques among the names."""
        return [name for name in self.names if name != HEADLINE]

    def first(self) -> list[Step]:
        """Steps that decide which the others are."""
        pages: list[Page] = [load_experiment(name).PAGE for name in self.techniques]
        return [step for page in pages for step in page.first(self.profile, self.only)]

    def rows(self) -> list[Step]:
        """The rows of the plan, if they are wanted."""
        return row_steps(load_plan(self.plan), self.profile) if HEADLINE in self.names else []

    def measured(self) -> list[Step]:
        """The measurements of the techniques."""
        return [measure_step(name, self.profile, self.only) for name in self.techniques]


def wanted_names(names: Sequence[str]) -> list[str]:
    """Techniques by their folders' names, none twice; none given means the rows of the plan.

    Raises:
        EdgeSpeechError: there is no such technique.
    """
    known = [HEADLINE, *techniques()]
    found: list[str] = []
    for name in names or [HEADLINE]:
        plain = name.replace("-", "_")
        if plain != ALL and plain not in known:
            raise bad("replicate", "technique", name, f"{ALL}, or one of {', '.join(known)}")
        found += known if plain == ALL else [plain]
    return list(dict.fromkeys(found))


def replicate(
    wanted: Wanted, where: Where, *, work: Path | None = None, publish: bool = False
) -> tuple[str, str]:
    """Make what is not made of what is wanted, and say what came out.

    Args:
        wanted: what.
        where: it runs.
        work: the pipeline's folder; None: `pipeline` in the work folder.
        publish: add the rows' records to the published ones and render again.

    Returns:
        What came out, and why the pipeline did not end, or nothing.

    Raises:
        EdgeSpeechError: what is wanted makes no sense; nothing was begun.
    """
    if work is not None:
        os.environ[VARIABLE] = str(work.resolve())
    wanted.rows()  # all mistakes in what was given are found before anything begins
    wanted.measured()
    failure = ""
    try:
        _run_first(wanted, where)
        targets = [*wanted.rows(), *map(render_step, wanted.measured())]
        run_dag(targets, where, (EVALUATE, MEASURE, RENDER) if wanted.again else ())
    except EdgeSpeechError as error:
        failure = str(error)
    parts = [text for step in wanted.measured() if (text := page_summary(step)) is not None]
    if rows := wanted.rows():
        records = [path for step in rows if (path := record_of(step)) is not None]
        left = left_out(load_plan(wanted.plan), wanted.profile, list(recognisers()))
        if failed := len(rows) - len(records):
            left = f"{left}\n\n" * bool(left) + f"Not made: {failed} rows; their messages are above."
        text, details = summarise(records, records_dir(), left), steps_dir() / "summary.md"
        write_atomic(details, text)
        parts.append(text.partition(DETAILS)[0] + f"Details: {details}")
        if publish and not failure:
            for path in records:
                publish_record(path, records_dir())
            render_all(check=False, html=None)
    return "\n".join(parts), failure


def default_plan() -> Path:
    """The plan of the headline table."""
    return project_root() / "replication" / HEADLINE / "config.yaml"


def _run_first(wanted: Wanted, where: Where) -> None:
    """Make the steps that decide on others until they are settled."""
    before: set[str] = set()
    for _ in range(_ROUNDS):
        steps = wanted.first()
        if {step.id for step in steps} == before or not to_make(steps):
            return
        run_dag(steps, where)
        before = {step.id for step in steps}
