"""A page's record: one measurement of a technique, as one JSON file under `results/TECHNIQUE/`.

Like the record of a run it is versioned, validated, append-only, and has no path, host or person.
Records from before there was a schema are read as `schema_version` 0, see `edgespeech.records.earlier`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from edgespeech.core.config import explain
from edgespeech.core.files import visible
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.records import earlier
from edgespeech.records.claims import Claims, Judgement, Measured, judge
from edgespeech.records.code import differing, sha256_of
from edgespeech.records.records import guard, plain, write_once
from edgespeech.records.schema import Count, Sha256, Strict

EARLIER = 0
"""The version of records from before there was a schema."""
UNHASHED = "made before code hashes were recorded"
CODE_DIGITS = 12
"""Of each file's hash in a record: enough to tell a change."""
CODE_NAMED = 3
"""Files that a page names of those that have changed."""


class Machine(Strict):
    """The machine of a measurement, without its name."""

    cpu_model: str
    cores: int = Field(ge=1)
    python: str
    platform: str = ""


class PageRow(Strict):
    """A measured claim with the data behind it, or data alone.

    Attributes:
        claim: the claim's id; None for a row that only has data for tables and plots.
        measured: value of the claim; None for a row of data.
        data: for tables and plots, by name.
    """

    claim: str | None = None
    measured: Measured | None = None
    data: Mapping[str, Any] = {}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.claim is None) != (self.measured is None):
            raise ValueError("a claim and what was measured come together")
        return self


class NotRun(Strict):
    """A part of the measurement that could not run at all, and the reason."""

    part: str
    reason: str


class PageRecord(Strict):
    """One measurement of a technique.

    Attributes:
        schema_version: 1; 0 for a record from before there was a schema.
        technique: the folder's name in `replication/`.
        created: UTC, ISO 8601, whole seconds, ending in `Z`.
        profile: `quick` or `full`; None in an earlier record that does not state it.
        utterances: number of each corpus by its name; None in an earlier record that does not state it.
        code_sha256: of the code that measured (`edgespeech.records.code`); None in an earlier record.
        code: the first `CODE_DIGITS` of the hash of each of its files, by name; empty in an earlier record.
        manifests: sha256 of each manifest that was read, by the corpus's name.
        models: sha256 of each model's file that was measured, by its name.
        commit: of this repository, and `dirty` if the working tree differed from it.
        versions: package to version.
        config: the technique's whole configuration.
        rows: in the order in which they were measured.
        not_run: parts that could not run.
        rescored: the record whose transcripts were scored again and whose other rows are repeated; None: a new
            measurement.
    """

    schema_version: Literal[0, 1] = 1
    technique: str
    created: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
    profile: Literal["quick", "full"] | None
    utterances: Mapping[str, Count] | None
    code_sha256: Sha256 | None
    code: Mapping[str, str] = {}
    manifests: Mapping[str, Sha256]
    models: Mapping[str, Sha256]
    commit: str
    dirty: bool
    machine: Machine
    versions: Mapping[str, str]
    config: Mapping[str, Any]
    rows: tuple[PageRow, ...]
    not_run: tuple[NotRun, ...] = ()
    rescored: str | None = None

    @model_validator(mode="after")
    def _honest(self) -> Self:
        if self.schema_version != EARLIER:
            hashed = self.code_sha256 is not None or self.rescored is not None
            if self.profile is None or self.utterances is None or not hashed:
                raise ValueError("a record names its profile, its utterances and the hash of its code")
            guard(self.model_dump(mode="json"))
        return self

    @property
    def stem(self) -> str:
        """File name without its suffix."""
        return self.created.replace(":", "").replace("-", "")

    def view(self) -> dict[str, Any]:
        """The record for tables and plots: `config`, and `rows` with `claim`, `detail`, `measured`, `n`,
        `skipped` and the data, flat.
        """
        flat = []
        for row in self.rows:
            told: dict[str, Any] = {"claim": row.claim}
            if (found := row.measured) is not None:
                told |= {"detail": found.condition, "n": found.n}
                told |= {"skipped": found.not_run} if found.not_run else {"measured": found.value}
            flat.append(told | dict(row.data))
        return {"config": self.config, "rows": flat}

    def judged(self, claims: Claims) -> list[tuple[str, Measured, Judgement]]:
        """Every measured row with its verdict; a claim without any row is not run.

        Raises:
            EdgeSpeechError: a row is about a claim that the technique does not have.
        """
        found = [
            (row.claim, row.measured, judge(claims[row.claim], row.measured))
            for row in self.rows
            if row.claim is not None and row.measured is not None
        ]
        missing = {claim.id for claim in claims} - {name for name, _, _ in found}
        why = (
            "; ".join(f"{part.part}: {part.reason}" for part in self.not_run) or "the record has no such row"
        )
        for claim in claims:
            if claim.id in missing:
                absent = Measured(not_run=why)
                found.append((claim.id, absent, judge(claim, absent)))
        order = {claim.id: number for number, claim in enumerate(claims)}
        return sorted(found, key=lambda one: order[one[0]])

    def stale(self, code: Mapping[str, str], config: Mapping[str, Any]) -> str | None:
        """Why the record may differ from a measurement by the present code, or None.

        Args:
            code: the hashes of the present measuring code, by file.
            config: the technique's present configuration.
        """
        if self.code_sha256 is None:
            return UNHASHED
        if self.code_sha256 != sha256_of(code):
            if not self.code:
                return "the code that measures has changed since"
            found = differing(self.code, code)
            named = ", ".join(f"`{name}`" for name in found[:CODE_NAMED])
            more = f" and {len(found) - CODE_NAMED} more" if len(found) > CODE_NAMED else ""
            return f"of {len(code)} files that measure, these have changed since: {named}{more}"
        before = {key: value for key, value in self.config.items() if key != "profile"}
        if plain(before) != plain(config):
            return "the configuration has changed since"
        return None


def write_page(record: PageRecord, folder: Path) -> Path:
    """Write a record, which is never replaced.

    Returns:
        Its file.

    Raises:
        EdgeSpeechError: there is a different record of the same second, or it cannot be written.
    """
    path = folder / f"{record.stem}.json"
    text = json.dumps(plain(record.model_dump(mode="json")), indent=1, allow_nan=False, ensure_ascii=False)
    write_once(path, text + "\n")
    return path


def load_page(path: Path, claims: Claims) -> PageRecord:
    """Read a page's record, of this schema or an earlier one; its folder has the technique's name.

    Args:
        path: its file.
        claims: the technique's; every measured row has to be about one of them.

    Raises:
        EdgeSpeechError: not readable, not of any schema, of another technique, or a row's claim is not known.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeSpeechError(f"{where}: cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise EdgeSpeechError(f"{where}: not JSON: {error}") from error
    if isinstance(content, dict) and "schema_version" not in content:
        content = earlier.converted(content, path.parent.name, claims, where)
    if isinstance(content, dict):
        renamed = {key: earlier.current_names(content[key]) for key in ("config", "rows") if key in content}
        content = {**content, **renamed}
    try:
        record = PageRecord.model_validate(content)
    except ValidationError as error:
        raise explain(where, error, tuple(PageRecord.model_fields)) from error
    if record.technique != path.parent.name:
        raise bad(where, "technique", record.technique, path.parent.name)
    if record.stem != path.stem:
        raise bad(where, "file name", path.name, f"{record.stem}.json")
    for row in record.rows:
        if row.claim is not None:
            claims[row.claim]
    return record


def newest(folder: Path, claims: Claims) -> PageRecord | None:
    """The newest record of a technique, or None if there is none.

    Raises:
        EdgeSpeechError: as `load_page`.
    """
    files = visible(folder, "*.json")
    return load_page(files[-1], claims) if files else None


def row_of(told: Mapping[str, Any], where: str) -> PageRow | NotRun:
    """Convert a check's row to a record's.

    Args:
        told: `claim` with `measured` and `n`, or `skipped` and the reason; perhaps `detail` (the condition), `low` and
            `high`, `seeds`, `resampled`; and data for tables, by name. Without `claim` it is a row of data, or with
            `part` and `skipped` a part that could not run.
        where: the check, for messages.

    Raises:
        EdgeSpeechError: a value is missing or not valid.
    """
    rest = dict(told)
    if "part" in rest:
        return NotRun(part=rest["part"], reason=rest["skipped"])
    claim = rest.pop("claim", None)
    if claim is None:
        return PageRow(data=rest)
    fields: dict[str, Any] = {
        to: rest.pop(key)
        for key, to in (
            ("detail", "condition"), ("measured", "value"), ("low", "low"), ("high", "high"), ("n", "n"),
            ("seeds", "seeds"), ("resampled", "resampled"), ("skipped", "not_run"),
        )
        if key in rest
    }  # fmt: skip
    try:
        return PageRow(claim=claim, measured=Measured(**fields), data=rest)
    except ValidationError as error:
        raise explain(f"{where}: {claim}", error) from error
