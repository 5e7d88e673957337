"""A technique's page: what its record says of each claim, and the tables and pictures that the record holds.

The page is the folder's `README.md`. What is between `<!-- table:NAME -->` and `<!-- /table -->` is rendered from the
newest record, the rest is written by hand: `finding` is what came out in few sentences, the technique's own name is
the table of claims, `rows` every measured row; the other blocks are the page's own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from edgespeech.contracts import Verdict
from edgespeech.core.files import write_atomic
from edgespeech.core.places import results_dir
from edgespeech.errors import bad
from edgespeech.harness.checks import NO_RECORD, Page, Profile, measure
from edgespeech.records.claims import Bar, Claim, Claims, Judgement, Kind, Measured, Unit
from edgespeech.records.pages import PageRecord, write_page
from edgespeech.report.text import NONE, markdown_table

END = "<!-- /table -->"
MOST = 12
"""Claims in the first table; those beyond are among the rows."""
SHOWN = 4
"""Conditions of one claim in the first table; those beyond are among the rows."""
_FRACTIONS = {"share": "%", "relative": "%", "points": "points"}
_DIRECTIONS = {
    "at_most": "at most",
    "below": "below",
    "at_least": "at least",
    "above": "above",
    "equal": "exactly",
}
_ORDER = (
    Verdict.REPRODUCED, Verdict.MET, Verdict.NOT_REPRODUCED, Verdict.MISSED, Verdict.UNDECIDED, Verdict.NOT_RUN,
)  # fmt: skip


class Judged(NamedTuple):
    """A claim with everything that was measured of it."""

    claim: Claim
    measured: tuple[tuple[Measured, Judgement], ...]

    @property
    def verdict(self) -> Verdict | None:
        """The verdict that all conditions share; None where they differ, or for an observation."""
        found = {judgement.verdict for _, judgement in self.measured}
        return found.pop() if len(found) == 1 else None

    @property
    def summary(self) -> str:
        """The shared verdict, or how often each was given: `mixed (2 met, 1 undecided)`."""
        if self.claim.kind is Kind.OBSERVATION:
            return NONE
        counted = _counted(judgement.verdict for _, judgement in self.measured)
        return f"{_mixed(self)} ({counted})" if self.verdict is None and self.measured else _mixed(self)


def judged(claims: Claims, record: PageRecord | None) -> list[Judged]:
    """A technique's claims with what its record says of each, in their order; without a record none was run.

    Raises:
        EdgeSpeechError: a row is about a claim that the technique does not have.
    """
    rows = () if record is None else record.judged(claims)
    return [
        Judged(claim, tuple((measured, judgement) for name, measured, judgement in rows if name == claim.id))
        for claim in claims
    ]


def amount(value: float, unit: Unit) -> str:
    """A value without its unit's name: fractions as per cent or points, numbers of 1,000 and more with commas."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if unit in _FRACTIONS:
        return f"{100 * value:.2f}" if unit == "points" else f"{100 * value:.1f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def with_unit(text: str, unit: Unit) -> str:
    """A value's text with its unit behind it; a ratio has none."""
    name = _FRACTIONS.get(unit, "" if unit == "ratio" else unit)
    return f"{text} {name}".rstrip()


def value_text(measured: Measured, unit: Unit) -> str:
    """A measured value with its interval, `-0.87 [-2.12, 0.33] points`; a dash where it was not run."""
    if measured.value is None:
        return NONE
    text = amount(measured.value, unit)
    if measured.low is not None and measured.high is not None:
        text += f" [{amount(measured.low, unit)}, {amount(measured.high, unit)}]"
    return with_unit(text, unit)


def bar_text(bar: Bar | None, unit: Unit) -> str:
    """A bar in words: `at most 0.00 points (margin 0.50)`; a dash for none."""
    if bar is None:
        return NONE
    if isinstance(bar.value, tuple):
        return with_unit(" to ".join(amount(end, unit) for end in bar.value), unit)
    text = f"{_DIRECTIONS[bar.direction]} {with_unit(amount(bar.value, unit), unit)}".strip()
    return text if not bar.margin else f"{text} (margin {amount(bar.margin, unit)})"


def verdict_text(judgement: Judgement) -> str:
    """A verdict with its reason."""
    if judgement.verdict is None:
        return NONE
    return judgement.verdict.value + (f": {judgement.reason}" if judgement.reason else "")


def claims_table(found: Sequence[Judged]) -> str:
    """One row a claim: reported, bar, measured by condition, verdict; observations are among the rows below."""
    shown = [one for one in found if one.claim.kind is not Kind.OBSERVATION]
    rows = []
    for one in shown[:MOST]:
        claim = one.claim
        cells = [_cell(measured, claim) for measured, _ in one.measured[:SHOWN]]
        if len(one.measured) > SHOWN:
            cells.append(f"… {len(one.measured) - SHOWN} more below")
        reasons = _reasons(judgement for _, judgement in one.measured)
        rows.append(
            (
                f"{claim.text} *({claim.kind.value}{f', {claim.source}' if claim.kind is Kind.PAPER else ''})*",
                _reported(claim),
                bar_text(claim.bar, claim.unit),
                "<br>".join(cells),
                one.summary + (f": {reasons}" if reasons else ""),
            )
        )
    text = markdown_table(("Claim", "Reported", "Bar", "Measured [95 %]", "Verdict"), rows)
    if len(shown) > MOST:
        text += (
            f"\nFurther targets among the rows below: {', '.join(one.claim.short for one in shown[MOST:])}.\n"
        )
    return text


def rows_table(found: Sequence[Judged]) -> str:
    """Every measured row."""
    rows = [
        (
            one.claim.id.partition(".")[2],
            measured.condition or NONE,
            value_text(measured, one.claim.unit),
            bar_text(one.claim.bar, one.claim.unit),
            f"{measured.n:,}" if measured.value is not None else NONE,
            str(measured.seeds) if one.claim.seeds > 1 or measured.seeds > 1 else NONE,
            ", ".join(measured.resampled) or NONE,
            verdict_text(judgement),
        )
        for one in found
        for measured, judgement in one.measured
    ]
    head = ("Claim", "Condition", "Measured [95 %]", "Bar", "n", "Seeds", "Resampled", "Verdict")
    legend = [
        f"* `{one.claim.id.partition('.')[2]}`: {one.claim.text} Source: {one.claim.source}." for one in found
    ]
    return f"{markdown_table(head, rows)}\n" + "\n".join(legend) + "\n"


def finding(found: Sequence[Judged]) -> str:
    """What came out: the result of the first claim, how many hold, which do and do not, and what is open.

    Claims are counted as in the table of claims: one whose conditions differ is `mixed` in both.
    """
    parts = []
    for kind, name in ((Kind.PAPER, "paper claim"), (Kind.TARGET, "own target")):
        some = [one for one in found if one.claim.kind is kind]
        if some:
            parts.append(
                f"{len(some)} {name}{'s' * (len(some) > 1)}: {_counted(map(_mixed, some), always=True)}"
            )
    groups = {
        "holds under every condition": [
            one for one in found if one.verdict in (Verdict.REPRODUCED, Verdict.MET)
        ],
        "does not hold": [one for one in found if one.verdict in (Verdict.NOT_REPRODUCED, Verdict.MISSED)],
        "not run": [one for one in found if one.verdict is Verdict.NOT_RUN],
    }
    told = [f"{name}: {', '.join(one.claim.short for one in some)}" for name, some in groups.items() if some]
    told += [
        f"{one.claim.short}: {one.summary}"
        for one in found
        if one.verdict is None and one.claim.kind is not Kind.OBSERVATION
    ]
    open_ones = [one for one in found if one.verdict is Verdict.UNDECIDED]
    sentences = ["; ".join(parts), "; ".join(told)]
    if open_ones:
        reasons = _reasons(
            Judgement(judgement.verdict, judgement.reason or "the bar lies within the interval")
            for one in open_ones
            for _, judgement in one.measured
        )
        sentences.append(f"undecided: {', '.join(one.claim.short for one in open_ones)} ({reasons})")
    counts = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences if sentence) + "\n"
    return _first_result(found) + counts


def _first_result(found: Sequence[Judged]) -> str:
    """The first claim of a paper that was measured, else the first target: its verdict and its extreme values."""
    for kind in (Kind.PAPER, Kind.TARGET):
        for one in found:
            values = [measured for measured, _ in one.measured if measured.value is not None]
            if one.claim.kind is not kind or not values:
                continue
            values.sort(key=lambda measured: measured.value or 0.0)
            ends = values if len(values) < 2 else [values[0], values[-1]]
            shown = " to ".join(
                value_text(end, one.claim.unit) + (f" ({end.condition})" if end.condition else "")
                for end in ends
            )
            bar = bar_text(one.claim.bar, one.claim.unit)
            text = one.claim.text.rstrip(".")
            return f"**{text}: {one.summary}.** Measured: {shown}; the bar: {bar}.\n\n"
    return ""


def stamp(page: Page, record: PageRecord) -> str:
    """Where a page's figures come from, and whether they may be out of date."""
    profile = f"profile `{record.profile}`" if record.profile else "a profile that the record does not name"
    if record.utterances is None:
        spoken = "utterances by row below"
    else:
        spoken = ", ".join(f"{count} utterances of {name}" for name, count in record.utterances.items())
    source = f"{results_dir().name}/{record.technique}/{record.stem}.json"
    text = (
        f"Measured {record.created} by {profile}, {spoken or 'no utterances'}, at commit {record.commit[:12]}"
        f"{' (dirty)' if record.dirty else ''}, {record.machine.cpu_model}, {record.machine.cores} cores "
        f"([record](../../{source}))."
    )
    if record.rescored is not None:
        earlier = f"../../{results_dir().name}/{record.technique}"
        text += f" Scored again from the transcripts of [{record.rescored}]({earlier}/"
        text += f"{record.rescored}.json), whose other rows it repeats."
    why = record.stale(page.code(), page.config())
    return text + (f" **Stale: {why}.**" if why else "") + "\n"


def render(page: Page, record: PageRecord | None) -> str:
    """The page's text with all its blocks filled in.

    Raises:
        EdgeSpeechError: the README lacks a block, or the record is about a claim that the page does not have.
    """
    blocks = dict.fromkeys(("finding", page.name, "rows"), NO_RECORD)
    if record is not None:
        found = judged(page.claims(), record)
        blocks = {
            "finding": finding(found),
            page.name: f"{claims_table(found)}\n{stamp(page, record)}",
            "rows": _folded(
                f"Every measured row ({sum(len(one.measured) for one in found)})", rows_table(found)
            ),
        }
    view = None if record is None else record.view()
    blocks |= {name: block(view) for name, block in page.blocks.items()}
    text = page.readme.read_text(encoding="utf-8")
    for name, body in blocks.items():
        begin = f"<!-- table:{name} -->\n"
        head, began, rest = text.partition(begin)
        _, ended, tail = rest.partition(END)
        if not began or not ended:
            raise bad(f"{page.name}/README.md", "block", name, f"{begin.strip()} and {END} around it")
        text = f"{head}{begin}\n{body}\n{END}{tail}"
    return text


def files(page: Page, record: PageRecord | None) -> dict[Path, str]:
    """The README and the pictures of a page, as rendered from a record.

    Raises:
        EdgeSpeechError: as `render`.
    """
    drawn = page.plots(None if record is None else record.view())
    return {page.readme: render(page, record)} | {page.folder / name: svg for name, svg in drawn.items()}


def run(page: Page, *, profile: Profile = "quick", render_only: bool = False) -> None:
    """Measure, unless told to render only; write the record and the page, print what was found.

    Raises:
        EdgeSpeechError: a file of the page is wrong or cannot be written.
    """
    if not render_only:
        write_page(measure(page, profile), page.records)
    record = page.newest()
    for path, text in files(page, record).items():
        write_atomic(path, text)
    print(NO_RECORD if record is None else summary(page, record))


def summary(page: Page, record: PageRecord) -> str:
    """A page in few lines, for a terminal: its verdicts in one line, and one line for each part that did not run."""
    rows = [judgement.verdict for one in judged(page.claims(), record) for _, judgement in one.measured]
    lines = [
        f"{page.name}: {_counted((verdict for verdict in rows if verdict is not None), always=True)} (rows)"
    ]
    lines += [f"  not run: {part.part}: {part.reason}" for part in record.not_run]
    return "\n".join(lines)


def _cell(measured: Measured, claim: Claim) -> str:
    if measured.value is None:
        return f"{measured.condition}: not run" if measured.condition else "not run"
    text = value_text(measured, claim.unit)
    return f"{measured.condition}: {text}" if measured.condition else text


def _reported(claim: Claim) -> str:
    if claim.kind is not Kind.PAPER:
        return NONE
    if claim.reported is None:
        return "no figure"
    unit = claim.reported_unit or claim.unit
    return with_unit(amount(claim.reported, unit), unit)


def _mixed(one: Judged) -> str:
    """A claim's verdict in one word."""
    return str(one.verdict or ("mixed" if one.measured else Verdict.NOT_RUN))


def _counted(verdicts: Iterable[str | Verdict | None], *, always: bool = False) -> str:
    """`3 met, 1 undecided`, in the order of `_ORDER`; the verdict alone where all share it, unless always counted."""
    counts = Counter(str(verdict) for verdict in verdicts if verdict is not None)
    order = [str(verdict) for verdict in _ORDER]
    ranked = sorted(counts, key=lambda name: order.index(name) if name in order else len(order))
    return (
        ranked[0]
        if len(ranked) == 1 and not always
        else ", ".join(f"{counts[name]} {name}" for name in ranked)
    )


def _reasons(judgements: Iterable[Judgement]) -> str:
    """`1 of 3 seeds (2 rows), no interval in the record (1 row)`; the reason alone where there is one."""
    counts = Counter(judgement.reason for judgement in judgements if judgement.reason)
    if len(counts) < 2:
        return "".join(counts)
    return ", ".join(f"{reason} ({count} row{'s' * (count > 1)})" for reason, count in counts.items())


def _folded(title: str, body: str) -> str:
    """Markdown behind a line that one opens."""
    return f"<details><summary>{title}</summary>\n\n{body}\n</details>\n"
