"""Word errors of a run by a field of its manifest, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from edgespeech.harness.rescore import Group, grouped
from edgespeech.records.schema import Row
from edgespeech.report.text import NONE, escaped, markdown_table, number


def groups_table(rows: Sequence[Row], field: str) -> str:
    """A Markdown table of word error rates under `whisper-en`, one row a value of the field, and all together.

    Args:
        rows: of a run.
        field: `speaker`, or one of the rows' `fields`.

    Raises:
        EdgeSpeechError: no row has such a field.
    """
    *groups, every = grouped(rows, field)
    head = (escaped(field), "n", "WER whisper-en [95 %]", "Errors", "Reference words", "Failed")
    lines = [_line(escaped(group.value or "(none)"), group) for group in groups]
    return markdown_table(head, [*lines, _line("all", every)])


def _line(name: str, group: Group) -> tuple[str, ...]:
    shown = NONE
    if group.ref_words:
        shown = number(group.errors / group.ref_words, "percent")
    if group.interval is not None:
        shown += f" [{number(group.interval.low, 'percent')}, {number(group.interval.high, 'percent')}]"
    return name, str(group.n), shown, str(group.errors), str(group.ref_words), str(group.n_failed)
