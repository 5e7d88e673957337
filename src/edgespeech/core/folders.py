"""Folders that appear as a whole, and files of a folder that change together."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from edgespeech.core.files import TEMPORARY
from edgespeech.core.locks import own
from edgespeech.errors import EdgeSpeechError

JOURNAL = ".switch"
"""The folder below a folder of `switch_files` with the new files that are not in their places yet."""


def make_folder(
    folder: Path, fill: Callable[[Path], None], is_whole: Callable[[Path], bool] = Path.is_dir
) -> None:
    """Make a folder that appears with all its files: after a crash there is none, or a complete one.

    The files are made in `.NAME.tmp` beside it, which is then renamed. What a killed process left there is removed by
    the next one that makes the same folder; of two at once, one waits, and then finds the folder.

    Args:
        folder: what to make; one that is there and not whole is replaced.
        fill: makes the files in the folder that it gets.
        is_whole: whether a folder is there and needs not be made.

    Raises:
        EdgeSpeechError: the folder cannot be written, or as `fill` does; nothing is left beside it.
    """
    temporary, old = (folder.with_name(f".{folder.name}.{end}") for end in (TEMPORARY[1:], "old"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _owned(temporary):
            try:
                for path in temporary.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                if not is_whole(folder):
                    fill(temporary)
                    if not is_whole(folder):  # where there are no locks, another may have been faster
                        shutil.rmtree(old, ignore_errors=True)
                        if folder.exists():
                            folder.rename(old)
                        temporary.rename(folder)
            finally:
                for path in (temporary, old):
                    shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        raise EdgeSpeechError(f"{folder}: could not be made: {error.strerror or error}") from error


def switch_files(folder: Path, fill: Callable[[Path], None]) -> None:
    """Change several files of a folder together: after a crash its readers find all the old ones, or all the new ones.

    The new files are first made in a folder of their own; renaming that to `JOURNAL` is the switch. Then each takes
    its place. If the process ends meanwhile, the next `finish_switch` puts the others in place.

    Args:
        folder: the folder; created if missing.
        fill: makes the new files in the folder that it gets, under the paths that they will have below `folder`.

    Raises:
        EdgeSpeechError: a file cannot be written, or as `fill` does.
    """
    finish_switch(folder)
    make_folder(folder / JOURNAL, fill)
    finish_switch(folder)


def finish_switch(folder: Path) -> None:
    """Put the files in place that a `switch_files` which was ended did not; what reads them calls this first.

    Raises:
        EdgeSpeechError: a file cannot be put in its place.
    """
    journal = folder / JOURNAL
    if not journal.is_dir():
        return
    try:
        with _owned(journal):
            for made in sorted(path for path in journal.rglob("*") if not path.is_dir()):
                place = folder / made.relative_to(journal)
                place.parent.mkdir(parents=True, exist_ok=True)
                made.replace(place)
            shutil.rmtree(journal)
    except OSError as error:
        raise EdgeSpeechError(
            f"{journal}: its files could not be put in place: {error.strerror or error}"
        ) from error


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """A folder, made if missing, that no other process changes meanwhile."""
    with contextlib.closing(own(folder, lambda: _Folder(folder))):
        yield


class _Folder:
    """A folder, made if missing, and open."""

    def __init__(self, folder: Path) -> None:
        while True:
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
            # Its owner may just have removed it, or given it its final name.
            with contextlib.suppress(FileNotFoundError):
                self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                return

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)
