"""Coffee orders with the menu as the list: what a device would have executed, beside a cloud that is told the same.

Transcripts of others come from their newest published records of all requests. Two parsers score all alike: the
grammar's, as in the headline table, and one that knows no sentences, only the words of slots, so that it favours no
search that was led by the grammar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from replication.context_biasing.hearing import NONE, hear_step, heard

from edgespeech.core.files import sha256_file
from edgespeech.core.places import records_dir
from edgespeech.corpora.manifest import Utterance
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.checks import Row
from edgespeech.harness.discovery import find_recogniser
from edgespeech.metrics.acceptance import accepted
from edgespeech.metrics.statistics import Interval, bootstrap_share, paired_ratio_difference
from edgespeech.records.records import Record, load_records, load_rows
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.text.grammar import Parse, load_grammar
from edgespeech.text.spoken import plain

ACCEPTANCE, AGAINST = "context_biasing.acceptance", "context_biasing.against_cloud"
Parser = Callable[[str], Parse | None]


def slot_parser(items: Sequence[Utterance]) -> Parser:
    """A parser that looks for the words of slots' values, wherever they stand: the longest value at each word.

    A slot of which two values are found has none of them.

    Args:
        items: labelled utterances of one intent; their labels are all the values that it knows.

    Raises:
        EdgeSpeechError: they have more than one intent.
    """
    intents = {item.intent for item in items}
    if len(intents) != 1 or (intent := intents.pop()) is None:
        raise EdgeSpeechError("peers: expected requests of one intent, all labelled")
    values = {
        tuple(plain(value).split()): (slot, value)
        for item in items
        for slot, value in (item.slots or {}).items()
    }
    longest = max(map(len, values), default=0)

    def parse(text: str) -> Parse:
        words, found, at = plain(text).split(), dict[str, set[str]](), 0
        while at < len(words):
            length = next((n for n in range(longest, 0, -1) if tuple(words[at : at + n]) in values), 0)
            if length:
                slot, value = values[tuple(words[at : at + length])]
                found.setdefault(slot, set()).add(value)
            at += max(length, 1)
        return Parse(intent, {slot: some.pop() for slot, some in found.items() if len(some) == 1})

    return parse


def peers(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Acceptance of every system, told the list or not, and its difference from the cloud that is told it."""
    how = config["peers"]
    ours = heard(hear_step(config, how["set"]))
    items = {case.spoken.id: case.spoken.item for case in ours.whole.cases}
    systems: dict[str, Mapping[str, str]] = {}
    for name, label in (
        (f"{EdgeFp32.name}, no list", NONE),
        (f"{EdgeFp32.name}, the list", f"list {how['list']}"),
    ):
        systems[name] = dict(zip(items, ours.texts[label], strict=True))
    records = load_records(records_dir())
    cloud = f"{how['cloud']}, the list as its prompt"
    wanted = {cloud: (how["cloud"], True), f"{how['cloud']}, no list": (how["cloud"], False)}
    wanted |= {f"{name}, the list as its grammar": (name, True) for name in how["grammars"]}
    wanted |= {f"{name}, the domain's grammar": (name, False) for name in how["closed"]}
    for name, (system, told) in wanted.items():
        found = published(records, system, how["set"], told=told)
        if isinstance(found, str):
            yield {"claim": ACCEPTANCE, "detail": name, "skipped": found}
            continue
        texts = {row.id: row.hyp_raw for row in load_rows(records_dir(), found)}
        if items.keys() <= texts.keys():
            systems[name] = {key: texts[key] for key in items}
        else:
            yield {"claim": ACCEPTANCE, "detail": name, "skipped": "its record lacks some of the utterances"}
    parsers: dict[str, Parser] = {
        "slots' words": slot_parser(list(items.values())),
        "grammar": load_grammar(how["grammar"]).parse,
    }
    systems["the reference words"] = {key: item.text for key, item in items.items()}
    groups = [item.speaker for item in items.values()]
    for parser, parse in parsers.items():
        flags = {
            name: [_accepted(parse(texts[key]), item) for key, item in items.items()]
            for name, texts in systems.items()
        }
        yield from _rows(parser, flags, cloud, groups, seed)


def _rows(
    parser: str, flags: Mapping[str, list[bool]], cloud: str, groups: list[str | None], seed: int
) -> Iterator[Row]:
    for name, right in flags.items():
        share, n = sum(right) / len(right), len(right)
        interval = bootstrap_share(right, groups, seed=seed)
        detail = f"{name}, parsed by {parser}"
        yield {"claim": ACCEPTANCE, "detail": detail, "measured": share, "n": n, **_ends(interval)}
    if cloud not in flags:
        yield {"claim": AGAINST, "detail": parser, "skipped": f"no transcripts of {cloud}"}
        return
    theirs = [float(not one) for one in flags[cloud]]
    for name, right in flags.items():
        if name == cloud or name.startswith("the reference"):
            continue
        wrong = [float(not one) for one in right]
        found = paired_ratio_difference(theirs, wrong, [1.0] * len(wrong), groups, seed=seed)
        detail = f"{name}, parsed by {parser}"
        yield {"claim": AGAINST, "detail": detail, "measured": found.difference, "n": len(wrong),
               **_ends(found.interval)}  # fmt: skip


def _ends(interval: Interval) -> Row:
    """The interval as fields of a row, and as data for the table."""
    return {**interval.as_row(), "interval": [interval.low, interval.high]}


def _accepted(parse: Parse | None, item: Utterance) -> bool:
    assert item.intent is not None  # as the parser checked
    return accepted(parse, item.intent, item.slots or {})


def published(records: Sequence[Record], system: str, corpus: str, *, told: bool) -> Record | str:
    """The newest record of a system on a whole corpus, or why none can be used.

    Args:
        records: all that are published.
        system: its name.
        corpus: the split.
        told: whether it had context phrases.
    """
    found = [
        one
        for one in records
        if one.system.name == system
        and one.corpus.name == corpus
        and one.corpus.subset is None
        and one.status == "passed"
        and one.condition.clean
        and one.condition.context is told
    ]
    if not found:
        return "no published record"
    newest = max(found, key=lambda one: one.created)
    files = getattr(find_recogniser(system), "files", None)
    if files is not None:
        now = {name: sha256_file(path) for name, path in files().items() if path.is_file()}
        if now.items() - newest.system.model_sha256.items():
            return f"its newest record, of {newest.created[:10]}, is of another model"
    return newest
