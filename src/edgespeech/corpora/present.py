"""Which splits are on this machine, which must be fetched first, and which no source gives here."""

from __future__ import annotations

from enum import StrEnum

from edgespeech.core.places import work_dir
from edgespeech.corpora.corpora import Corpus, Source, find_split
from edgespeech.corpora.download import UnavailableError

# Private there, since giving them other names would change the hash of the code that measures.
from edgespeech.corpora.fetch import fetched_manifest, local_folder


class Presence(StrEnum):
    """Whether a split can be used now."""

    HERE = "here"
    TO_FETCH = "to fetch"
    NO_SOURCE = "no source"


def presence(corpus: Corpus, name: str) -> Presence:
    """Whether a split is here. Only looks whether its manifest is there: nothing is read, hashed or downloaded.

    Args:
        corpus: that has it.
        name: of the split.
    """
    found = [
        _of_source(corpus, name, source) for source in corpus.sources if name in corpus.covered_by(source)
    ]
    return min(found, key=list(Presence).index, default=Presence.NO_SOURCE)


def _of_source(corpus: Corpus, name: str, source: Source) -> Presence:
    if source.held_out:  # made from other splits, without a download where these are here
        others = [presence(find_split(other)[0], other) for other in source.held_out.splits]
        return max(others, key=list(Presence).index)
    split = corpus.splits[name]
    if source.remote:
        folder = work_dir() / "corpora" / corpus.name
        if fetched_manifest(folder, name, split).is_file() and not (folder / ".unfinished").exists():
            return Presence.HERE
        return Presence.NO_SOURCE if source.reader is None else Presence.TO_FETCH
    try:
        there = (local_folder(source) / split.manifest).is_file()
    except UnavailableError:
        there = False
    return Presence.HERE if there else Presence.NO_SOURCE
