"""The measurement of a technique: running its checks and recording their rows.

A folder `replication/NAME` has `claim.yaml` (`edgespeech.records.claims`), `config.yaml` (the configuration of its
checks),
`README.md` (the page, see `edgespeech.report.page`) and an `experiment.py` that makes a `Page` of its checks. Records
go to `results/NAME/` (`edgespeech.records.pages`).

A check is a function of the configuration and the seed that yields rows: `claim` (an id), `detail` (the condition),
`measured`, `n`, with an interval also `low`, `high`, `resampled` (the unit) and `seeds`, and data for the page's
tables; or `claim` and `skipped` with the reason. A row without `claim` is only data for tables; one with `part` and
`skipped` is a part that could not run. A check that raises `EdgeSpeechError` is recorded as such a part.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from edgespeech.core.places import project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError
from edgespeech.records import provenance
from edgespeech.records.claims import Claims, load_claims
from edgespeech.records.code import measuring_files, sha256_of
from edgespeech.records.pages import CODE_DIGITS, Machine, NotRun, PageRecord, PageRow, newest, row_of
from edgespeech.records.records import without_paths
from edgespeech.records.used import noting
from edgespeech.steps.step import Step

Row = dict[str, Any]
View = dict[str, Any]
"""A record as input of blocks: its `config` and its flat `rows` (`PageRecord.view`)."""
Check = Callable[[dict[str, Any], int], Iterator[Row]]
Block = Callable[[View | None], str]
"""Renders the Markdown of a further block of the page; the record may be missing."""
Plots = Callable[[View | None], dict[str, str]]
"""Draws the page's pictures, by file name; none without a record."""
Steps = Callable[[str, str], Sequence[Step]]
"""Makes what is measured: steps of the pipeline, by the profile and a pattern of the arms to train."""
Profile = Literal["quick", "full"]

PROFILES: tuple[Profile, ...] = get_args(Profile)
NO_RECORD = "No record yet.\n"
BUSY = 1.5
"""Processes that want to run, at the mean of a minute: with more, times are not taken."""


def busy() -> str | None:
    """Why no times can be taken now; None on an idle machine."""
    load = os.getloadavg()[0]
    return f"the machine is busy: a load of {load:.1f}, expected at most {BUSY}" if load > BUSY else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A technique's folder with its checks.

    Attributes:
        folder: with `claim.yaml`, `config.yaml` and `README.md`; its name is the technique's.
        records: folder of its records.
        checks: in the order of the table. Their configuration has the profile under `profile`.
        blocks: further blocks of the README, by the name in their marker.
        plots: the page's pictures.
        steps: of the pipeline that make what is measured, such as arms; none by default.
        first: steps whose outcome decides which the others are, or changes a model that ships; they are made before
            the others are planned.
        reads: further files and folders whose content decides what is measured.
    """

    folder: Path
    records: Path
    checks: tuple[Check, ...]
    blocks: Mapping[str, Block] = field(default_factory=dict)
    plots: Plots = lambda view: {}  # the default
    steps: Steps = lambda profile, only: ()
    first: Steps = lambda profile, only: ()
    reads: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The name of the technique."""
        return self.folder.name

    @property
    def readme(self) -> Path:
        """The page itself."""
        return self.folder / "README.md"

    def claims(self) -> Claims:
        """The claims, from `claim.yaml`.

        Raises:
            EdgeSpeechError: as `load_claims`.
        """
        return load_claims(self.folder / "claim.yaml")

    def config(self) -> dict[str, Any]:
        """The configuration of the checks, from `config.yaml`; it may only name claims of the page.

        Raises:
            EdgeSpeechError: a claim is not known.
        """
        found: dict[str, Any] = load_yaml(self.folder / "config.yaml")
        self.claims().check_names(f"{self.name}/config.yaml", found)
        return found

    def code(self) -> dict[str, str]:
        """The hashes of the files that measure this page, by name."""
        root = project_root()
        entries = [*self.folder.glob("*.py")]
        return measuring_files(entries, root / "src" / "edgespeech", root / "CMakeLists.txt")

    def code_sha256(self) -> str:
        """One hash of all of them."""
        return sha256_of(self.code())

    def newest(self) -> PageRecord | None:
        """The newest record, or None if there is none.

        Raises:
            EdgeSpeechError: it is not a record of this page.
        """
        return newest(self.records, self.claims())

    def view(self) -> View | None:
        """The newest record as input of blocks and plots."""
        record = self.newest()
        return None if record is None else record.view()


def measure(page: Page, profile: Profile = "quick") -> PageRecord:
    """Run all checks; the reasons of those that cannot run here are recorded.

    Args:
        page: with the checks.
        profile: `quick` or `full`.

    Raises:
        EdgeSpeechError: a file of the page is not valid, or a check's row is about an unknown claim.
    """
    claims, own = page.claims(), page.config()
    config = {**own, "profile": profile}
    rows: list[PageRow] = []
    not_run: list[NotRun] = []
    with noting() as used:
        for check in page.checks:
            told: list[Row] = []
            try:
                for row in check(config, config["seed"]):
                    told.append(row)  # noqa: PERF402  # rows before an error are recorded too
            except EdgeSpeechError as error:
                told.append({"part": check.__name__, "skipped": without_paths(str(error))})
            for row in told:
                made = row_of(row, check.__name__)
                if isinstance(made, NotRun):
                    not_run.append(made)
                    continue
                if made.claim is not None:
                    claims[made.claim]
                rows.append(made)
            print(f"{check.__name__}: done", flush=True)
    commit, dirty = provenance.git_state(project_root())
    code = page.code()
    return PageRecord(
        technique=page.name,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        profile=profile,
        utterances=used.utterances,
        code_sha256=sha256_of(code),
        code={name: found[:CODE_DIGITS] for name, found in code.items()},
        manifests=used.manifests,
        models=used.models,
        commit=commit,
        dirty=dirty,
        machine=Machine(
            cpu_model=provenance.processor()[0],
            cores=provenance.cores(),
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.machine()}",
        ),
        versions=provenance.package_versions(),
        config=config,
        rows=tuple(rows),
        not_run=tuple(not_run),
    )


def parser(about: str | None) -> argparse.ArgumentParser:
    """The parser with the options of every page's command; `about` is its docstring."""
    made = argparse.ArgumentParser(description=about.splitlines()[0] if about else None)
    made.add_argument("--render", action="store_true", help="render the newest record only")
    return made
