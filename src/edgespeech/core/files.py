"""Files: safe writes and hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path

from edgespeech.errors import EdgeSpeechError

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


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file atomically: after a crash or on a full disk there is the old file or the complete new one.

    Args:
        path: the file to write; its folder is created if missing.
        data: the whole content; text is written as UTF-8 with the line ends it has.

    Raises:
        EdgeSpeechError: the file cannot be written (no space, no permission). The old file is untouched and
            nothing is left beside it.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a written file has the permissions that open() would have given it.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


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
