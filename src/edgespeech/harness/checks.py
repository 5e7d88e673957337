"""A replication's page: its checks measured, kept as one record, and shown beside what is claimed of them.

A folder `replication/NAME` has `claim.yaml` (a list of `id`, `statement` and, where there is a bar, `low`, `high` or
both), `config.yaml` (what its checks are given), `README.md` (with a block `<!-- table:NAME -->`) and an
`experiment.py` that makes a `Page` of its checks. Records go to `results/NAME/`.

A check is a function of the configuration and the seed that yields rows: `claim` (an id), `detail`, `measured` and
`n`, and whatever else the record should keep; or `claim` and `skipped` with the reason, where one row cannot be had.
A check that raises `EdgeSpeechError` is one such row.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from edgespeech.contracts import Verdict
from edgespeech.core.files import write_atomic
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records import provenance
from edgespeech.records.records import without_paths

Row = dict[str, Any]
Measured = dict[str, Any]
"""A record as it is in its file: where it comes from, the configuration, and the `rows`."""
Check = Callable[[dict[str, Any], int], Iterator[Row]]
Block = Callable[[Measured | None], str]
"""Makes the Markdown of a further block of the page; there may be no record yet."""

PROFILES = ("quick", "full")
END = "<!-- /table -->"
NO_RECORD = "No record yet.\n"
_NO_BAR = "\N{EN DASH}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A replication's folder with its checks.

    Attributes:
        folder: with `claim.yaml`, `config.yaml` and `README.md`; its name is the replication's.
        records: where the records go.
        checks: in the order of the table. The configuration that they get has the profile under `profile`.
        blocks: further blocks of the README, by the name in their marker.
    """

    folder: Path
    records: Path
    checks: tuple[Check, ...]
    blocks: Mapping[str, Block] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the replication."""
        return self.folder.name

    @property
    def readme(self) -> Path:
        """The page itself."""
        return self.folder / "README.md"

    def newest(self) -> Measured | None:
        """The newest record, or None where there is none."""
        files = sorted(self.records.glob("*.json"))
        if not files:
            return None
        record: Measured = json.loads(files[-1].read_text(encoding="utf-8"))
        return record


def measure(page: Page, profile: str = PROFILES[0]) -> Measured:
    """Run every check; one that cannot run here says why.

    Args:
        page: whose checks.
        profile: `quick` or `full`.
    """
    config = {**_yaml(page.folder / "config.yaml"), "profile": profile}
    rows: list[Row] = []
    for check in page.checks:
        try:
            for row in check(config, config["seed"]):
                rows.append(row)  # noqa: PERF402  # the rows before an error are kept
        except EdgeSpeechError as error:
            rows.append({"claim": f"{page.name}.{check.__name__}", "skipped": without_paths(str(error))})
        print(f"{check.__name__}: done", flush=True)
    commit, dirty = provenance.git_state(project_root())
    return {
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit,
        "dirty": dirty,
        "config": config,
        "versions": provenance.package_versions(),
        "cpu_model": provenance.processor()[0],
        "cores": provenance.cores(),
        "python": platform.python_version(),
        "rows": rows,
    }


def table(record: Measured, claims: Sequence[dict[str, Any]]) -> str:
    """The record beside what is claimed, as Markdown."""
    known = {claim["id"]: claim for claim in claims}
    lines = ["| check | claimed | measured | n | verdict |", "|---|---|---|---|---|"]
    for row in record["rows"]:
        claim = known.get(row["claim"])
        name = row["claim"] if claim is None else claim["statement"]
        if "detail" in row:
            name += f" ({row['detail']})"
        claimed = "" if claim is None else _claimed(claim)
        if "skipped" in row or claim is None:
            cells = (name, claimed, "", "", f"{Verdict.NOT_RUN}: {row.get('skipped', 'no claim')}")
        else:
            measured, verdict = row["measured"], _verdict(claim, row["measured"])
            cells = (name, claimed, _number(measured), str(row["n"]), verdict)
        lines.append(f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in cells)} |")
    stamp = f"Measured {record['created']} at commit {record['commit'][:12]}{' (dirty)' if record['dirty'] else ''}"
    return "\n".join([*lines, "", f"{stamp}, {record['cpu_model']}, {record['cores']} cores."]) + "\n"


def render(page: Page, record: Measured | None) -> str:
    """The page's text with all its blocks filled in.

    Raises:
        EdgeSpeechError: the README has no such block.
    """
    claims = _yaml(page.folder / "claim.yaml")
    blocks = {page.name: NO_RECORD if record is None else table(record, claims)}
    blocks |= {name: block(record) for name, block in page.blocks.items()}
    text = page.readme.read_text(encoding="utf-8")
    for name, body in blocks.items():
        begin = f"<!-- table:{name} -->\n"
        head, found, rest = text.partition(begin)
        _, ended, tail = rest.partition(END)
        if not found or not ended:
            raise bad(f"{page.name}/README.md", "block", name, f"{begin.strip()} and {END} around it")
        text = f"{head}{begin}\n{body}\n{END}{tail}"
    return text


def parser(about: str | None) -> argparse.ArgumentParser:
    """The options that every page's command has; `about` is its docstring."""
    made = argparse.ArgumentParser(description=about.splitlines()[0] if about else None)
    made.add_argument("--render", action="store_true", help="render the newest record only")
    made.add_argument("--profile", choices=PROFILES, default=PROFILES[0], help="how much is measured")
    return made


def run(page: Page, *, profile: str = PROFILES[0], render_only: bool = False) -> None:
    """Measure, unless told to render only; keep the record, write the page, print its table.

    Raises:
        EdgeSpeechError: a file of the page is wrong or cannot be written.
    """
    if not render_only:
        record = measure(page, profile)
        name = record["created"].replace(":", "").replace("-", "")
        write_atomic(page.records / f"{name}.json", json.dumps(record, indent=1) + "\n")
    text = render(page, page.newest())
    write_atomic(page.readme, text)
    print(text.partition(f"<!-- table:{page.name} -->\n")[2].partition(END)[0])


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _claimed(claim: dict[str, Any]) -> str:
    """The bar in words: `0.9 to 1.1`, `1`, `at most 0.1`, `at least 100`; a dash where there is none."""
    low, high = (None if claim.get(end) is None else _number(claim[end]) for end in ("low", "high"))
    if low is None or high is None:
        return f"at most {high}" if high is not None else f"at least {low}" if low is not None else _NO_BAR
    return low if low == high else f"{low} to {high}"


def _verdict(claim: dict[str, Any], measured: float) -> str:
    low, high = claim.get("low"), claim.get("high")
    if low is None and high is None:
        return _NO_BAR
    kept = (low is None or low <= measured) and (high is None or measured <= high)
    return Verdict.REPRODUCED if kept else Verdict.NOT_REPRODUCED


def _number(value: float) -> str:
    """Four digits, or a whole number with its thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
