"""A long run over all readers at once, with a record: `python fuzz/long.py SECONDS` adds one to `results/fuzz/`.

SECONDS are of the clock; what it ran for in CPU time, as the system counts it, and on how many inputs stands in the
record, which is written anew every minute: a run that is ended early, by a signal or with its machine, keeps what it
did. A fault leaves its input in `build/fuzz`, and the exit status is 1. At the end, and with no SECONDS at all, it
prints what all records together ran for.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from edgespeech.core.places import project_root
from edgespeech.report.side_records import record_head, side_records, write_side_record
from edgespeech.report.text import markdown_table

READERS = ("edge", "lattice", "networks", "tokeniser", "record", "manifest", "grammar", "protocol", "update")
_RUNS = re.compile(r"^(?:#|Done )(\d+)\b", re.MULTILINE)
_COVERAGE = re.compile(r"cov: (\d+)")
_INTERRUPTED = 72
"""The exit status of libFuzzer after SIGTERM."""
_EVERY_S = 60.0
_INPUT_S = 1200
"""The limit for one input, by the clock: at the lowest priority on a busy machine an honest one takes minutes."""


class Fuzzed:
    """One reader that is fuzzed in a process of its own."""

    def __init__(self, reader: str, seconds: int, folder: Path) -> None:
        """Start the process; its inputs are kept in `folder/reader`, and its log beside them."""
        self._reader, self._inputs = reader, folder / reader
        self._log = folder / f"{reader}.log"
        self._began = time.monotonic()
        command = [sys.executable, str(project_root() / "fuzz" / "targets.py"), reader, str(self._inputs)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, f"-max_total_time={seconds}", f"-timeout={_INPUT_S}"], stdout=log, stderr=log
            )
        self._cpu_s, self._wall_s = 0.0, 0.0
        self._fault = False

    def look(self) -> bool:
        """Count what it has used until now; returns whether it still runs."""
        if self.process.returncode is not None:
            return False
        self._wall_s = time.monotonic() - self._began
        pid, status, used = os.wait4(self.process.pid, os.WNOHANG)
        if pid == 0:
            times = psutil.Process(self.process.pid).cpu_times()
            self._cpu_s = times.user + times.system
            return True
        self._cpu_s = used.ru_utime + used.ru_stime
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self._fault = self.process.returncode not in (0, _INTERRUPTED, -signal.SIGTERM)
        return False

    def figures(self) -> dict[str, Any]:
        """What it did until it was last looked at."""
        told = self._log.read_text(errors="replace")
        runs, coverage = _RUNS.findall(told), _COVERAGE.findall(told)
        return {
            "reader": self._reader,
            "cpu_s": round(self._cpu_s, 1),
            "wall_s": round(self._wall_s, 1),
            "inputs": int(runs[-1]) if runs else None,
            "coverage": int(coverage[-1]) if coverage else None,
            "corpus": len(list(self._inputs.iterdir())) if self._inputs.is_dir() else 0,
            "fault": self._fault,
        }


def summed(records: Sequence[dict[str, Any]]) -> str:
    """What all records together ran for, as Markdown."""
    rows = []
    for reader in READERS:
        mine = [one for record in records for one in record["readers"] if one["reader"] == reader]
        rows.append(
            (
                reader,
                f"{sum(one['cpu_s'] for one in mine):,.0f}",
                f"{sum(one['inputs'] or 0 for one in mine):,}",
                str(sum(one["fault"] for one in mine)),
            )
        )
    cpu_s = sum(one["cpu_s"] for record in records for one in record["readers"])
    return (
        markdown_table(("reader", "CPU time, s", "inputs", "runs with a fault"), rows)
        + f"\n{cpu_s:,.0f} s of CPU time ({cpu_s / 3600:.2f} hours) in {len(records)} runs.\n"
    )


def main(seconds: int) -> int:
    """Run all readers for so many seconds, and write the record."""
    folder = project_root() / "build" / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    head = record_head("edgespeech-fuzz-1")
    fuzzed = [Fuzzed(reader, seconds, folder) for reader in READERS]

    def end(number: int, frame: FrameType | None) -> None:
        for one in fuzzed:
            if one.process.returncode is None:
                one.process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)

    running = fuzzed
    while running:
        until = time.monotonic() + _EVERY_S
        while (running := [one for one in fuzzed if one.look()]) and time.monotonic() < until:
            time.sleep(1)
        readers = [one.figures() for one in fuzzed]
        record = {
            **head,
            "cores": os.cpu_count(),
            "nice": os.nice(0),
            "cpu_s": round(sum(one["cpu_s"] for one in readers), 1),
            "readers": readers,
        }
        path = write_side_record("fuzz", record)
    print(path.read_text())
    print(summed(side_records("fuzz")))
    return int(any(one["fault"] for one in readers))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(summed(side_records("fuzz")))
        sys.exit(0)
    sys.exit(main(int(sys.argv[1])))
