"""All claims of all techniques in a few lines: how many hold, how many do not, and which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgespeech.contracts import Verdict
from edgespeech.records.claims import Kind
from edgespeech.report.page import Judged

_MIXED = "mixed"
"""A claim whose conditions have different verdicts."""
_PAPER = (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.UNDECIDED, _MIXED, Verdict.NOT_RUN)
_TARGET = (Verdict.MET, Verdict.MISSED, Verdict.UNDECIDED, _MIXED, Verdict.NOT_RUN)


def claims_summary(techniques: Mapping[str, Sequence[Judged]]) -> str:
    """Markdown: one line for what papers report, with the claims by verdict, and one for our own targets.

    Args:
        techniques: the judged claims of each technique, by its name.
    """
    papers = _of_kind(techniques, Kind.PAPER)
    targets = _of_kind(techniques, Kind.TARGET)
    if not papers and not targets:
        return "No claim yet.\n"
    sources = {one.claim.source.partition(":")[0] for _, one in papers}
    lines = [
        f"**{len(papers)} claims of {len(sources)} papers: {_counts(papers, _PAPER)}.** "
        f"And {len(targets)} targets of our own: {_counts(targets, _TARGET)}. *Undecided* means that the 95 % interval "
        "holds the bar, or that seeds or an interval are missing; *mixed*, that conditions differ.\n\n"
    ]
    for verdict in _PAPER:
        some = [f"{one.claim.short} (`{name}`)" for name, one in papers if _verdict(one) == verdict]
        if some:
            lines.append(f"* {str(verdict).capitalize()}: {'; '.join(some)}.\n")
    return "".join(lines)


def _of_kind(techniques: Mapping[str, Sequence[Judged]], kind: Kind) -> list[tuple[str, Judged]]:
    return [(name, one) for name, found in techniques.items() for one in found if one.claim.kind is kind]


def _verdict(one: Judged) -> str:
    return _MIXED if one.verdict is None and one.measured else one.verdict or Verdict.NOT_RUN


def _counts(found: Sequence[tuple[str, Judged]], order: Sequence[str]) -> str:
    """`2 reproduced, 0 not reproduced, 5 undecided`: the first three always, the others where there are some."""
    verdicts = [_verdict(one) for _, one in found]
    counted = [(verdicts.count(verdict), str(verdict)) for verdict in order]
    return ", ".join(f"{n} {name}" for i, (n, name) in enumerate(counted) if n or i < 3)
