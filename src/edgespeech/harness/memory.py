"""Memory of a run: the peak resident set of a process for this run alone (measurement definitions, section 5).

On Linux the kernel maintains the peak, so no sampling disturbs the timing: it is reset before the recogniser is loaded
and read at the end. Elsewhere `getrusage` provides only the peak since the process started. The figures state which of
the two they are.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgespeech.errors import EdgeSpeechError

_PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryFigures:
    """Memory of one process, in bytes.

    Attributes:
        baseline_bytes: resident set before loading.
        loaded_bytes: resident set once loaded.
        peak_bytes: peak resident set since `before`, including the baseline.
        helpers_bytes: sum of the helper processes' own peaks since they started, or None without helpers.
        method: how `peak_bytes` was measured.
    """

    baseline_bytes: int
    loaded_bytes: int
    peak_bytes: int
    helpers_bytes: int | None
    method: str

    @property
    def added_bytes(self) -> int:
        """Peak memory of loading and running: the peak minus the baseline, without helpers."""
        return self.peak_bytes - self.baseline_bytes


class MemoryMeter:
    """Measures this process: call `before`, load, `after_load`, run, `peak`."""

    def __init__(self) -> None:
        self._baseline = 0
        self._loaded = 0
        self._mark = 0
        self._reset = False

    def before(self) -> None:
        """Right before loading: record the resident set and reset the peak if that is allowed."""
        try:
            (_PROC / "self" / "clear_refs").write_text("5")
            self._reset = True
        except OSError:
            self._reset = False
        self._baseline, self._mark = _resident(None)

    def after_load(self) -> None:
        """Right after loading."""
        self._loaded, _ = _resident(None)

    def peak(self, helper_pids: Sequence[int] = ()) -> MemoryFigures:
        """The figures up to now.

        Args:
            helper_pids: helper processes, which must still be running.

        Raises:
            EdgeSpeechError: a helper process has ended, or cannot be inspected here.
        """
        now, high = _resident(None)
        method = "VmHWM since before loading"
        if not _has_proc():
            method = "getrusage maximum since the process started"
        elif not self._reset:
            method = "VmHWM since the process started"
            if high <= self._mark:
                high, method = max(self._loaded, now), "VmRSS after loading and at the end"
        return MemoryFigures(
            baseline_bytes=self._baseline,
            loaded_bytes=self._loaded,
            peak_bytes=high,
            helpers_bytes=sum(_resident(pid)[1] for pid in helper_pids) if helper_pids else None,
            method=method,
        )


def _has_proc() -> bool:
    return (_PROC / "self" / "status").is_file()


def _resident(pid: int | None) -> tuple[int, int]:
    """Resident set and its peak, in bytes, of a process (None: this one).

    Without `/proc` both are this process's peak so far.
    """
    if pid is None and not _has_proc():
        unit = 1 if sys.platform == "darwin" else 1024
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return highest, highest
    try:
        status = (_PROC / ("self" if pid is None else str(pid)) / "status").read_text(
            encoding="ascii", errors="replace"
        )
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return tuple(int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))  # type: ignore[return-value]
    except (OSError, KeyError) as error:
        raise EdgeSpeechError(f"memory: process {pid} cannot be looked at: {error}") from error
