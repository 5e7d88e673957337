"""Scoring a record's rows again: by present normalisers, for verification, and by groups.

A record is never changed. If a normaliser has a newer version than the one used for a record, its figures are
recomputed from the record's rows, so that all figures of a table have the same version, which is in the row's
`normaliser_version`. Recomputed figures are cached in the work folder under a hash of everything that determines them;
`verify` recomputes everything.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from edgespeech import metrics
from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import work_dir
from edgespeech.corpora.corpora import find_split
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Utterance
from edgespeech.corpora.phrases import load_phrases
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.harness.score import accuracy_row
from edgespeech.metrics.statistics import Interval, bootstrap_ratio, quantile
from edgespeech.metrics.wer import count_errors
from edgespeech.records.records import (
    AccuracyRow,
    Record,
    load_record,
    load_records,
    load_rows,
    plain,
    sha256_json,
)
from edgespeech.records.schema import NetworkTiming, Row, Timing
from edgespeech.text.normalise import normalisers

_DIGITS = 1e-6
"""Rows hold times to a microsecond."""


def current_records(folder: Path) -> list[Record]:
    """Every record of a folder (`load_records`), with word errors by the present normalisers.

    Raises:
        EdgeSpeechError: as `load_records` and `load_rows`.
    """
    return [current(folder, record) for record in load_records(folder)]


def current(folder: Path, record: Record, *, every: bool = False, keep: bool = True) -> Record:
    """A record in `folder`, with word errors by the present normalisers.

    Figures of normalisers or metrics that no longer exist are unchanged, as are those of records without rows. Metrics
    that are newer than the record add no figure. With `every`, figures of the present version are recomputed too.
    Without `keep`, nothing comes from an earlier process.

    Raises:
        EdgeSpeechError: its rows are missing or not valid.
    """
    known = normalisers()
    old = tuple(
        name
        for name, row in record.accuracy.items()
        if name in known and (every or row.normaliser_sha256 != known[name].sha256)
    )
    if not old or record.utterances_file is None:
        return record
    again = _rescored(folder / f"{record.stem}.json", old, keep=keep and not every)
    accuracy = {**record.accuracy, **{name: _like(record.accuracy[name], row) for name, row in again.items()}}
    return record.model_copy(update={"accuracy": accuracy})


def _like(stored: AccuracyRow, again: AccuracyRow) -> AccuracyRow:
    """A row with only those further figures that the record has, since metrics may have been added or removed."""
    further = {name: again.further.get(name, figure) for name, figure in stored.further.items()}
    return again.model_copy(update={"further": further})


@cache  # a published record never changes, and a report reads it more than once
def _rescored(path: Path, names: tuple[str, ...], keep: bool) -> dict[str, AccuracyRow]:
    """Word errors of a record's rows; with `keep`, cached by earlier processes."""
    record = load_record(path)
    phrases, bias = _phrases(record.corpus.name, record.corpus.manifest_sha256)
    kept = None
    if keep:
        decides = {
            "rows": record.utterances_sha256,  # `load_record` has compared it with the file
            "seed": record.seed,
            "normalisers": {name: normalisers()[name].sha256 for name in names},
            "phrases": [phrases, bias],
            "code": _scoring_code(tuple(metrics.__path__)),
        }
        kept = _kept(sha256_json(decides))
    if kept is not None:
        with suppress(OSError, ValueError, LookupError, TypeError):  # missing or damaged
            found = json.loads(kept.read_text(encoding="utf-8"))
            return {name: AccuracyRow.model_validate(found[name]) for name in names}
    made = _score(record, load_rows(path.parent, record), names, phrases, bias)
    if kept is not None:
        with suppress(EdgeSpeechError):
            write_atomic(
                kept, json.dumps({name: plain(row.model_dump(mode="json")) for name, row in made.items()})
            )
    return made


def _kept(key: str) -> Path | None:
    """The cache file of a scoring; None if there is no folder to write to."""
    try:
        return work_dir() / "rescored" / f"{key}.json"
    except EdgeSpeechError:
        return None


@cache
def _scoring_code(families: tuple[str, ...]) -> str:
    """Hash of the exact bytes of all modules and packages that count and resample words.

    Args:
        families: folders of metrics.
    """
    package = Path(__file__).parents[1]
    folders = [*map(Path, families), package / "text"]
    files = [
        *(path for folder in folders for path in folder.glob("*.py")),
        *(package / name for name in ("harness/score.py", "harness/rescore.py", "records/schema.py")),
    ]
    hashes = {str(path): sha256_file(path) for path in files}
    return sha256_json([hashes, {name: version(name) for name in ("jiwer", "numpy", "rapidfuzz")}])


def _score(
    record: Record,
    rows: Sequence[Row],
    names: tuple[str, ...],
    phrases: Mapping[str, tuple[str, ...]],
    bias: tuple[str, ...],
) -> dict[str, AccuracyRow]:
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
    """The phrases for B-WER and U-WER of a corpus: each utterance's own, and the corpus's.

    Only from manifests in the checkout with the record's hash: rendering tables downloads nothing.
    """
    try:
        found, name = find_split(corpus)
    except EdgeSpeechError:  # a user's own manifest
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
    """The result of verifying a record.

    Attributes:
        record: unchanged.
        wrong: descriptions of figures that differ from those of the rows.
        remarks: parts that could not be checked.
    """

    record: Record
    wrong: tuple[str, ...]
    remarks: tuple[str, ...]


def verify_record(path: Path) -> Verified:
    """Recompute a record's figures from its rows, as far as possible.

    Args:
        path: of the record, its rows beside it.

    Raises:
        EdgeSpeechError: the record or its rows cannot be read, or the rows' hash differs.
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
    wrong += [
        f"{name} is {stored:g}, the rows say {found:g}"
        for name, (stored, found) in _times(record, rows).items()
        if not math.isclose(stored, found, rel_tol=_DIGITS, abs_tol=_DIGITS)
    ]
    remarks = []
    known = normalisers()
    again = current(path.parent, record, keep=False)
    fresh = current(path.parent, again, every=True) if _is_of_today(record) else again
    for name, row in record.accuracy.items():
        errors = row.substitutions + row.deletions + row.insertions
        if row.hits + row.substitutions + row.deletions != row.ref_words or not math.isclose(
            row.wer.value * row.ref_words, errors, abs_tol=1e-3
        ):
            wrong.append(f"WER {name} is {row.wer.value}, its counts say {errors} of {row.ref_words}")
        if name not in known:
            remarks.append(f"normaliser {name} is not installed")
        elif row.normaliser_sha256 != known[name].sha256:
            now = again.accuracy[name].wer.value
            remarks.append(
                f"WER {name} is of version {row.normaliser_version}: {row.wer.value:.6f}; "
                f"of version {known[name].version}: {now:.6f}"
            )
        elif row != fresh.accuracy[name]:
            wrong.append(
                f"word errors under {name} are {row.wer.value}, the rows say {fresh.accuracy[name].wer.value}"
            )
    return Verified(record=record, wrong=tuple(wrong), remarks=tuple(remarks))


def _is_of_today(record: Record) -> bool:
    """Whether a record has word errors under a normaliser of today's version."""
    known = normalisers()
    return any(
        name in known and row.normaliser_sha256 == known[name].sha256 for name, row in record.accuracy.items()
    )


def _counts(record: Record, rows: list[Row]) -> dict[str, tuple[float, float]]:
    """Plain sums, as stored and as recomputed from the rows."""
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


def _times(record: Record, rows: list[Row]) -> dict[str, tuple[float, float]]:
    """Compute and user-perceived latency, as stored and as recomputed from the rows' times; nothing where an utterance
    failed, since its latency has no bound, or has no times.
    """
    timed = [row.timing for row in rows if row.timing is not None and row.failure is None]
    if len(timed) < len(rows):
        return {}
    calls = [seconds for timing in timed for seconds in timing.compute_s]
    found = {"chunk_max": max(calls)} if calls else {}
    for name, q in (("chunk_p50", 0.5), ("chunk_p99", 0.99)):
        found |= {name: quantile(calls, q)} if calls else {}
    if audio_s := sum(row.duration_s for row in rows):
        found["rtf"] = sum(calls) / audio_s
    pairs = {
        name: (record.latency[name].value, value) for name, value in found.items() if name in record.latency
    }
    for network, stored in record.networks.items():
        times = [_on(network, row, timing) for row, timing in zip(rows, timed, strict=True)]
        if any(one is None or one.failure is not None for one in times):
            continue
        delays = [one.upl_s for one in times if one is not None and one.upl_s is not None]
        known = {"upl_mean": sum(delays) / len(delays)} if delays else {}
        for name, q in (("upl_p50", 0.5), ("upl_p90", 0.9), ("upl_p99", 0.99)):
            known |= {name: quantile(delays, q)} if delays else {}
        for name, value in known.items():
            if name in stored.latency:
                pairs[f"{network}: {name}"] = (stored.latency[name].value, value)
                pairs[f"{network}: n of {name}"] = (stored.latency[name].n, len(delays))
    return pairs


def _on(network: str, row: Row, timing: Timing) -> NetworkTiming | None:
    """The times of an utterance over a network: those of `events_network` where all have the same."""
    return timing.networks.get(network) or timing.networks.get(row.events_network or "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Utterances of a run with the same value of one manifest field.

    Attributes:
        value: of the field; None if it is missing, or for all utterances.
        n: utterances; `n_failed` of them have no result.
        errors: word errors under `whisper-en`.
        ref_words: reference words.
        interval: of their ratio; None for one utterance, or without a reference word.
    """

    value: str | None
    n: int
    n_failed: int
    errors: int
    ref_words: int
    interval: Interval | None


def grouped(rows: Sequence[Row], field: str) -> list[Group]:
    """Word errors by the values of a manifest field, and at the end of all utterances.

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
