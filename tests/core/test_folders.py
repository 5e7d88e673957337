"""Folders appear as a whole and files change together, also where a process is killed at any moment."""

from __future__ import annotations

import errno
import os
import threading
from itertools import count
from pathlib import Path

import pytest

from edgespeech.core import folders, places
from edgespeech.errors import EdgeSpeechError
from kills.points import in_child

FILL = (
    "from edgespeech.core.folders import make_folder, switch_files\n"
    "def fill(made):\n"
    "    for name in ('one', 'two/three'):\n"
    "        (made / name).parent.mkdir(exist_ok=True)\n"
    "        (made / name).write_text(name + ' new')\n"
)
NEW = {"one": "one new", "two/three": "two/three new"}
OLD = {"one": "old", "two/three": "old", "two/other": "kept"}


def fill(made: Path) -> None:
    for name, text in NEW.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("stale", [False, True])
def test_killed_at_any_moment_a_folder_is_whole_or_missing_and_nothing_stays(
    tmp_path: Path, stale: bool
) -> None:
    """A stale one is replaced: between the two renames there is none."""
    for at in count():
        base = tmp_path.resolve() / str(at)
        made = base / "made"
        base.mkdir()
        if stale:
            write(made, OLD)
        status = in_child(
            base, at, FILL + "make_folder(folder / 'made', fill, lambda path: (path / 'two/three').exists() and "
            "(path / 'two/three').read_text() != 'old')"
        )  # fmt: skip
        assert content(made) in ([NEW, OLD, {}] if stale else [NEW, {}])
        folders.make_folder(made, fill, lambda path: content(path) == NEW)
        assert content(made) == NEW
        assert [path.name for path in base.iterdir()] == ["made"]
        if status == 0:
            break
        assert status == -9
    assert at > 6


def test_killed_at_any_moment_files_are_all_old_or_all_new(tmp_path: Path) -> None:
    switched = 0
    for at in count():
        models = tmp_path.resolve() / str(at)
        write(models, OLD)
        status = in_child(models, at, FILL + "switch_files(folder, fill)")
        folders.finish_switch(models)
        found = {name: text for name, text in content(models).items() if not name.startswith(".")}
        assert found in (OLD, OLD | NEW)
        switched += found == OLD | NEW
        folders.switch_files(models, fill)
        assert content(models) == OLD | NEW
        assert not [path for path in models.iterdir() if path.name.startswith(".")]
        if status == 0:
            break
        assert status == -9
    assert 2 < switched < at


def test_a_switch_that_was_ended_is_finished_by_the_next_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "results" / "models"
    write(models, {"a/x": "old", ".switch/a/x": "new", ".switch/b/y": "new"})
    monkeypatch.setattr(places, "checkout", lambda: tmp_path)
    assert places.shipped_models() == models
    assert content(models) == {"a/x": "new", "b/y": "new"}


def test_a_switch_after_one_that_was_ended_loses_nothing_of_it(tmp_path: Path) -> None:
    write(tmp_path, {"a": "old", ".switch/b": "first"})
    folders.switch_files(tmp_path, lambda made: write(made, {"a": "second"}))
    assert content(tmp_path) == {"a": "second", "b": "first"}


def test_what_cannot_be_made_leaves_what_is_there(tmp_path: Path) -> None:
    def full(made: Path) -> None:
        fill(made)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(tmp_path / "made", OLD)
    with pytest.raises(EdgeSpeechError, match=r"made: could not be made: No space left on device"):
        folders.make_folder(tmp_path / "made", full, lambda _: False)
    with pytest.raises(EdgeSpeechError, match="could not be made: No space left on device"):
        folders.switch_files(tmp_path / "made", full)
    assert content(tmp_path) == {f"made/{name}": text for name, text in OLD.items()}


def test_of_several_at_once_one_makes_the_folder(tmp_path: Path) -> None:
    made = []

    def slow(folder: Path) -> None:
        made.append(folder)
        fill(folder)

    threads = [threading.Thread(target=folders.make_folder, args=(tmp_path / "made", slow)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert content(tmp_path / "made") == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
