"""Which errors dominate: the most frequent confusions of a run's rows, and a table of several runs'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgespeech.errors import bad
from edgespeech.metrics.wer import confusions, total
from edgespeech.metrics.word_errors import word_errors_of
from edgespeech.records.records import Row
from edgespeech.report.text import NONE, markdown_table, number
from edgespeech.text.normalise import normalisers

HEAD = (
    "Speech", "Utterances", "Words", "WER", "Utterances without an error", "Subst. / del. / ins.",
    "Substitutions", "Deletions", "Insertions",
)  # fmt: skip


def error_classes(rows: Sequence[Row], normaliser: str, *, seed: int, top: int) -> dict[str, Any]:
    """The errors of some utterances, as JSON.

    Args:
        rows: of one record, or some of them; at least two.
        normaliser: by which words are compared.
        seed: of the interval.
        top: how many of each kind.

    Returns:
        `utterances`, `words` (of the references), `wer` with its 95 % interval `low` and `high` (over speakers,
        where all rows name one), `right` (share of utterances without an error), the numbers of `substitutions`,
        `deletions` and `insertions`, and `most`: of each kind the most frequent, each a list of words and how
        often.

    Raises:
        EdgeSpeechError: there are fewer than two rows, or no reference words.
    """
    if len(rows) < 2:
        raise bad("error classes", "rows", len(rows), "at least 2")
    normalise = normalisers()[normaliser]
    refs, hyps = [normalise(row.ref) for row in rows], [normalise(row.hyp_raw) for row in rows]
    counter = word_errors_of([row.ref for row in rows], normaliser, [row.speaker for row in rows], seed=seed)
    counts = counter.counts([row.hyp_raw for row in rows])
    rate = counter.rate([count.errors for count in counts])
    summed, found = total(counts), confusions(refs, hyps, top=top)
    return {
        "utterances": len(rows),
        "words": summed.ref_words,
        "wer": rate["wer"],
        "low": rate["low"],
        "high": rate["high"],
        "right": sum(count.errors == 0 for count in counts) / len(counts),
        "substitutions": summed.substitutions,
        "deletions": summed.deletions,
        "insertions": summed.insertions,
        "most": {
            "substitutions": [list(item) for item in found.substitutions],
            "deletions": [list(item) for item in found.deletions],
            "insertions": [list(item) for item in found.insertions],
        },
    }


def classes_table(classes: Mapping[str, dict[str, Any]]) -> str:
    """What `error_classes` found, by the name of the speech, as Markdown. Of single errors, none are shown."""
    rows = []
    for name, found in classes.items():
        low, high = (number(found[end], "percent").removesuffix(" %") for end in ("low", "high"))
        kinds = ("substitutions", "deletions", "insertions")
        rows.append(
            (
                name,
                str(found["utterances"]),
                str(found["words"]),
                f"{number(found['wer'], 'percent')} [{low}, {high}]",
                number(found["right"], "percent"),
                " / ".join(str(found[kind]) for kind in kinds),
                *(_most(found["most"][kind]) for kind in kinds),
            )
        )
    return markdown_table(HEAD, rows)


def _most(items: Sequence[Sequence[Any]]) -> str:
    shown = [f"{' → '.join(words)} ({count})" for *words, count in items if count > 1]
    return ", ".join(shown) or NONE
