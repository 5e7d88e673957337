"""What the records of choices say of stages of training, and the page's table of targets.

Further training of the model that the compression pages' arms start from, and a teacher against none, are trained and
judged by `arms.py`; here their newest records become rows of the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from replication.rnnt.choose_model import CHOICES, GREEDY, SCHEMA

from edgespeech.arms.configuration import compression_base
from edgespeech.core.files import sha256_file
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.checks import NO_RECORD, Row, View
from edgespeech.model.checkpoint import WEIGHTS
from edgespeech.report.page import Judged, bar_text, value_text, verdict_text
from edgespeech.report.text import NONE, markdown_table

COMMAND = "python -m replication.rnnt.arms replication/rnnt/{}"
STEADY, TEACHER = "rnnt.steady", "rnnt.teacher"


def newest_choice(question: str, folder: Path = CHOICES) -> dict[str, Any] | None:
    """The newest record of a question, or None.

    Raises:
        EdgeSpeechError: it is not readable, or of an earlier schema.
    """
    found = sorted(folder.glob(f"{question}-2*.json"))
    if not found:
        return None
    try:
        record: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
    except ValueError as error:
        raise EdgeSpeechError(f"{found[-1].name}: not readable: {error}") from error
    if record.get("schema") != SCHEMA:
        raise bad(found[-1].name, "schema", record.get("schema"), SCHEMA)
    return record


def arm_rows(record: Mapping[str, Any], claim: str, arms: Sequence[str]) -> Iterator[Row]:
    """A row for each arm: its difference from the model that all are compared with."""
    other = record["compared_with"]
    models = {one["name"]: one for one in record["models"]}
    for name in arms:
        if name not in models:
            yield {"claim": claim, "detail": name, "skipped": record["skipped"][name]}
            continue
        mine, theirs = models[name][GREEDY], models[other][GREEDY]
        found = mine["difference"]
        yield {
            "claim": claim,
            "detail": f"{name} less {other}; {', '.join(record['utterances'])}, greedy",
            "measured": found["wer"],
            "low": found["low"],
            "high": found["high"],
            "resampled": ["speakers"],
            "n": sum(record["utterances"].values()),
            "arm": name,
            "updates": models[name]["provenance"]["step"],
            "before": theirs["pooled"]["wer"],
            "after": mine["pooled"]["wer"],
            "by_corpus": {
                corpus: [theirs["rates"][corpus]["wer"], rate["wer"]]
                for corpus, rate in mine["rates"].items()
            },
        }


def steady(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Further training of the arms' start, by seed."""
    del config, seed
    command = COMMAND.format("compression_base.yaml")
    record = newest_choice("compression-base")
    if record is None:
        yield {"claim": STEADY, "skipped": f"not run: {command}"}
        return
    start = next(one for one in record["models"] if one["name"] == record["compared_with"])
    if start["parts"][0]["weights_sha256"] != sha256_file(compression_base() / WEIGHTS):
        yield {"claim": STEADY, "skipped": f"the arms' start is another model by now: {command}"}
        return
    yield from arm_rows(record, STEADY, list(record["arms"]["arms"]))


def teacher(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """The teacher against none."""
    del config, seed
    record = newest_choice("teacher")
    if record is None:
        yield {"claim": TEACHER, "skipped": f"not run: {COMMAND.format('teacher.yaml')}"}
        return
    arms = [name for name in record["arms"]["arms"] if name != record["compared_with"]]
    yield from arm_rows(record, TEACHER, arms)


def stages_block(view: View | None) -> str:
    """Arms of stages of training beside what they are compared with."""
    rows = [row for row in (view or {}).get("rows", ()) if "by_corpus" in row]
    if not rows:
        return NO_RECORD
    head = ("Arm", "Updates", "Tuning speech", "WER of the other", "WER of the arm", "Difference [95 %]")
    table = []
    for row in rows:
        low, high = (f"{100 * row[end]:.2f}" for end in ("low", "high"))
        parts = {**row["by_corpus"], "all": [row["before"], row["after"]]}
        for corpus, (before, after) in parts.items():
            last = corpus == "all"
            table.append(
                (
                    row["detail"].partition(";")[0] if last else "",
                    str(row["updates"]) if last else "",
                    corpus,
                    f"{100 * before:.1f} %",
                    f"{100 * after:.1f} %",
                    f"{100 * row['measured']:.2f} [{low}, {high}] points" if last else NONE,
                )
            )
    return markdown_table(head, table)


def targets_table(found: Sequence[Judged], names: Sequence[str]) -> str:
    """The page's targets: target, measured, met?

    Raises:
        EdgeSpeechError: a name is no claim of the page.
    """
    claims = {one.claim.id: one for one in found}
    rows = []
    for name in names:
        if name not in claims:
            raise bad("rnnt/config.yaml", "targets", name, "one of " + ", ".join(claims))
        claim, measured = claims[name].claim, claims[name].measured
        target = f"{claim.short}: {bar_text(claim.bar, claim.unit)}"
        if not measured:
            rows.append((target, NONE, "not run"))
        for value, judgement in measured:
            rows.append((target, value_text(value, claim.unit), verdict_text(judgement)))
    return markdown_table(("Target", "Measured [95 %]", "Met?"), rows)
