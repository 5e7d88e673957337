"""Sentences of written corpora, for speech synthesis and for training language models."""

from __future__ import annotations

import csv
import json
import re
from functools import lru_cache
from pathlib import Path

from edgespeech.corpora.corpora import CorpusKind, Split, assert_trainable, find_split
from edgespeech.corpora.fetch import fetch, manifest_of
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.text.grammar import Split as Part
from edgespeech.text.grammar import split_of
from edgespeech.text.speakable import speakable
from edgespeech.text.spoken import plain

_WORDS = re.compile(r"[a-z']+(?: [a-z']+)*")
_COLUMN = "answer_from_anno"


def written(name: str, split: Part, *, longest: int = 16) -> list[str]:
    """The distinct sentences of a text split that belong to one part (`split_of`), in file order.

    Lines other than 1 to `longest` plain words are left out, and so is every sentence of any other split of the same
    corpus, since those are for evaluation or tuning.

    Args:
        name: of a text split, such as `slurp_lm`.
        split: which part.
        longest: words in a sentence, at most.

    Raises:
        EdgeSpeechError: an unknown split, one for evaluation only, one that is not text, or a file with an unexpected
            layout.
    """
    assert_trainable(name)
    corpus, name = find_split(name)
    if corpus.kind is not CorpusKind.TEXT:
        raise bad(name, "kind", corpus.kind.value, "a text corpus")
    others = {plain(line) for other in corpus.splits if other != name for line in lines_of(other)}
    found = dict.fromkeys(
        line
        for line in lines_of(name)
        if _WORDS.fullmatch(line)
        and line.count(" ") < longest
        and split_of(line) == split
        and plain(line) not in others
    )
    return list(found)


def lines_of(split: str) -> list[str]:
    """The sentences of a split of text or speech, or of a manifest (`.jsonl`).

    Sentences of a `prose` split are converted to spoken form (`edgespeech.text.speakable`), and left out if that fails;
    all others are as written.

    Raises:
        EdgeSpeechError: it is unknown, has no words, or its file has an unexpected layout.
    """
    if not split.endswith(".jsonl"):
        corpus, name = find_split(split)
        if corpus.kind is CorpusKind.TEXT:
            described = corpus.splits[name]
            path = fetch(name) / described.manifest
            stamp = path.stat()
            return list(_lines(path, described, stamp.st_mtime_ns, stamp.st_size))
    return [utterance.text for utterance in manifest_of(split).utterances]


@lru_cache(maxsize=64)
def _lines(path: Path, split: Split, *stamp: int) -> tuple[str, ...]:
    lines = _read(path, split)
    if split.prose:
        return tuple(said for line in lines if (said := speakable(line)) is not None)
    return tuple(lines)


def _read(path: Path, split: Split) -> list[str]:
    """Lines of a text file; of JSON lines, `text`; of a table, one column; of CLINC150's JSON, the part `select`s."""
    content = path.read_text(encoding="utf-8")
    rows = content.splitlines()
    try:
        if path.suffix == ".jsonl":
            return [json.loads(row)["text"] for row in rows]
        if path.suffix == ".csv":
            return [row[_COLUMN] for row in csv.DictReader(rows, delimiter=";")]
        if path.suffix == ".json":
            parts = [split.select.split] if split.select else []
            return [text for part in parts for text, _ in json.loads(content)[part]]
    except (KeyError, TypeError, ValueError) as error:
        raise EdgeSpeechError(f"{path}: not the layout that its name says: {error!r}") from error
    return rows
