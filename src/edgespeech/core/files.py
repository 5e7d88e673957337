"""Files: safe writes and hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import BufferedWriter
from pathlib import Path

from edgespeech.core.locks import own
from edgespeech.errors import EdgeSpeechError

TEMPORARY = ".tmp"
"""How the name of a file ends while `write_atomic` writes it; a dot is before it."""
_BLOCK = 1 << 20


def visible(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that match a pattern, sorted, without hidden ones (macOS's `._` files, editor backups)."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def regular(path: Path) -> Path:
    """The path, unless it is a pipe or a device: reading one that nobody writes to never ends.

    Raises:
        OSError: it is one, or does not exist.
    """
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode):
        raise OSError(errno.EINVAL, "is a pipe or a device, expected a file", str(path))
    return path


def is_text(text: str) -> bool:
    """Whether a text can be written as UTF-8; one with half a character, as from a file's name, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file atomically: after a crash or on a full disk there is the old file or the complete new one.

    The content goes to `.NAME.tmp` beside the file, which then takes the file's name. What a killed process left there
    is written over by the next one that writes the same file; of two at once, one waits.

    Args:
        path: the file to write; its folder is created if missing.
        data: the whole content; text is written as UTF-8 with the line ends it has.

    Raises:
        EdgeSpeechError: the file cannot be written (no space, no permission, half a character). The old file is
            untouched and nothing is left beside it.
    """
    try:
        content = data.encode() if isinstance(data, str) else data
    except UnicodeEncodeError as error:
        raise EdgeSpeechError(f"{path}: could not be written: it holds half a character: {error}") from error
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with owned(temporary) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be written: {error.strerror or error}") from error


def owned(path: Path) -> BufferedWriter:
    """An empty file that no other process writes while this one holds it open.

    Raises:
        OSError: it cannot be made.
    """
    file = own(path, lambda: path.open("ab"))
    try:
        file.truncate(0)
        file.seek(0)  # what opens to append begins behind what a killed process left
    except BaseException:
        file.close()
        raise
    return file


def append_line(path: Path, line: str) -> None:
    """Add a line to a log.

    Raises:
        EdgeSpeechError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be written: {error.strerror or error}") from error


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in lower-case hexadecimal.

    Raises:
        EdgeSpeechError: the file is missing or unreadable.
    """
    digest = hashlib.sha256()
    try:
        with regular(path).open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be read: {error.strerror or error}") from error
    return digest.hexdigest()
