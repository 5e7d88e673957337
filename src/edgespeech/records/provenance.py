"""Provenance of a record: commit, versions, processor, load. Never a host name, a user name or a path."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgespeech.contracts import RECOGNISER_GROUP

NOT_MEASURING = frozenset({"dev", "pipeline", "report"})
"""Extras whose packages cannot change a figure."""


def git_state(root: Path | None) -> tuple[str, bool]:
    """The commit of the checkout at `root` and whether tracked or new files differ from it.

    Records and hypotheses (`results/`) are ignored: writing one must not make the next one dirty. Outside a checkout,
    below the top folder of a repository, and without a checkout (`root` is None), the commit is `unknown` and the state
    dirty.
    """
    if root is None:
        return "unknown", True

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
        ).stdout

    try:
        # A copy without history inside another repository would report that repository's commits.
        if Path(git("rev-parse", "--show-toplevel").strip()).resolve() != root.resolve():
            return "unknown", True
        commit = git("rev-parse", "HEAD").strip()
        changed = git("status", "--porcelain", "--", ":!results", ":!README.md").strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True
    return commit, bool(changed)


def package_versions() -> dict[str, str]:
    """Versions of the packages that provide recognisers, and of all their requirements, sorted by name.

    A new engine needs no edit here: it is among the requirements of the package whose recogniser uses it. Packages that
    are required but not installed are left out, and so are requirements of `NOT_MEASURING` extras alone.
    """
    found: dict[str, str] = {}
    roots = {
        entry.dist.name: entry.dist
        for entry in entry_points(group=RECOGNISER_GROUP)
        if entry.dist is not None and entry.dist.name  # none while it is being installed
    }
    todo = [
        (name, frozenset(dist.metadata.get_all("Provides-Extra") or ()) - NOT_MEASURING)
        for name, dist in roots.items()
    ]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        wanted = todo.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        name, extras = wanted
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
        for line in requires(name) or ():
            needed = Requirement(line)
            asked = [{"extra": extra} for extra in ("", *extras)]
            if needed.marker is None or any(needed.marker.evaluate(environment) for environment in asked):
                todo.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return dict(sorted(found.items()))


def processor() -> tuple[str, list[str]]:
    """Model name and feature flags of the processor; flags are empty if the system does not provide them."""
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
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
