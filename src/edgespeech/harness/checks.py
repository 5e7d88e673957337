"""A technique's measurement: its checks run, and their rows in one record.

A folder `replication/NAME` has `claim.yaml` (`edgespeech.records.claims`), `config.yaml` (what its checks are given),
`README.md` (the page, see `edgespeech.report.page`) and an `experiment.py` that makes a `Page` of its checks. Records
go to `results/NAME/` (`edgespeech.records.pages`).

A check is a function of the configuration and the seed that yields rows: `claim` (an id), `detail` (the condition),
`measured`, `n`, where there is an interval `low` and `high`, `resampled` (over what) and `seeds`, and whatever the
page's tables need; or `claim` and `skipped` with the reason. A row without `claim` is data for tables alone; one with
`part` and `skipped` says what could not run. A check that raises `EdgeSpeechError` is one such part.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from edgespeech.core.places import project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError
from edgespeech.records import provenance
from edgespeech.records.claims import Claims, load_claims
from edgespeech.records.code import measuring_sha256
from edgespeech.records.pages import Machine, NotRun, PageRecord, PageRow, newest, row_of
from edgespeech.records.records import without_paths
from edgespeech.records.used import noting

Row = dict[str, Any]
View = dict[str, Any]
"""A record as blocks get it: its `config` and its flat `rows` (`PageRecord.view`)."""
Check = Callable[[dict[str, Any], int], Iterator[Row]]
Block = Callable[[View | None], str]
"""Makes the Markdown of a further block of the page; there may be no record yet."""
Plots = Callable[[View | None], dict[str, str]]
"""Makes the page's pictures by their file names; none without a record."""
Profile = Literal["quick", "full"]

PROFILES: tuple[Profile, ...] = get_args(Profile)
NO_RECORD = "No record yet.\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A technique's folder with its checks.

    Attributes:
        folder: with `claim.yaml`, `config.yaml` and `README.md`; its name is the technique's.
        records: where the records go.
        checks: in the order of the table. The configuration that they get has the profile under `profile`.
        blocks: further blocks of the README, by the name in their marker.
        plots: the page's pictures.
    """

    folder: Path
    records: Path
    checks: tuple[Check, ...]
    blocks: Mapping[str, Block] = field(default_factory=dict)
    plots: Plots = lambda view: {}  # a default, and no name of its own

    @property
    def name(self) -> str:
        """Of the technique."""
        return self.folder.name

    @property
    def readme(self) -> Path:
        """The page itself."""
        return self.folder / "README.md"

    def claims(self) -> Claims:
        """What is claimed, from `claim.yaml`.

        Raises:
            EdgeSpeechError: as `load_claims`.
        """
        return load_claims(self.folder / "claim.yaml")

    def config(self) -> dict[str, Any]:
        """What the checks are given, from `config.yaml`; every claim that it names is one of the page's.

        Raises:
            EdgeSpeechError: a claim is not known.
        """
        found: dict[str, Any] = load_yaml(self.folder / "config.yaml")
        self.claims().check_names(f"{self.name}/config.yaml", found)
        return found

    def code_sha256(self) -> str:
        """Of the code that measures this page."""
        root = project_root()
        entries = [*self.folder.glob("*.py")]
        return measuring_sha256(entries, root / "src" / "edgespeech", root / "CMakeLists.txt")

    def newest(self) -> PageRecord | None:
        """The newest record, or None where there is none.

        Raises:
            EdgeSpeechError: it is no record of this page.
        """
        return newest(self.records, self.claims())

    def view(self) -> View | None:
        """The newest record as blocks and plots get it."""
        record = self.newest()
        return None if record is None else record.view()


def measure(page: Page, profile: Profile = "quick") -> PageRecord:
    """Run every check; one that cannot run here says why.

    Args:
        page: whose checks.
        profile: `quick` or `full`.

    Raises:
        EdgeSpeechError: the page's files are not right, or a check's row is about a claim that is not known.
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
                    told.append(row)  # noqa: PERF402  # the rows before an error are kept
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
    return PageRecord(
        technique=page.name,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        profile=profile,
        utterances=used.utterances,
        code_sha256=page.code_sha256(),
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
    """The options that every page's command has; `about` is its docstring."""
    made = argparse.ArgumentParser(description=about.splitlines()[0] if about else None)
    made.add_argument("--render", action="store_true", help="render the newest record only")
    made.add_argument("--profile", choices=PROFILES, default=PROFILES[0], help="how much is measured")
    return made
