"""Whether a record's figures are those of its rows: a record that was edited by hand, or damaged, is found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgespeech.harness.rescore import current
from edgespeech.records.records import Record, load_record, load_rows
from edgespeech.records.schema import Row
from edgespeech.text.normalise import normalisers

_DIGITS = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What a record's rows say of it.

    Attributes:
        record: as it is.
        wrong: figures that are not those of the rows, each in words.
        remarks: what could not be checked.
    """

    record: Record
    wrong: tuple[str, ...]
    remarks: tuple[str, ...]


def verify_record(path: Path) -> Verified:
    """Recompute a record's figures from its rows, as far as rows tell them.

    Args:
        path: of the record, its rows beside it.

    Raises:
        EdgeSpeechError: the record or its rows cannot be read, or the rows' hash is another.
    """
    record = load_record(path)
    rows = load_rows(path.parent, record)
    if record.status != "passed":
        return Verified(record=record, wrong=(), remarks=(f"{record.status}: {record.reason}",))
    wrong = [
        f"{name} is {stored}, the rows say {found}"
        for name, (stored, found) in _counts(record, rows).items()
        if not math.isclose(stored, found, rel_tol=_DIGITS, abs_tol=1e-3)
    ]
    remarks = []
    known = normalisers()
    again = current(path.parent, record, every=True)
    for name, row in record.accuracy.items():
        errors = row.substitutions + row.deletions + row.insertions
        if row.hits + row.substitutions + row.deletions != row.ref_words or not math.isclose(
            row.wer.value * row.ref_words, errors, abs_tol=1e-3
        ):
            wrong.append(f"WER {name} is {row.wer.value}, its counts say {errors} of {row.ref_words}")
        if name not in known:
            remarks.append(f"normaliser {name} is not here")
        elif row.normaliser_sha256 != known[name].sha256:
            now = again.accuracy[name].wer.value
            remarks.append(
                f"WER {name} is of version {row.normaliser_version}: {row.wer.value:.6f}; "
                f"of version {known[name].version}: {now:.6f}"
            )
        elif row != again.accuracy[name]:
            wrong.append(
                f"word errors under {name} are {row.wer.value}, the rows say {again.accuracy[name].wer.value}"
            )
    return Verified(record=record, wrong=tuple(wrong), remarks=tuple(remarks))


def _counts(record: Record, rows: list[Row]) -> dict[str, tuple[float, float]]:
    """Plain sums, as stored and as the rows say them."""
    corpus = record.corpus
    found: dict[str, tuple[float, float]] = {
        "n_utterances": (corpus.n_utterances, len(rows)),
        "n_failed": (corpus.n_failed, sum(row.failure is not None for row in rows)),
        "audio_s": (corpus.audio_s, sum(row.duration_s for row in rows)),
        "ref_words": (corpus.ref_words, sum(len(row.ref.split()) for row in rows)),
    }
    judged = [row.accepted for row in rows if row.accepted is not None]
    if record.acceptance is not None and judged:
        found["acceptance"] = (record.acceptance.value, sum(judged) / len(judged))
    return found
