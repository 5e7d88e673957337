"""Where a record comes from: commit, versions, processor, load. Never a host name, a user name or a path."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "edgespeech", "numpy", "torch", "jiwer", "soundfile", "soxr", "whisper-normalizer", "websockets", "av",
    "faster-whisper", "ctranslate2", "onnxruntime", "pocketsphinx",
)  # fmt: skip
"""Packages whose version can change a figure."""


def git_state(root: Path) -> tuple[str, bool]:
    """The commit of the checkout at `root` and whether tracked or new files differ from it.

    Records and hypotheses (`results/`) do not count: writing one must not make the next one dirty. Outside a
    checkout the commit is `unknown` and the state dirty.
    """

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
        ).stdout

    try:
        commit = git("rev-parse", "HEAD").strip()
        changed = git("status", "--porcelain", "--", ":!results", ":!README.md").strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True
    return commit, bool(changed)


def package_versions() -> dict[str, str]:
    """Version of every installed package of `PACKAGES`."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> tuple[str, list[str]]:
    """Model name and feature flags of the processor; flags are empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())  # the first processor's lines win
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", platform.machine()), sorted(flags.split())


def load_average() -> float:
    """Runnable processes over the last minute; above about 0.5 a core, timings of this machine are not quiet."""
    return round(os.getloadavg()[0], 2)


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
