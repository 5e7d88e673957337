"""What a command must offer to be disturbed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

Files = dict[str, Any]
"""Contents by path."""
Worked = Callable[[], None]
"""Called for each unit of work (an utterance, a step) that a command does."""


class Command(Protocol):
    """A command in a folder of its own.

    Attributes:
        name: of the command.
        warms: whether the process that forks may run it too; where torch has computed gradients, no fork can.
    """

    name: str
    warms: bool

    def prepare(self, folder: Path) -> None:
        """Make what the command reads."""

    def run(self, folder: Path, worked: Worked) -> None:
        """Run the command, from the start or again."""

    def half_written(self, folder: Path, before: Files, after: Files) -> list[str]:
        """What somebody who looks at the folder now would take for whole, and is not.

        Args:
            folder: after a disturbance.
            before: what was there before the command.
            after: what an undisturbed command leaves.

        Raises:
            EdgeSpeechError: the same, as a reader says it.
        """

    def kept(self, folder: Path) -> int:
        """Units of work that are finished and need not be done again."""

    def end(self, folder: Path) -> Files:
        """All that is in the folder, by path, without clocks and ids of runs."""


def files(folder: Path) -> Files:
    """The content of every file."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
