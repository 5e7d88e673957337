import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgespeech.core import files
from edgespeech.errors import EdgeSpeechError


def test_a_file_is_written_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "file.txt"
    files.write_atomic(path, "gréat\n")
    assert path.read_bytes() == "gréat\n".encode()
    files.write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(path.parent.iterdir()) == [path]


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    files.write_atomic(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    path.write_text("old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EdgeSpeechError, match=r"record\.json: could not be written: No space left on device"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("old")
    program = (
        "import os, signal, sys; from pathlib import Path; from edgespeech.core import files;"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL);"
        "files.write_atomic(Path(sys.argv[1]), 'new')"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="could not be written"):
        files.write_atomic(tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


def test_hash_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert files.sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(bytes(3_000_000))
    assert files.sha256_file(path) == hashlib.sha256(bytes(3_000_000)).hexdigest()
    with pytest.raises(EdgeSpeechError, match=r"gone: could not be read: No such file"):
        files.sha256_file(tmp_path / "gone")


def test_the_project_is_found_from_the_package() -> None:
    assert (files.project_root() / "src" / "edgespeech" / "contracts.py").is_file()


def test_the_project_is_found_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "__file__", str(tmp_path / "site-packages" / "files.py"))
    deep = tmp_path / "checkout" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    with pytest.raises(EdgeSpeechError, match="no EdgeSpeech checkout here or above"):
        files.project_root()
    checkout: Any = tmp_path / "other"
    (checkout / "deep").mkdir(parents=True)
    (checkout / "pyproject.toml").write_text('[project]\nname = "edgespeech"\n')
    monkeypatch.chdir(checkout / "deep")
    assert files.project_root() == checkout


def test_the_mirror_is_named_or_beside_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(tmp_path))
    assert files.mirror_root() == tmp_path
    monkeypatch.setenv("EDGESPEECH_MIRROR", "")
    assert files.mirror_root() is None
    monkeypatch.setenv("EDGESPEECH_MIRROR", str(tmp_path / "gone"))
    with pytest.raises(EdgeSpeechError, match=r"EDGESPEECH_MIRROR is .*gone', expected an existing folder"):
        files.mirror_root()
    monkeypatch.delenv("EDGESPEECH_MIRROR")
    monkeypatch.setattr(files, "project_root", lambda: tmp_path / "checkout")
    assert files.mirror_root() is None
    (tmp_path / "shared" / "mirror").mkdir(parents=True)
    assert files.mirror_root() == tmp_path / "shared" / "mirror"


def test_the_work_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    assert files.work_dir() == tmp_path / "work"
    assert (tmp_path / "work").is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "file"))
    with pytest.raises(EdgeSpeechError, match="could not be made"):
        files.work_dir()
