"""A long run over all readers at once, with a record: `python fuzz/long.py SECONDS` adds one to `results/fuzz/`.

What it ran for, in CPU time, and on how many inputs stands in the record; a fault leaves its input in `build/fuzz`, and
the exit status is 1.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

from edgespeech.core.places import project_root, results_dir
from edgespeech.records.provenance import git_state, processor

READERS = ("edge", "lattice", "networks", "tokeniser", "record", "manifest", "grammar", "protocol")
_RUNS = re.compile(r"Done (\d+) runs in")
_COVERAGE = re.compile(r"cov: (\d+)")


def fuzzed(reader: str, seconds: int, found: list[dict[str, Any]]) -> None:
    """Fuzz one reader in a process of its own, and add what came of it."""
    folder = project_root() / "build" / "fuzz"
    command = [sys.executable, str(project_root() / "fuzz" / "targets.py"), reader, str(folder / reader)]
    with (folder / f"{reader}.log").open("w+") as log:
        began = time.monotonic()
        process = subprocess.Popen([*command, f"-max_total_time={seconds}"], stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        log.seek(0)
        told = log.read()
    runs, coverage = _RUNS.findall(told), _COVERAGE.findall(told)
    found.append(
        {
            "reader": reader,
            "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "wall_s": round(time.monotonic() - began, 1),
            "inputs": int(runs[-1]) if runs else None,
            "coverage": int(coverage[-1]) if coverage else None,
            "corpus": len(list((folder / reader).iterdir())),
            "fault": status != 0,
        }
    )


def main(seconds: int) -> int:
    """Run all readers for so many seconds, and write the record."""
    (project_root() / "build" / "fuzz").mkdir(parents=True, exist_ok=True)
    commit, dirty = git_state(project_root())
    found: list[dict[str, Any]] = []
    threads = [threading.Thread(target=fuzzed, args=(reader, seconds, found)) for reader in READERS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = {
        "format": "edgespeech-fuzz-1",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "dirty": dirty,
        "processor": processor()[0],
        "cores": os.cpu_count(),
        "nice": os.nice(0),
        "cpu_s": round(sum(one["cpu_s"] for one in found), 1),
        "readers": sorted(found, key=lambda one: READERS.index(one["reader"])),
    }
    name = record["at"].replace("-", "").replace(":", "").partition("+")[0]
    path = results_dir() / "fuzz" / f"{name}Z.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(path.read_text())
    return int(any(one["fault"] for one in found))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
