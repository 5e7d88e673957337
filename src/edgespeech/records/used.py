"""Registration of the manifests, utterances and models that a measurement reads.

A page's measurements are spread over many functions; so that its record names every corpus and every model, their
loaders register them here. Outside of `noting` nothing is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class Used:
    """The files read.

    Attributes:
        manifests: sha256 by the corpus's name.
        models: sha256 by the file's name.
        whole: number of utterances of each manifest; `chosen`: of the largest subset used.
    """

    manifests: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    whole: dict[str, int] = field(default_factory=dict)
    chosen: dict[str, int] = field(default_factory=dict)

    @property
    def utterances(self) -> dict[str, int]:
        """Number of utterances of each corpus: of the largest subset, or all without subsets."""
        return {name: self.chosen.get(name, count) for name, count in self.whole.items()}


_USED: ContextVar[Used | None] = ContextVar("used", default=None)


@contextmanager
def noting() -> Iterator[Used]:
    """Register what this thread reads in this block."""
    token = _USED.set(used := Used())
    try:
        yield used
    finally:
        _USED.reset(token)


def note_manifest(name: str, sha256: str, utterances: int) -> None:
    """Register a manifest."""
    if (used := _USED.get()) is not None:
        used.manifests[name] = sha256
        used.whole[name] = utterances


def note_subset(name: str, utterances: int) -> None:
    """Register the size of a subset of a manifest."""
    if (used := _USED.get()) is not None:
        used.chosen[name] = max(utterances, used.chosen.get(name, 0))


def note_model(name: str, sha256: Callable[[], str]) -> None:
    """Register a model's file; it is hashed only within `noting`."""
    if (used := _USED.get()) is not None:
        used.models[name] = sha256()
