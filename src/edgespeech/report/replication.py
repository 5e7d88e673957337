"""What was measured here beside what is published, row by row, each with a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from edgespeech.contracts import Difference, Verdict
from edgespeech.harness.rescore import current
from edgespeech.records.records import Figure, Record, load_record, load_records, load_rows
from edgespeech.report.compare import Paired, acceptance, pair, records_comparable, word_errors
from edgespeech.report.table import NORMALISER
from edgespeech.report.tables import latest
from edgespeech.report.text import NONE, figure, markdown_table, number

FEWEST = 2
"""Utterances below which nothing is compared: an interval needs two."""
_WORST = (Verdict.NOT_REPRODUCED, Verdict.PARTLY, Verdict.REPRODUCED)
_ELSEWHERE = "not in this profile"


class Replicated(NamedTuple):
    """One published figure measured again.

    Attributes:
        published: the published record.
        here: the one measured here, or None.
        metric: what is compared; a dash when nothing could be.
        whole: the published figure over all of its utterances.
        paired: published and here on the same utterances, here minus published; None: not run.
        verdict: `reproduced` when the paired interval holds 0, `partly` when it does not but the value here
            lies in the published interval, else `not reproduced`.
        reason: why it was not run; empty otherwise.
    """

    published: Record
    here: Record | None
    metric: str
    whole: Figure | None
    paired: Paired | None
    verdict: Verdict
    reason: str


def replicate_verdicts(here: Sequence[Path], published: Path) -> list[Replicated]:
    """Compare every published record with the one measured here of the same system, corpus and condition.

    Args:
        here: record files, their rows beside them.
        published: folder of records.

    Raises:
        EdgeSpeechError: a record or its rows are not right.
    """
    runs = {_key(record): (record, path.parent) for path in here for record in [load_record(path)]}
    found = []
    for record in latest(load_records(published)):
        if record.status != "passed":
            continue
        run, folder = runs.get(_key(record), (None, published))
        if run is None:
            reason = _ELSEWHERE
        elif (why := records_comparable(run, record, whole=False)) is not None:
            reason = run.reason or why
        else:
            pairs = pair(load_rows(folder, run), load_rows(published, record))
            if len(pairs) >= FEWEST:
                wer = current(published, record).accuracy[NORMALISER].wer
                found.append(_judge(record, run, wer, word_errors(pairs, NORMALISER)))
                if (commands := acceptance(pairs)) is not None and record.acceptance is not None:
                    found.append(_judge(record, run, _rejection(record.acceptance), commands))
                continue
            reason = f"{len(pairs)} utterances in both"
        found.append(Replicated(record, run, NONE, None, None, Verdict.NOT_RUN, reason))
    return found


def outcome(here: Sequence[Path], published: Path | None, left_out: str = "") -> str:
    """What came of a replication: a table of what ran, one line for what did not and why, and the count.

    A row is one system on one corpus under one condition. It is reproduced when all its figures are.

    Args:
        here: record files, their rows beside them.
        published: folder of records; None: nothing is compared.
        left_out: a line about what was not asked for.
    """
    found = [] if published is None else replicate_verdicts(here, published)
    rows = [list(figures) for _, figures in groupby(found, key=lambda one: one.published.run_id)]
    compared = [figures for figures in rows if figures[0].paired is not None]
    ran, reasons = [], Counter(_short(figures[0].reason) for figures in rows if figures[0].paired is None)
    verdicts: Counter[Verdict] = Counter()
    for figures in compared:
        verdict = min((one.verdict for one in figures), key=_WORST.index)
        verdicts[verdict] += 1
        blamed = ", ".join(one.metric for one in figures if one.verdict is not Verdict.REPRODUCED)
        ran.append((*_compared(figures), f"{verdict.value}: {blamed}" if blamed else verdict.value))
    known = {_key(one.published) for one in found}
    for record in map(load_record, here):
        if _key(record) in known:
            continue
        if record.status == "passed":
            ran.append((*_measured(record), "nothing published"))
        else:
            reasons[_short(record.reason or record.status)] += 1
    head = ("System", "Corpus", "Condition", "n", "WER published / here", "Not accepted", "Verdict")
    parts = [markdown_table(head, ran)] if ran else []
    if left_out:
        parts.append(f"{left_out}\n")
    if reasons:
        parts.append("Not run: " + "; ".join(f"{n} rows, {why}" for why, n in reasons.most_common()) + ".\n")
    reproduced = verdicts[Verdict.REPRODUCED]
    parts.append(
        f"{reproduced} rows reproduced, {verdicts.total() - reproduced} not, {reasons.total()} not run\n"
    )
    return "\n".join(parts)


def _compared(figures: Sequence[Replicated]) -> tuple[str, ...]:
    """A row that is published and was run here: what it is, and its figures on the same utterances."""
    record, shown = figures[0].published, {one.metric == "not accepted": one.paired for one in figures}
    values = [
        NONE if pair is None else f"{number(pair.b, pair.style)} / {number(pair.a, pair.style)}"
        for pair in (shown.get(False), shown.get(True))
    ]
    n = max(one.paired.n for one in figures if one.paired is not None)
    return (record.system.name, record.corpus.name, record.condition.label, str(n), *values)


def _measured(record: Record) -> tuple[str, ...]:
    """A row that was run here alone."""
    accepted = record.acceptance
    values = (
        f"{NONE} / {number(record.accuracy[NORMALISER].wer.value, 'percent')}",
        NONE if accepted is None else f"{NONE} / {number(1 - accepted.value, 'percent')}",
    )
    n = str(record.corpus.n_utterances)
    return (record.system.name, record.corpus.name, record.condition.label, n, *values)


def _short(reason: str) -> str:
    """The first line of a reason, without the list of what was tried."""
    return reason.partition("\n")[0].removesuffix("Tried:").strip().rstrip(".")


def replication_table(here: Sequence[Path], published: Path) -> str:
    """The verdicts as a Markdown table, with the real-time factors (machines differ: no verdict)."""
    head = ("System", "Corpus", "Condition", "Metric", "Published", "Published, same utterances", "Here")
    rows = []
    for row in replicate_verdicts(here, published):
        start = (
            row.published.system.name,
            row.published.corpus.name,
            row.published.condition.label,
            row.metric,
        )
        rtf = " / ".join(_rtf(record) for record in (row.published, row.here))
        if row.paired is None:
            rows.append((*start, *[NONE] * 5, f"{row.verdict.value}: {row.reason}", rtf))
            continue
        n, paired = row.published.corpus.n_utterances, row.paired
        low, high = (number(end, paired.style) for end in (paired.low, paired.high))
        values = (
            f"{figure(row.whole, paired.style)} (n = {n})",
            number(paired.b, paired.style),
            f"{number(paired.a, paired.style)} (n = {paired.n})",
            f"{number(paired.difference, paired.style)} [{low}, {high}]",
        )
        rows.append((*start, *values, row.verdict.value, rtf))
    if not rows:
        return "Nothing is published yet.\n"
    return markdown_table((*head, "Here - published [95 %]", "Verdict", "RTF published / here"), rows)


def _judge(published: Record, here: Record, whole: Figure, paired: Paired) -> Replicated:
    within = whole.low is not None and whole.high is not None and whole.low <= paired.a <= whole.high
    if paired.verdict is Difference.TIE:
        verdict = Verdict.REPRODUCED
    else:
        verdict = Verdict.PARTLY if within else Verdict.NOT_REPRODUCED
    return Replicated(published, here, paired.metric, whole, paired, verdict, "")


def _rejection(accepted: Figure) -> Figure:
    """The share that was not accepted, from the share that was."""
    ends = {}
    if accepted.low is not None and accepted.high is not None:
        ends = {"low": 1 - accepted.high, "high": 1 - accepted.low}
    return accepted.model_copy(update={"value": 1 - accepted.value, **ends})


def _rtf(record: Record | None) -> str:
    return NONE if record is None else figure(record.latency.get("rtf"), "ratio", interval=False)


def _key(record: Record) -> tuple[object, ...]:
    return record.system.name, record.corpus.name, record.condition
