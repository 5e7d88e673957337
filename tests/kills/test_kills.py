"""A few of the points at which `kills.run` disturbs every command, and that the page shows what all of them gave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kills.commands import COMMANDS
from kills.points import in_child
from kills.run import OTHERS, PAGE, published, rendered, table


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_disturbed_a_command_loses_nothing_and_leaves_nothing_half_written(name: str) -> None:
    """In a process of its own: what torch has started in this one does not survive a fork."""
    script = Path(__file__).with_name("run.py")
    done = subprocess.run(
        [sys.executable, str(script), "--command", name, "--every", "23", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)["commands"]
    assert [one["disturbance"] for one in found] == ["kill", *OTHERS.get(name, ())]
    assert [problem for one in found for problem in one["problems"]] == []
    assert all(one["tried"] for one in found)
    assert done.returncode == 0


PROGRAM = "(folder / 'a').write_text('1234'); (folder / 'a').rename(folder / 'b'); (folder / 'b').unlink()"


@pytest.mark.parametrize(
    ("at", "left"), [(0, {}), (1, {"a": ""}), (2, {"a": "12"}), (3, {"a": "1234"}), (4, {"b": "1234"})]
)
def test_a_point_is_before_each_operation_and_in_the_middle_of_each_write(
    tmp_path: Path, at: int, left: dict[str, str]
) -> None:
    folder = tmp_path.resolve()
    assert in_child(folder, at, PROGRAM) == -9
    assert {path.name: path.read_text() for path in folder.iterdir()} == left


def test_without_a_point_nothing_is_disturbed(tmp_path: Path) -> None:
    assert in_child(tmp_path.resolve(), 5, PROGRAM + "; sys.exit(len(points.seen))") == 5


def test_what_is_elsewhere_is_not_watched(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    elsewhere = PROGRAM.replace("folder /", "folder.parent /") + "; sys.exit(len(points.seen))"
    assert in_child(tmp_path.resolve() / "here", 0, elsewhere) == 0


def test_the_page_shows_the_records() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rendered(page, published()) == page


def test_the_table_has_the_newest_result_of_each_command() -> None:
    def record(day: int, command: str, tried: int) -> dict[str, Any]:
        one = {"command": command, "disturbance": "kill", "tried": tried, "problems": [{"point": 1}] * 2}
        return {"at": f"2026-01-0{day}T00:00:00", "commit": 40 * str(day), "commands": [one]}

    lines = table([record(1, "fetch", 5), record(2, "train", 6), record(3, "fetch", 7)]).splitlines()
    assert lines[2:4] == [
        "| `train` | kill | 6 | 1 | 222222222222, 2026-01-02 |",
        "| `fetch` | kill | 7 | 1 | 333333333333, 2026-01-03 |",
    ]
    assert lines[-1] == "13 kills in all."
