"""Downloads: resumable, verified before the file gets its final name, safely unpacked."""

from __future__ import annotations

import errno
import http.client
import logging
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from edgespeech.core.files import sha256_file
from edgespeech.corpora.corpora import Url
from edgespeech.errors import EdgeSpeechError, bad

_log = logging.getLogger(__name__)

_BLOCK = 1 << 20
_TIMEOUT_S = 60.0
_MAX_BYTES = 200 << 30
"""Maximum size of a download whose size is not published."""
_MAX_MEMBERS = 5_000_000


class _EndlessError(Exception):
    """The server sends more bytes than published."""


class UnavailableError(EdgeSpeechError):
    """A source or a whole corpus is not available here; its content is not known to be wrong."""


def download(source: Url, path: Path, *, progress: bool = False) -> None:
    """Download a file and verify it.

    Received bytes are stored in `<path>.part`, which the next call resumes; `path` is created once the file is complete
    and its hash is correct.

    Args:
        source: address, hash and size.
        path: the target file, in an existing folder. Nothing is done if it exists already.
        progress: show a bar on a terminal, and plain lines elsewhere.

    Raises:
        UnavailableError: the server cannot be reached, answers with an error, or the connection is cut.
        EdgeSpeechError: the size or hash differs (the message has both, and the file is removed), or the disk is full
            (the received part is preserved).
    """
    if path.exists():
        return
    part = path.with_name(path.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    if source.bytes is None or have < source.bytes:
        _log.info("getting %s, %d bytes of it are here", source.url, have)
        _receive(source, part, have, progress)
    size = part.stat().st_size
    if source.bytes is not None and size != source.bytes:
        part.unlink()
        raise EdgeSpeechError(f"{source.url}: size is {size} bytes, expected {source.bytes}")
    found = sha256_file(part)
    if found != source.sha256:
        part.unlink()
        raise EdgeSpeechError(f"{source.url}: sha256 is {found}, expected {source.sha256}")
    part.replace(path)


def _receive(source: Url, part: Path, have: int, progress: bool) -> None:
    """Append what is missing to a partial file."""
    request = urllib.request.Request(source.url)
    limit = source.bytes or _MAX_BYTES
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            if have and answer.status != http.client.PARTIAL_CONTENT:
                have = 0  # The server does not resume: from the start.
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length is not None else None
            with part.open("ab" if have else "wb") as file, _bar(part.stem, total, progress) as tell:
                while block := answer.read(_BLOCK):
                    if have + len(block) > limit:
                        raise _EndlessError
                    file.write(block)
                    have += len(block)
                    tell(have)
    except _EndlessError:
        part.unlink()
        raise EdgeSpeechError(f"{source.url}: sends more than the {limit} bytes that were expected") from None
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # All of it is here; the caller verifies.
        raise UnavailableError(f"{source.url}: the server answers {error.code} {error.reason}") from error
    except (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise UnavailableError(
            f"{source.url}: {error}; {have} bytes were received, and the next try resumes there"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise EdgeSpeechError(f"{part}: no space left; the next try resumes at byte {have}") from error
        raise EdgeSpeechError(f"{part}: could not be written: {error.strerror or error}") from error
    if total is not None and have < total:
        raise UnavailableError(f"{source.url}: cut after {have} of {total} bytes; the next try resumes there")


@contextmanager
def _bar(name: str, total: int | None, show: bool) -> Iterator[Callable[[int], None]]:
    """A function that displays how many bytes have been received."""
    if not show:
        yield lambda have: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

        columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(name, total=total)
            yield lambda have: bar.update(task, completed=have)
    else:
        said = -1

        def say(have: int) -> None:
            nonlocal said
            tenths = 10 * have // total if total else have // (100 * _BLOCK)
            if tenths > said:
                said = tenths
                print(f"{name}: {have} of {total or '?'} bytes", file=sys.stderr, flush=True)

        yield say


def _safe_members(archive: Path, tar: tarfile.TarFile, folder: Path) -> Iterator[tarfile.TarInfo]:
    """Every member, after checks that it stays in the folder and that all fit on the disk.

    Raises:
        EdgeSpeechError: a member is absolute, leaves the folder by its name or its link, is below a link, or is neither
            a file, a folder nor a link; or all together exceed the free disk space.
    """
    free = shutil.disk_usage(folder.parent).free
    needed = 0
    links: set[PurePosixPath] = set()
    for number, member in enumerate(tar):
        if number >= _MAX_MEMBERS:
            raise bad(str(archive), "members", f"over {_MAX_MEMBERS}", "at most so many")
        path = _inside(archive, member.name, member.name)
        if any(above in links for above in (path, *path.parents)):
            raise bad(str(archive), "member", member.name, "nothing at or below a link")
        if member.issym():
            _inside(archive, member.name, str(path.parent / member.linkname))
            links.add(path)
        elif member.islnk():
            _inside(archive, member.name, member.linkname)
        elif not (member.isfile() or member.isdir()):
            raise bad(str(archive), "member", member.name, "a file, a folder or a link")
        needed += member.size
        if needed > free:
            raise bad(str(archive), "bytes, unpacked", f"over {needed}", f"at most the {free} that are free")
        yield member


def _inside(archive: Path, member: str, name: str) -> PurePosixPath:
    """A path within the folder, its `..` resolved."""
    outside = bad(str(archive), "member", member, "a path that stays in the folder")
    if name.startswith(("/", "\\")) or ":" in name.split("/")[0] or "\0" in name:
        raise outside
    parts: list[str] = []
    for part in PurePosixPath(name).parts:
        if part == ".." and not parts:
            raise outside
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive into a new folder; members that would leave the folder are refused.

    Raises:
        EdgeSpeechError: the archive is damaged or holds such a member, or the disk is full.
    """
    try:
        with tarfile.open(archive) as tar:
            # Checked here because some Python versions have no filter in `tarfile`, or an unsafe one.
            members = list(_safe_members(archive, tar, folder))
            if hasattr(tarfile, "data_filter"):
                tar.extraction_filter = tarfile.data_filter
            tar.extractall(folder, members=members)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise EdgeSpeechError(f"{archive}: could not be unpacked: {error}") from error
