"""Annotated requests: words with an intent and, where the corpus has them, slots; for training understanding.

Words are in the one spoken form of `edgespeech.text.spoken.plain`, token by token, so that written corpora, sentences
of grammars and recognised words meet: "12 oz" and "twelve oz" are the same. A token of several words hands its slot on
to all of them, and a token without words (punctuation) is left out.

ATIS and SNIPS have intents and slots line by line, HWU64 and SLURP by their annotations in brackets; CLINC150 has
intents alone.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from edgespeech.corpora.corpora import CorpusKind, find_split
from edgespeech.corpora.fetch import fetch
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.text.spoken import plain

OUTSIDE = "O"
"""The tag of a word outside of all slots; `B-NAME` begins one, `I-NAME` goes on."""
LABELS = {"atis", "snips"}
"""Corpora whose intents and slots are splits of their own: `SPLIT_intents`, `SPLIT_slots`."""
_SLOT = re.compile(r"\[\s*([^\s:\]]+)\s*:\s*([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for.

    Attributes:
        words: in spoken form, at least one.
        intent: as its corpus names it.
        tags: one for each word, `O`, `B-NAME` or `I-NAME`; None where the corpus has no slots.
    """

    words: tuple[str, ...]
    intent: str
    tags: tuple[str, ...] | None

    @property
    def text(self) -> str:
        """The words."""
        return " ".join(self.words)


def requests_of(split: str) -> tuple[Request, ...]:
    """The annotated requests of a text split, in file order; those without a word are left out.

    Raises:
        EdgeSpeechError: the split is unknown, has no intents, is not to be had here, or its file has an unexpected
            layout.
    """
    corpus, name = find_split(split)
    described = corpus.splits[name]
    if corpus.kind is not CorpusKind.TEXT:
        raise bad(name, "kind", corpus.kind.value, "a text corpus with intents")
    path = fetch(name) / described.manifest
    part = described.select.split if described.select else None
    labels = None
    if corpus.name in LABELS:
        labels = tuple(_file(f"{name}_{what}") for what in ("intents", "slots"))
    elif path.suffix not in _READERS:
        raise bad(name, "layout", path.name, f"one with intents: {', '.join(sorted(_READERS))}")
    stamp = path.stat()
    return _read(path, part, labels, stamp.st_mtime_ns, stamp.st_size)


def _file(split: str) -> Path:
    corpus, name = find_split(split)
    return fetch(name) / corpus.splits[name].manifest


@lru_cache(maxsize=32)
def _read(path: Path, part: str | None, labels: tuple[Path, ...] | None, *stamp: int) -> tuple[Request, ...]:
    del stamp
    try:
        found = list(_by_lines(path, labels) if labels else _READERS[path.suffix](path, part))
    except (KeyError, TypeError, ValueError) as error:
        raise EdgeSpeechError(f"{path}: not the layout that its name says: {error!r}") from error
    return tuple(request for request in found if request.words)


def _by_lines(path: Path, labels: tuple[Path, ...]) -> Iterator[Request]:
    """Files of as many lines: tokens, intents, tags."""
    rows = [file.read_text(encoding="utf-8").splitlines() for file in (path, *labels)]
    for number, (tokens, intent, tags) in enumerate(zip(*rows, strict=True), start=1):
        if len(tokens.split()) != len(tags.split()):
            raise bad(f"{labels[1]}:{number}", "tags", len(tags.split()), f"{len(tokens.split())}, as tokens")
        yield tagged(tokens.split(), tags.split(), intent.strip())


def _table(path: Path, part: str | None) -> Iterator[Request]:
    """HWU64: `scenario;intent;answer_annotation`, slots as `[name : words]`."""
    del part
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter=";"):
        yield annotated(row["answer_annotation"], f"{row['scenario']}_{row['intent']}")


def _lines(path: Path, part: str | None) -> Iterator[Request]:
    """SLURP: `intent` and `annotation`, slots as `[name : words]`."""
    del part
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield annotated(row["annotation"], row["intent"])


def _pairs(path: Path, part: str | None) -> Iterator[Request]:
    """CLINC150: pairs of text and intent, by part."""
    for text, intent in json.loads(path.read_text(encoding="utf-8"))[part]:
        yield Request(tuple(plain(text).split()), intent, None)


_READERS = {".csv": _table, ".jsonl": _lines, ".json": _pairs}


def annotated(text: str, intent: str) -> Request:
    """A request with its slots in brackets: `wake me at [time : five am]`.

    Args:
        text: with any number of `[name : words]`, not nested.
        intent: its intent.
    """
    tokens: list[str] = []
    tags: list[str] = []
    at = 0
    for match in _SLOT.finditer(text):
        before, inside = text[at : match.start()].split(), match[2].split()
        tokens += before + inside
        tags += [OUTSIDE] * len(before) + [f"{'I' if n else 'B'}-{match[1]}" for n in range(len(inside))]
        at = match.end()
    rest = text[at:].split()
    return tagged(tokens + rest, tags + [OUTSIDE] * len(rest), intent)


def tagged(tokens: Sequence[str], tags: Sequence[str], intent: str) -> Request:
    """A request in spoken form.

    Args:
        tokens: as written.
        tags: one for each token.
        intent: its intent.
    """
    words: list[str] = []
    told: list[str] = []
    lost = OUTSIDE
    for token, tag in zip(tokens, tags, strict=True):
        said = _spoken(token)
        if not said:
            lost = tag  # the beginning of a slot may be a token without words
            continue
        first = "B" + tag[1:] if tag[:2] == "I-" and lost == "B" + tag[1:] else tag
        words += said
        told += [first] + ["I" + tag[1:] if tag != OUTSIDE else tag] * (len(said) - 1)
        lost = OUTSIDE
    return Request(tuple(words), intent, tuple(told))


@lru_cache(maxsize=1 << 16)
def _spoken(token: str) -> tuple[str, ...]:
    return tuple(plain(token).split())


def slots_of(words: Sequence[str], tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The slots that tags mark: name, first word, one past the last. An `I-` without its beginning begins one."""
    found: list[tuple[str, int, int]] = []
    for place, tag in enumerate(tags[: len(words)]):
        if tag == OUTSIDE:
            continue
        name = tag[2:]
        if tag[0] == "I" and found and found[-1][0] == name and found[-1][2] == place:
            found[-1] = (name, found[-1][1], place + 1)
        else:
            found.append((name, place, place + 1))
    return found
