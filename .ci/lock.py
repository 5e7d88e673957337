"""Writes `requirements.lock`: every package of `constraints.txt` with the hash of what pip installs here.

`make lock` runs it on Linux, x86-64, Python 3.11, which is what the lock is for. `make env` checks the hashes there and
uses `constraints.txt` alone elsewhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNHASHED = "torch"
"""Its CPU build is another file than the one of the same version on the public index, and there are several of them."""


def main() -> int:
    """Ask pip, without installing anything, and write the file."""
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder) / "wanted.txt", Path(folder) / "report.json"
        wanted.write_text("".join(f"{pin}\n" for pin in pins if not pin.startswith(f"{UNHASHED}==")))
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--no-deps",
        ]
        subprocess.run([*command, "-r", str(wanted), "--report", str(report)], check=True)
        installed = json.loads(report.read_text())["install"]
    lines = [
        "# Written by `make lock`: what `make env` installs on Linux, x86-64, Python 3.11, and nothing else.",
        f"# {UNHASHED} is left out: its CPU build is another file than that of the same version on the public index.",
    ]
    for item in sorted(installed, key=lambda item: item["metadata"]["name"].lower()):
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{item['metadata']['name']}=={item['metadata']['version']} --hash=sha256:{digest}")
    (ROOT / "requirements.lock").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
