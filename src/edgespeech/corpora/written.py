"""Sentences of written corpora that speech may be synthesised from, or a language model trained on."""

from __future__ import annotations

import json
import re

from edgespeech.corpora.corpora import CorpusKind, assert_trainable, find_split
from edgespeech.corpora.fetch import fetch
from edgespeech.errors import bad
from edgespeech.text.grammar import Split, split_of
from edgespeech.text.spoken import plain

_WORDS = re.compile(r"[a-z']+(?: [a-z']+){0,15}")
"""One to sixteen words of letters and apostrophes: what the synthesiser says, and no longer than a request."""


def written(name: str, split: Split) -> list[str]:
    """The distinct sentences of a text split that belong to one of our own parts (`split_of`), in file order.

    Left out are lines that are not 1 to 16 plain words, and every sentence that any other split of the same
    corpus holds: those are kept for evaluation or tuning.

    Args:
        name: of a text split, such as `slurp_lm`: one sentence a line, or JSON lines with `text`.
        split: which part.

    Raises:
        EdgeSpeechError: an unknown split, one for evaluation only, or one that is not text.
    """
    assert_trainable(name)
    corpus, name = find_split(name)
    if corpus.kind is not CorpusKind.TEXT:
        raise bad(name, "kind", corpus.kind.value, "a text corpus")
    kept = {plain(line) for other in corpus.splits if other != name for line in _lines(other)}
    found = dict.fromkeys(
        line
        for line in _lines(name)
        if _WORDS.fullmatch(line) and split_of(line) == split and plain(line) not in kept
    )
    return list(found)


def _lines(name: str) -> list[str]:
    corpus, name = find_split(name)
    path = fetch(name) / corpus.splits[name].manifest
    rows = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(row)["text"] for row in rows] if path.suffix == ".jsonl" else rows
