"""Word errors of a run by a field of its manifest: by gender, by kind of recording, by whatever its makers noted."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

from edgespeech.errors import bad
from edgespeech.metrics.word_errors import word_errors_of
from edgespeech.records.schema import Row
from edgespeech.report.text import NONE, markdown_table, number

NORMALISER = "whisper-en"
MISSING = "(none)"
"""The group of the utterances whose manifest line lacks the field."""


def groups_table(rows: Sequence[Row], field: str) -> str:
    """A Markdown table of word error rates under `whisper-en`, one row a value of the field, and all together.

    Args:
        rows: of a run.
        field: `speaker`, or one of the rows' `fields`.

    Raises:
        EdgeSpeechError: no row has such a field.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[_value(row, field)].append(row)
    if set(groups) <= {MISSING}:
        known = sorted({"speaker", *(name for row in rows for name in row.fields)})
        raise bad("--by", "field", field, f"one of {', '.join(known)}")
    head = (field, "n", "WER [95 %]", "Errors", "Reference words", "Failed")
    lines = [_line(value, groups[value]) for value in sorted(groups)]
    return markdown_table(head, [*lines, _line("all", list(rows))])


def _value(row: Row, field: str) -> str:
    value = row.speaker if field == "speaker" else row.fields.get(field)
    if value is None:
        return MISSING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _line(value: str, rows: Sequence[Row]) -> tuple[str, ...]:
    counter = word_errors_of([row.ref for row in rows], NORMALISER, [row.speaker for row in rows])
    errors, words = counter.errors([row.hyp_raw for row in rows]), counter.words
    shown = NONE
    if sum(words):
        rate = counter.rate(errors)
        shown = number(rate["wer"], "percent")
        if "low" in rate:
            shown += f" [{number(rate['low'], 'percent')}, {number(rate['high'], 'percent')}]"
    failed = sum(row.failure is not None for row in rows)
    return value, str(len(rows)), shown, str(sum(errors)), str(sum(words)), str(failed)
