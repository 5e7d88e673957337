import errno
import hashlib
import io
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from corpora.file_server import Server, leftovers
from edgespeech.corpora.corpora import Url
from edgespeech.corpora.download import UnavailableError, download, unpack
from edgespeech.errors import EdgeSpeechError


def source_of(server: Server, **changes: Any) -> Url:
    values = {"url": f"{server.url}/file", "sha256": hashlib.sha256(server.content).hexdigest()} | changes
    return Url.model_validate(values)


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    server.content = os.urandom(3_000_000)
    path = tmp_path / "file"
    download(source_of(server, bytes=3_000_000), path)
    download(source_of(server), path)
    assert path.read_bytes() == server.content
    assert server.asked == [None]
    assert leftovers(tmp_path) == ["file"]


def test_a_cut_download_goes_on_where_it_was_cut(server: Server, tmp_path: Path) -> None:
    server.content = os.urandom(3_000_000)
    server.cut_after = 1_200_000
    path = tmp_path / "file"
    with pytest.raises(UnavailableError, match="cut after 1200000 of 3000000 bytes"):
        download(source_of(server), path)
    assert not path.exists()
    with pytest.raises(UnavailableError, match="cut after 2400000 of 3000000 bytes"):
        download(source_of(server), path)
    server.cut_after = None
    download(source_of(server), path)
    assert path.read_bytes() == server.content
    assert server.asked == [None, "bytes=1200000-", "bytes=2400000-"]
    assert leftovers(tmp_path) == ["file"]


def test_a_server_without_ranges_sends_it_again(server: Server, tmp_path: Path) -> None:
    server.content, server.ranges = os.urandom(100_000), False
    (tmp_path / "file.part").write_bytes(b"something else")
    download(source_of(server), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content


def test_a_part_that_is_the_whole_is_only_verified(server: Server, tmp_path: Path) -> None:
    server.content = os.urandom(100_000)
    (tmp_path / "file.part").write_bytes(server.content)
    download(source_of(server), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content
    (tmp_path / "file").rename(tmp_path / "file.part")
    download(source_of(server, bytes=100_000), tmp_path / "file")
    assert server.asked == ["bytes=100000-"]


def test_a_wrong_hash_is_named_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.content = b"not what was published"
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(EdgeSpeechError, match=f"sha256 is {found}, expected {'a' * 64}"):
        download(source_of(server, sha256="a" * 64), tmp_path / "file")
    assert leftovers(tmp_path) == []


def test_a_wrong_size_is_named_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.content = b"not what was published"
    with pytest.raises(EdgeSpeechError, match="sends more than the 21 bytes that were expected"):
        download(source_of(server, bytes=21), tmp_path / "file")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_server_error_is_reported(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(UnavailableError, match=f"/file: the server answers {status} "):
        download(source_of(server), tmp_path / "file")
    assert leftovers(tmp_path) == []


def test_no_server_is_reported(server: Server, tmp_path: Path) -> None:
    source = source_of(server, url="http://127.0.0.1:1/file")
    with pytest.raises(UnavailableError, match="Connection refused"):
        download(source, tmp_path / "file")


def test_a_full_disk_is_reported_and_the_part_is_preserved(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = os.urandom(3_000_000)
    real = Path.open

    class Full(io.BufferedWriter):
        def write(self, block: Any) -> int:
            if self.tell() >= 1_000_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(block)

    def opened(path: Path, mode: str = "r", *rest: Any) -> Any:
        if path.suffix == ".part" and mode in {"ab", "wb"}:
            return Full(io.FileIO(path, mode.removesuffix("b")))
        return real(path, mode, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(EdgeSpeechError, match=r"no space left; the next try resumes at byte [0-9]+"):
            download(source_of(server), tmp_path / "file")
    assert leftovers(tmp_path) == ["file.part"]
    download(source_of(server), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content
    assert server.asked[-1] is not None


def test_progress_is_plain_lines_where_there_is_no_terminal(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.content = bytes(5 << 20)
    download(source_of(server), tmp_path / "file", progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"file: {5 << 20} of {5 << 20} bytes"
    assert 2 <= len(lines) <= 11


def test_progress_is_a_bar_on_a_terminal(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.content = bytes(1 << 20)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    download(source_of(server), tmp_path / "file", progress=True)
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../outside", "/tmp/edgespeech-outside", "a/../../outside"])
def test_an_archive_cannot_write_outside(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(EdgeSpeechError, match=r"evil\.tar\.gz: member is .*outside"):
        unpack(archive, tmp_path / "in")
    assert not Path(name).is_file()
    assert not (tmp_path / "outside").exists()


def test_a_damaged_archive_is_reported(tmp_path: Path) -> None:
    archive = tmp_path / "bad.tar.gz"
    archive.write_bytes(os.urandom(1000))
    with pytest.raises(EdgeSpeechError, match=r"bad\.tar\.gz: could not be unpacked"):
        unpack(archive, tmp_path / "in")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize("filtered", [True, False], ids=["with a filter", "without"])
@pytest.mark.parametrize(
    "members",
    [
        [member("../x")],
        [member("/tmp/x")],
        [member("a/../../x")],
        [member("C:/x")],
        [member("a", tarfile.SYMTYPE, "../..")],
        [member("a", tarfile.SYMTYPE, "/etc")],
        [member("a/b", tarfile.SYMTYPE, "../../x")],
        [member("a", tarfile.LNKTYPE, "../x")],
        [member("a", tarfile.LNKTYPE, "/etc/passwd")],
        [member("a", tarfile.SYMTYPE, "."), member("a/x")],
        [member("d", tarfile.DIRTYPE), member("d/a", tarfile.SYMTYPE, ".."), member("d/a/x")],
        [member("a", tarfile.SYMTYPE, "b"), member("a")],
        [member("a", tarfile.CHRTYPE)],
        [member("a", tarfile.FIFOTYPE)],
    ],
    ids=lambda members: (
        " ".join(f"{m.name}>{m.linkname}" for m in members) if isinstance(members, list) else None
    ),
)
def test_an_archive_that_leaves_its_folder_is_refused_with_and_without_the_library_s_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: list[tarfile.TarInfo], filtered: bool
) -> None:
    if not filtered:
        monkeypatch.delattr(tarfile, "data_filter")
    archive = tmp_path / "in" / "a.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as tar:
        for one in members:
            tar.addfile(one, io.BytesIO(b""))
    with pytest.raises(EdgeSpeechError, match=r"a\.tar: member is"):
        unpack(archive, tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.tar"]


def test_an_archive_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(member("a", size=5000), io.BytesIO(bytes(5000)))
    usage = type("Usage", (), {"free": 4000})
    monkeypatch.setattr("edgespeech.corpora.download.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(EdgeSpeechError, match="bytes, unpacked is 'over 5000'"):
        unpack(archive, tmp_path / "out")


def test_links_that_stay_inside_are_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(member("d/file", size=3), io.BytesIO(b"abc"))
        tar.addfile(member("d/link", tarfile.SYMTYPE, "../d/file"))
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "d" / "link").read_bytes() == b"abc"


def test_a_server_that_sends_more_than_was_published_is_cut_off(server: Server, tmp_path: Path) -> None:
    server.content = bytes(3_000_000)
    with pytest.raises(EdgeSpeechError, match="sends more than the 1000000 bytes that were expected"):
        download(source_of(server, bytes=1_000_000), tmp_path / "file")
    assert leftovers(tmp_path) == []
