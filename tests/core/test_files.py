import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgespeech.core import files
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.codec import Vocabulary
from edgespeech.lattice.files import read_lattice
from edgespeech.packed.edge_file import read_edge
from edgespeech.records.records import load_records


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


def test_what_a_kill_left_is_written_over(tmp_path: Path) -> None:
    path, left = tmp_path / "record.json", tmp_path / ".record.json.tmp"
    left.write_text("half of something that was longer")
    files.write_atomic(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    left.write_text("half of something")
    with files.owned(left) as file:
        assert file.tell() == 0


def test_writers_of_one_file_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    contents = [letter * 100_000 for letter in "abcdef"]
    with ThreadPoolExecutor(len(contents)) as pool:
        for _ in range(5):
            list(pool.map(lambda content: files.write_atomic(path, content), contents))
            assert path.read_text() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_is_added(tmp_path: Path) -> None:
    files.append_line(tmp_path / "new" / "log", "one")
    files.append_line(tmp_path / "new" / "log", "two")
    assert (tmp_path / "new" / "log").read_text() == "one\ntwo\n"
    with pytest.raises(EdgeSpeechError, match="could not be written"):
        files.append_line(tmp_path / "new", "three")


def test_a_folder_in_the_way_is_reported(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    "read",
    [
        files.sha256_file,
        load_yaml,
        lambda path: load_records(path.parent),
        lambda path: read_lattice(path, Vocabulary(("a",))),
        read_edge,
    ],
    ids=["hash", "yaml", "records", "lattice", "model"],
)
def test_a_pipe_that_nobody_writes_to_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "pipe.json"
    os.mkfifo(path)
    with pytest.raises((EdgeSpeechError, OSError), match="is a pipe or a device, expected a file"):
        read(path)


def test_a_key_twice_in_a_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"schema": 1, "status": "failed", "status": "passed"}')
    with pytest.raises(EdgeSpeechError, match="key is 'status', expected once"):
        load_records(tmp_path)
