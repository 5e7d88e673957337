"""Running asv on the working tree: what `make bench` does.

asv files results by machine and commit; both are named here, since its own defaults are the host's name and, for an
existing environment, nothing at all. Results stay in `.asv`, which is not committed: they hold local paths.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from edgespeech.core.files import write_atomic
from edgespeech.core.places import project_root
from edgespeech.records.provenance import git_state

MACHINE = "local"


def run_asv(*, quick: bool = False) -> int:
    """Run every benchmark with this interpreter, store the results under the current commit, build the pages.

    Args:
        quick: run each once and store nothing.

    Returns:
        asv's exit status.
    """
    root = project_root()
    home = root / ".asv"
    _describe_machine(home)
    environment = {**os.environ, "HOME": str(home)}  # asv reads its machine file from the home folder
    config = ["--config", str(root / "asv.conf.json")]
    command = [
        sys.executable,
        "-m",
        "asv",
        "run",
        *config,
        "--machine",
        MACHINE,
        "-E",
        f"existing:{sys.executable}",
    ]
    command += ["--quick", "--dry-run"] if quick else ["--set-commit-hash", git_state(root)[0]]
    status = subprocess.run(command, cwd=root, env=environment, check=False).returncode
    if status == 0 and not quick:
        publish = [sys.executable, "-m", "asv", "publish", *config]
        status = subprocess.run(publish, cwd=root, env=environment, check=False).returncode
        print(f"pages: {home / 'html' / 'index.html'}")
    return status


def _describe_machine(home: Path) -> None:
    from asv.machine import Machine

    machine = {**Machine.get_defaults(), "machine": MACHINE}
    write_atomic(home / ".asv-machine.json", json.dumps({MACHINE: machine, "version": 1}, indent=1))
