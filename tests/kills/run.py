"""Disturb every command at its write points: `python tests/kills/run.py --publish` does it at all of them.

Of each command one run is undisturbed, and counts its points (`kills.points`). Then, for each point, the command runs
again on the same files and is killed there (SIGKILL), in a process that is forked from this one, which has imported
everything. What is left must hold nothing half-written; the same command must then end, do none of the finished work
again, and leave the same files as the undisturbed one, clocks and ids of runs aside. `evaluate` and `train` also meet a
disk that is full from the point on, and Ctrl-C, and must say so in one line.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script, it imports what tests do
sys.path.insert(0, str(Path(__file__).parents[1]))

import typer

from edgespeech.core.files import write_atomic
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError, InterruptedRunError
from edgespeech.report.side_records import record_head, side_records, write_side_record
from edgespeech.report.text import markdown_table
from helpers_page import between_marks
from kills.base import Command, Files, files
from kills.commands import COMMANDS
from kills.points import NEED_SPACE, Disturbance, Points

FORMAT = "edgespeech-kills-1"
PAGE = project_root() / "docs" / "input.md"
EXPECTED: dict[Disturbance, int] = {"kill": -9, "full disk": 2, "Ctrl-C": 130}
OTHERS: dict[str, tuple[Disturbance, ...]] = dict.fromkeys(("train", "evaluate"), ("full disk", "Ctrl-C"))
"""What else a command meets besides kills."""


class Trials:
    """One command, disturbed again and again.

    Attributes:
        kinds: of the points that an undisturbed run has.
    """

    def __init__(self, command: Command, base: Path) -> None:
        """Prepare the command's files, and run it undisturbed."""
        self.command = command
        self._folder, self._template = base / "trial", base / "template"
        self._log, self._work, self._told = base / "log", base / "work", base / "told"
        self._folder.mkdir(parents=True)
        with contextlib.redirect_stdout(io.StringIO()):
            command.prepare(self._folder)
        shutil.copytree(self._folder, self._template)
        if command.warms:  # what this process has in its caches, each fork has
            with contextlib.redirect_stdout(io.StringIO()):
                command.run(self._folder, lambda: None)
            self._reset()
        self._before = files(self._folder)
        if self._process(None) != 0:
            raise AssertionError(f"{command.name}, undisturbed: {self._log.read_text()}")
        told = json.loads(self._told.read_text())
        self.kinds: list[str] = told["kinds"]
        for name in told["modules"]:  # once here, in place of in every process
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        self._units = self._work.stat().st_size
        self._after: Files = files(self._folder)
        self._end = command.end(self._folder)

    def _reset(self) -> None:
        shutil.rmtree(self._folder)
        shutil.copytree(self._template, self._folder)

    def _process(self, at: int | None, disturbance: Disturbance = "kill") -> int:
        """Run the command in a process of its own: its exit status, or minus its signal."""
        self._work.write_bytes(b"")
        if (pid := os.fork()) == 0:
            os._exit(self._in_process(at, disturbance))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _in_process(self, at: int | None, disturbance: Disturbance) -> int:
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        work = os.open(self._work, os.O_WRONLY | os.O_APPEND)
        points = Points(self._folder, at, disturbance)

        def worked() -> None:
            os.write(work, b".")

        status = _status(lambda: self.command.run(self._folder, worked))
        sys.stdout.flush()
        sys.stderr.flush()
        if at is None:
            self._told.write_text(json.dumps({"kinds": points.seen, "modules": list(sys.modules)}))
        return status

    def disturbed(self, at: int, disturbance: Disturbance) -> list[str]:
        """Disturb a run at a point, and run it again; returns what is wrong then."""
        self._reset()
        problems = []
        status = self._process(at, disturbance)
        if status != EXPECTED[disturbance]:
            problems.append(f"exit status {status}: {self._last_line()}")
        try:
            problems += [f"half-written: {what}" for what in self._half_written()]
            kept = self.command.kept(self._folder)
            if (status := self._process(None)) != 0:
                return [*problems, f"run again, exit status {status}: {self._last_line()}"]
            if self._work.stat().st_size > self._units - kept:
                problems.append(
                    f"{self._work.stat().st_size} of {self._units} units done again, {kept} were there"
                )
            problems += self._differing(self.command.end(self._folder))
        except Exception as error:
            problems.append(f"{type(error).__name__}: {error}")
        return problems

    def _half_written(self) -> list[str]:
        return self.command.half_written(self._folder, self._before, self._after)

    def _differing(self, end: Files) -> Iterator[str]:
        for name in sorted(end.keys() | self._end.keys()):
            if name not in end or name not in self._end:
                yield f"{name} is {'missing' if name not in end else 'left over'}"
            elif end[name] != self._end[name]:
                yield f"{name} differs"

    def _last_line(self) -> str:
        return "".join(self._log.read_text(errors="replace").splitlines(keepends=True)[-1:]).strip()


def _status(command: Callable[[], object]) -> int:
    """Run a command as `edgespeech.cli.main` does; its exit status."""
    try:
        command()
    except typer.Exit as error:
        return error.exit_code
    except InterruptedRunError as error:
        print(error)
        return 130
    except EdgeSpeechError as error:
        print(error)
        return 2
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run(
    names: list[str], every: int, told: Callable[[str], object] = sys.stderr.write
) -> list[dict[str, Any]]:
    """Disturb commands at every n-th of their points; what came of each command and disturbance."""
    found: list[dict[str, Any]] = []
    for command in COMMANDS:
        if command.name not in names:
            continue
        with tempfile.TemporaryDirectory() as base:
            trials = Trials(command, Path(base).resolve() / command.name)
            for disturbance in ("kill", *OTHERS.get(command.name, ())):
                meant = [
                    number
                    for number, kind in enumerate(trials.kinds)
                    if disturbance != "full disk" or kind in NEED_SPACE
                ]
                points = meant[len(found) % every :: every]
                problems = []
                for at in points:
                    for problem in trials.disturbed(at, disturbance):
                        problems.append({"point": at, "kind": trials.kinds[at], "problem": problem})
                        told(f"{command.name}, {disturbance} at {at} ({trials.kinds[at]}): {problem}\n")
                found.append(
                    {
                        "command": command.name,
                        "disturbance": disturbance,
                        "points": dict(Counter(trials.kinds)),
                        "tried": len(points),
                        "problems": problems,
                    }
                )
                told(f"{command.name}, {disturbance}: {len(points)} of {len(meant)} points\n")
    return found


def published() -> list[dict[str, Any]]:
    """The records, oldest first."""
    return side_records("kills")


def table(records: Sequence[dict[str, Any]]) -> str:
    """The newest results of each command and disturbance, as Markdown."""
    head = ("command", "disturbed by", "times", "with a problem", "commit")
    newest = {
        (one["command"], one["disturbance"]): (one, record)
        for record in records
        for one in record["commands"]
    }
    order = [command.name for command in COMMANDS]
    rows = [
        (
            f"`{one['command']}`",
            one["disturbance"],
            str(one["tried"]),
            str(len({problem["point"] for problem in one["problems"]})),
            f"{record['commit'][:12]}, {record['at'][:10]}",
        )
        for one, record in sorted(newest.values(), key=lambda found: order.index(found[0]["command"]))
    ]
    kills = sum(one["tried"] for one, _ in newest.values() if one["disturbance"] == "kill")
    return markdown_table(head, rows) + f"\n{kills} kills in all.\n"


def rendered(page: str, records: Sequence[dict[str, Any]]) -> str:
    """The page with the table of the records between its marks."""
    return between_marks(page, "kills", table(records))


def main() -> int:
    """Disturb, and tell; the exit status is 1 where there is a problem."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--command", action="append", choices=[one.name for one in COMMANDS])
    parser.add_argument("--every", type=int, default=1, help="only every n-th point")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument("--publish", action="store_true", help="add a record to results/ and render the page")
    arguments = parser.parse_args()
    began, head = time.process_time(), record_head(FORMAT)
    found = run(arguments.command or [one.name for one in COMMANDS], arguments.every)
    record = {
        **head,
        "every": arguments.every,
        "cpu_s": round(time.process_time() - began + sum(os.times()[2:4]), 1),
        "commands": found,
    }
    print(json.dumps(record) if arguments.json else table([record]))
    if arguments.publish:
        write_side_record("kills", record)
        write_atomic(PAGE, rendered(PAGE.read_text(encoding="utf-8"), published()))
    return int(any(one["problems"] for one in found))


if __name__ == "__main__":
    sys.exit(main())
