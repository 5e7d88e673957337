"""Write points: every moment at which a process changes files, and what may happen to the process there.

A point comes before each operation that changes something below a folder (a file is made or cut to nothing, written,
renamed, removed; a folder is made or removed), and another in the middle of each write, when half of its bytes are in
the file. A kill after an operation is the kill before the next one, or the end. Operations are those that Python asks
of the system, so nothing has to be changed in the code that is tested; what another process writes is not seen.
"""

from __future__ import annotations

import _io
import builtins
import errno
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

Disturbance = Literal["kill", "full disk", "Ctrl-C"]

CREATE, WRITE, MIDDLE, RENAME, REMOVE, FOLDER = "create", "write", "middle", "rename", "remove", "folder"
_open = io.open
NEED_SPACE = {CREATE, WRITE, MIDDLE, FOLDER}
"""Points at which a full disk matters."""


class Points:
    """Counts the points below a folder, and disturbs the process at one of them.

    Made in a process that ends soon: what it changes of the interpreter stays changed.

    Attributes:
        seen: the kind of each point so far.
    """

    def __init__(self, folder: Path, at: int | None = None, disturbance: Disturbance = "kill") -> None:
        """Watch a folder.

        Args:
            folder: without links in its path.
            at: the point of the disturbance, from 0 on; None only counts.
            disturbance: a kill; from the point on, no space on the disk; or an interrupt from the keyboard.
        """
        self.seen: list[str] = []
        self._folder = f"{folder}{os.sep}"
        self._at = at
        self._disturbance = disturbance
        for module in (builtins, io, _io):
            setattr(module, "open", self._opened)  # noqa: B010 - `_io` declares no such name
        tarfile.bltn_open = self._opened  # type: ignore[attr-defined]  # its own name for the built-in one
        for name, kind in (
            ("rename", RENAME),
            ("replace", RENAME),
            ("unlink", REMOVE),
            ("remove", REMOVE),
            ("rmdir", REMOVE),
            ("mkdir", FOLDER),
        ):
            setattr(os, name, self._hooked(getattr(os, name), kind))

    def holds(self, path: Any, dir_fd: int | None = None) -> bool:
        """Whether a path, or an open file, is below the folder."""
        if isinstance(path, int):
            return os.readlink(f"/proc/self/fd/{path}").startswith(self._folder)
        name = os.fsdecode(path)
        if dir_fd is not None:
            name = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), name)
        return os.path.abspath(name).startswith(self._folder)

    def pass_by(self, kind: str) -> None:
        """A point: the disturbance, where it is the one."""
        number = len(self.seen)
        self.seen.append(kind)
        if self._at is None or number < self._at:
            return
        if self._disturbance == "full disk":
            if kind in NEED_SPACE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        elif number == self._at:
            if self._disturbance == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

    def _hooked(self, real: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def change(path: Any, *more: Any, **options: Any) -> Any:
            # What is there cannot be made, and what is missing not removed: nothing would change.
            if self.holds(path, folder := options.get("dir_fd")) and (kind == FOLDER) != _is_there(
                path, folder
            ):
                self.pass_by(kind)
            return real(path, *more, **options)

        return change

    def _opened(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        writes = not set(mode).isdisjoint("wax+")
        unnamed = not isinstance(file, int) and os.path.isdir(file)  # a temporary one
        if not writes or unnamed or not self.holds(file):
            return _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int) and ("w" in mode or not os.path.exists(file)):
            self.pass_by(CREATE)
        raw = _Raw(self, file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)


def _is_there(path: Any, dir_fd: int | None) -> bool:
    try:
        os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class _Raw(io.FileIO):
    """A file each of whose writes is two points: the system writes half of it, and the rest when it is asked again."""

    def __init__(self, points: Points, file: Any, mode: str, closefd: bool, opener: Any) -> None:
        super().__init__(file, mode, closefd, opener)
        self._points = points
        self._rest = 0

    def write(self, data: Any) -> int:
        content = bytes(data)
        if self._rest:
            self._points.pass_by(MIDDLE)
            self._rest = 0
            return super().write(content)
        self._points.pass_by(WRITE)
        done = super().write(content[: -(len(content) // -2)])
        self._rest = len(content) - done
        return done


def in_child(folder: Path, at: int, program: str) -> int:
    """Run a program whose files in a folder are watched; its exit status, or minus its signal."""
    watched = (
        "import os, sys; from pathlib import Path; from kills.points import Points\n"
        "folder = Path(sys.argv[1]); points = Points(folder, int(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", watched + program, str(folder), str(at)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False).returncode
