"""Word errors of published records under today's normalisers, from their raw hypotheses.

A record is never changed. Where a normaliser has a newer version than the one that a record was scored with, its
figures are computed again from the record's rows, so that every figure of a table has the same version; the row's
`normaliser_version` says which.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from edgespeech.corpora.corpora import find_split
from edgespeech.corpora.fetch import manifest_of
from edgespeech.corpora.manifest import Utterance
from edgespeech.corpora.phrases import load_phrases
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.score import accuracy_row
from edgespeech.records.records import AccuracyRow, Record, load_record, load_records, load_rows
from edgespeech.text.normalise import normalisers


def current_records(folder: Path) -> list[Record]:
    """Every record of a folder (`load_records`), its word errors under today's normalisers.

    Raises:
        EdgeSpeechError: as `load_records` and `load_rows`.
    """
    return [current(folder, record) for record in load_records(folder)]


def current(folder: Path, record: Record, *, every: bool = False) -> Record:
    """A record that lies in `folder`, its word errors under today's normalisers.

    A figure of a normaliser that is no longer here stays as it is, as does that of a record without rows. With `every`,
    those of today's version are computed again too.

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
    return record.model_copy(update={"accuracy": {**record.accuracy, **again}})


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
    if manifest.sha256 != manifest_sha256:
        return {}, bias
    return {utterance.id: utterance.context for utterance in manifest.utterances}, bias
