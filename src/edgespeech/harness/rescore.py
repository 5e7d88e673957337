"""From a record's rows to its figures once more: under today's normalisers, to verify them, and by groups.

A record is never changed. Where a normaliser has a newer version than the one that a record was scored with, its
figures are computed again from the record's rows, so that every figure of a table has the same version; the row's
`normaliser_version` says which.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgespeech.corpora.corpora import find_split
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Utterance
from edgespeech.corpora.phrases import load_phrases
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.score import accuracy_row
from edgespeech.metrics.statistics import Interval, bootstrap_ratio
from edgespeech.metrics.wer import count_errors
from edgespeech.records.records import AccuracyRow, Record, load_record, load_records, load_rows
from edgespeech.records.schema import Row
from edgespeech.text.normalise import normalisers

_DIGITS = 1e-6


def current_records(folder: Path) -> list[Record]:
    """Every record of a folder (`load_records`), its word errors under today's normalisers.

    Raises:
        EdgeSpeechError: as `load_records` and `load_rows`.
    """
    return [current(folder, record) for record in load_records(folder)]


def current(folder: Path, record: Record, *, every: bool = False) -> Record:
    """A record that lies in `folder`, its word errors under today's normalisers.

    A figure of a normaliser or a metric that is no longer here stays as it is, as does that of a record without rows. A
    metric that is younger than the record adds none. With `every`, those of today's version are computed again too.

    Raises:
        EdgeSpeechError: its rows are missing or not right.
    """
    known = normalisers()
    old = tuple(
        name
        for name, row in record.accuracy.items()
        if name in known and (every or row.normaliser_sha256 != known[name].sha256)
    )
    if not old or record.utterances_file is None:
        return record
    again = _rescored(folder / f"{record.stem}.json", old)
    accuracy = {**record.accuracy, **{name: _like(record.accuracy[name], row) for name, row in again.items()}}
    return record.model_copy(update={"accuracy": accuracy})


def _like(stored: AccuracyRow, again: AccuracyRow) -> AccuracyRow:
    """A row with those further figures alone that a record has: a metric may have come since, or gone."""
    further = {name: again.further.get(name, figure) for name, figure in stored.further.items()}
    return again.model_copy(update={"further": further})


@cache  # a published record never changes, and a report reads it more than once
def _rescored(path: Path, names: tuple[str, ...]) -> dict[str, AccuracyRow]:
    record = load_record(path)
    rows = load_rows(path.parent, record)
    phrases, bias = _phrases(record.corpus.name, record.corpus.manifest_sha256)
    spoken = [
        Utterance(
            id=row.id,
            audio_filepath="-",
            duration=row.duration_s,
            text=row.ref,
            speaker=row.speaker,
            context=phrases.get(row.id, ()),
        )
        for row in rows
    ]
    texts, known = [row.hyp_raw for row in rows], normalisers()
    return {name: accuracy_row(spoken, texts, known[name], bias, record.seed) for name in names}


@cache
def _phrases(corpus: str, manifest_sha256: str | None) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """What B-WER and U-WER of a corpus are scored by: each utterance's own phrases, and the corpus's.

    Only of what is in the checkout and is the record's: rendering tables downloads nothing.
    """
    try:
        found, name = find_split(corpus)
    except EdgeSpeechError:  # somebody's own manifest
        return {}, ()
    context = found.splits[name].context
    bias = () if context is None else load_phrases(context)
    if found.sources[0].embedded is None:
        return {}, bias
    manifest = manifest_of(name)
    if manifest.identity() != manifest_sha256:
        return {}, bias
    return {utterance.id: utterance.context for utterance in manifest.utterances}, bias


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Utterances of a run whose manifest says the same in one field.

    Attributes:
        value: what it says; None where it says nothing, or for all utterances.
        n: utterances; `n_failed` of them have no result.
        errors: word errors under `whisper-en`.
        ref_words: reference words.
        interval: of their ratio; None of one utterance, or without a reference word.
    """

    value: str | None
    n: int
    n_failed: int
    errors: int
    ref_words: int
    interval: Interval | None


def grouped(rows: Sequence[Row], field: str) -> list[Group]:
    """Word errors by a field of the manifest, by value, and at the end of all utterances.

    Args:
        rows: of a run.
        field: `speaker`, or one of the rows' `fields`.

    Raises:
        EdgeSpeechError: no row has such a field.
    """
    groups: dict[str | None, list[Row]] = defaultdict(list)
    for row in rows:
        value = row.speaker if field == "speaker" else row.fields.get(field)
        named = value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True)
        groups[named].append(row)
    if set(groups) <= {None}:
        known = sorted({"speaker", *(name for row in rows for name in row.fields)})
        raise bad("--by", "field", field, f"one of {', '.join(known)}")
    ordered = sorted(groups, key=lambda value: (value is not None, value or ""))
    return [*(_group(value, groups[value]) for value in ordered), _group(None, list(rows))]


def _group(value: str | None, rows: Sequence[Row]) -> Group:
    normalise = normalisers()["whisper-en"]
    counts = count_errors(normalise.all([r.ref for r in rows]), normalise.all([r.hyp_raw for r in rows]))
    errors, words = [count.errors for count in counts], [count.ref_words for count in counts]
    interval = None
    if sum(words) and len(rows) > 1:
        speakers = [row.speaker for row in rows]
        interval = bootstrap_ratio(errors, words, speakers if all(speakers) else [None] * len(rows), seed=0)
    return Group(
        value=value,
        n=len(rows),
        n_failed=sum(row.failure is not None for row in rows),
        errors=sum(errors),
        ref_words=sum(words),
        interval=interval,
    )
