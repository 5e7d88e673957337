"""Files and folders: safe writes, hashes, where the project, its mirror and its work folder are."""

from __future__ import annotations

import hashlib
import os
import tempfile
import tomllib
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from edgespeech.errors import EdgeSpeechError, bad

_BLOCK = 1 << 20


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader, a crash or a full disk only ever sees the old file or the whole new one.

    Args:
        path: where to; its folder is made when it is missing.
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
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be read: {error.strerror or error}") from error
    return digest.hexdigest()


def project_root() -> Path:
    """The folder of the checkout: the nearest one above this package, or above the working directory, whose
    `pyproject.toml` names this project.

    Raises:
        EdgeSpeechError: there is none.
    """
    for start in (Path(__file__).resolve(), Path.cwd()):
        for folder in (start, *start.parents):
            if _is_project(folder / "pyproject.toml"):
                return folder
    raise EdgeSpeechError(f"{Path.cwd()}: no EdgeSpeech checkout here or above, expected to run inside one")


@lru_cache(maxsize=64)
def _is_project(pyproject: Path) -> bool:
    try:
        content = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(content.get("project", {}).get("name") == "edgespeech")


def mirror_root() -> Path | None:
    """The local copy of the public corpora, or None when there is none.

    `EDGESPEECH_MIRROR` names it (empty: use no mirror); else it is `../shared/mirror` beside the checkout.

    Raises:
        EdgeSpeechError: `EDGESPEECH_MIRROR` names a folder that does not exist.
    """
    named = os.environ.get("EDGESPEECH_MIRROR")
    if named is not None:
        if not named:
            return None
        if not Path(named).is_dir():
            raise bad("environment", "EDGESPEECH_MIRROR", named, "an existing folder, or empty for no mirror")
        return Path(named)
    folder = project_root().parent / "shared" / "mirror"
    return folder if folder.is_dir() else None


def work_dir() -> Path:
    """The folder that holds everything fetched and generated, made when missing.

    `EDGESPEECH_WORK` names it; else it is `.work` in the checkout.

    Raises:
        EdgeSpeechError: it cannot be made.
    """
    named = os.environ.get("EDGESPEECH_WORK")
    folder = Path(named).resolve() if named else project_root() / ".work"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeSpeechError(f"{folder}: could not be made: {error.strerror or error}") from error
    return folder


def explain(where: str, error: ValidationError, known: tuple[str, ...] = ()) -> EdgeSpeechError:
    """Turn a pydantic error into one message with the place, the field, the value and what was expected.

    Args:
        where: the file, with a line number where there is one.
        error: what pydantic raised; its first problem is told, the others are counted.
        known: the accepted keys, shown when the problem is an unknown one.
    """
    problems = error.errors(include_url=False)
    first = problems[0]
    field = ".".join(str(part) for part in first["loc"]) or "content"
    if first["type"] == "missing":
        told = EdgeSpeechError(f"{where}: {field} is missing, expected a value")
    elif first["type"] == "extra_forbidden":
        expected = f"one of {', '.join(known)}" if known else "no such key"
        told = EdgeSpeechError(f"{where}: unknown key {field!r}, expected {expected}")
    elif first["type"] == "json_invalid":
        told = EdgeSpeechError(f"{where}: not JSON: {first['ctx']['error']}")
    else:
        expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        told = bad(where, field, first["input"], expected[:1].lower() + expected[1:])
    if len(problems) > 1:
        told = EdgeSpeechError(f"{told} (and {len(problems) - 1} more)")
    return told
