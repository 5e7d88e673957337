"""A cluster of made nodes: processes with a folder of their own each, and a shared one with a queue.

made_cluster.py node SHARED NAME     take jobs from the queue, one at a time, until killed
made_cluster.py submit SHARED SCRIPT     queue a job and print its number
made_cluster.py status SHARED NUMBER     running, success or failed; a job whose node died has failed
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
import uuid
from pathlib import Path

EACH_S = 0.1


def submit(shared: Path, script: str) -> None:
    number = uuid.uuid4().hex[:8]
    (shared / f"{number}.new").write_text(script)
    (shared / f"{number}.new").rename(shared / f"{number}.job")
    print(number)


def status(shared: Path, number: str) -> None:
    if (done := shared / f"{number}.status").exists():
        print(done.read_text())
    elif (taken := shared / f"{number}.node").exists() and not alive(shared, taken.read_text()):
        print("failed")
    else:
        print("running")


def alive(shared: Path, name: str) -> bool:
    """Whether a node holds its lock, which a killed one lets go."""
    with (shared / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def node(shared: Path, name: str) -> None:
    lock = (shared / f"{name}.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    while True:
        for job in sorted(shared.glob("*.job")):
            mine = job.with_suffix(f".{name}")
            try:
                job.rename(mine)
            except FileNotFoundError:  # the other node was faster
                continue
            job.with_suffix(".node").write_text(name)
            with (Path.cwd() / f"{job.stem}.log").open("w") as log:
                code = subprocess.run(
                    ["sh", mine.read_text()], stdout=log, stderr=log, check=False
                ).returncode
            job.with_suffix(".part").write_text("failed" if code else "success")
            job.with_suffix(".part").rename(job.with_suffix(".status"))
        time.sleep(EACH_S)


if __name__ == "__main__":
    {"submit": submit, "status": status, "node": node}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
