"""What a measurement reads: manifests, utterances and models note themselves while somebody listens.

A page measures many things by many functions; so that its record names every corpus and every model, what loads these
notes it here. Nothing is noted outside of `noting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class Used:
    """What was read.

    Attributes:
        manifests: sha256 by the corpus's name.
        models: sha256 by the file's name.
        whole: utterances of each manifest; `chosen`: of the largest subset of it that was asked for.
    """

    manifests: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    whole: dict[str, int] = field(default_factory=dict)
    chosen: dict[str, int] = field(default_factory=dict)

    @property
    def utterances(self) -> dict[str, int]:
        """Of each corpus: of the largest subset, or all where none was asked for."""
        return {name: self.chosen.get(name, count) for name, count in self.whole.items()}


_USED: ContextVar[Used | None] = ContextVar("used", default=None)


@contextmanager
def noting() -> Iterator[Used]:
    """Note what is read in this block, by this thread."""
    token = _USED.set(used := Used())
    try:
        yield used
    finally:
        _USED.reset(token)


def note_manifest(name: str, sha256: str, utterances: int) -> None:
    """A manifest was read."""
    if (used := _USED.get()) is not None:
        used.manifests[name] = sha256
        used.whole[name] = utterances


def note_subset(name: str, utterances: int) -> None:
    """So many of a manifest's utterances were chosen."""
    if (used := _USED.get()) is not None:
        used.chosen[name] = max(utterances, used.chosen.get(name, 0))


def note_model(name: str, sha256: Callable[[], str]) -> None:
    """A model's file was read; it is hashed only while somebody listens."""
    if (used := _USED.get()) is not None:
        used.models[name] = sha256()
