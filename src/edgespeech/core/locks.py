"""Locks between processes; the system frees those of a process that is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from edgespeech.errors import EdgeSpeechError


class Handle(Protocol):
    """An open file or folder."""

    def fileno(self) -> int:
        """Its descriptor."""

    def close(self) -> None:
        """Close it, which frees its lock."""


AnyHandle = TypeVar("AnyHandle", bound=Handle)


def own(path: Path, opened: Callable[[], AnyHandle]) -> AnyHandle:
    """A file or folder that no other process changes while this one holds it open.

    Whoever owned it before may have renamed or removed it, so the name is looked up again once the lock is there.

    Args:
        path: its name.
        opened: opens what has this name, and makes it if it is missing.

    Raises:
        OSError: as `opened`.
    """
    while True:
        handle = opened()
        try:
            # Where a file system has no locks, two at once are not kept apart.
            with contextlib.suppress(OSError):
                fcntl.flock(handle.fileno(), fcntl.LOCK_EX)
            if _is_still(path, handle.fileno()):
                return handle
        except BaseException:
            handle.close()
            raise
        handle.close()


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether an open file or folder has this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(path: Path, *, busy: str | None = None) -> Iterator[None]:
    """Hold a lock that is a file of its own; the file stays.

    Args:
        path: of the file; its folder exists.
        busy: what to say where another process holds the lock; None: wait for it.

    Raises:
        EdgeSpeechError: another process holds it, and `busy` is given.
        OSError: the file cannot be made.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if busy is None else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise EdgeSpeechError(busy) from error
        yield
