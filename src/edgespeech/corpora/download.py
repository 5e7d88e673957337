"""Downloading: resumed where it was cut, verified before the file has its name, safely unpacked."""

from __future__ import annotations

import errno
import http.client
import logging
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgespeech.core.files import sha256_file
from edgespeech.corpora.corpora import Url
from edgespeech.errors import EdgeSpeechError

_log = logging.getLogger(__name__)

_BLOCK = 1 << 20
_TIMEOUT_S = 60.0


class UnavailableError(EdgeSpeechError):
    """A source, or a whole corpus, cannot be had here; nothing is known to be wrong with its content."""


def download(source: Url, path: Path, *, progress: bool = False) -> None:
    """Download a file and verify it.

    What has arrived is kept in `<path>.part`, from where the next call goes on; `path` appears when the whole
    file is there and its hash is right.

    Args:
        source: address, hash and size.
        path: where to; its folder exists. Nothing is done when it is there already.
        progress: show a bar on a terminal, and plain lines elsewhere.

    Raises:
        UnavailableError: the server cannot be reached, answers with an error, or the connection is cut.
        EdgeSpeechError: the size or hash is another one (both are named, and nothing is left behind), or the
            disk is full (what has arrived is kept).
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
                    file.write(block)
                    have += len(block)
                    tell(have)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # All of it is here; the caller verifies.
        raise UnavailableError(f"{source.url}: the server answers {error.code} {error.reason}") from error
    except (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise UnavailableError(
            f"{source.url}: {error}; {have} bytes are kept, the next try goes on there"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise EdgeSpeechError(f"{part}: no space left; {have} bytes are kept for the next try") from error
        raise EdgeSpeechError(f"{part}: could not be written: {error.strerror or error}") from error
    if total is not None and have < total:
        raise UnavailableError(f"{source.url}: cut after {have} of {total} bytes; the next try goes on there")


@contextmanager
def _bar(name: str, total: int | None, show: bool) -> Iterator[Callable[[int], None]]:
    """A function that is told how many bytes there are, and shows it."""
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


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive into a new folder; members that would leave the folder are refused.

    Raises:
        EdgeSpeechError: the archive is damaged or holds such a member, or the disk is full.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise EdgeSpeechError(f"{archive}: could not be unpacked: {error}") from error
