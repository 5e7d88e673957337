"""Progress of a run: a line on the terminal, and a log for plots."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from edgespeech.core.files import append_line, write_atomic
from edgespeech.errors import EdgeSpeechError

_LOG_EVERY_S = 15.0


class Progress:
    """Reports loss, speed and remaining time.

    Args:
        log: file of JSON lines, appended to; each has the step and the means since the previous line. Lines of steps
            after `first`, which will be done again, are removed.
        first: steps done when the run was started or resumed.
        total: steps of the whole run.
        quiet: neither print nor log.
    """

    def __init__(self, log: Path, *, first: int, total: int, quiet: bool) -> None:
        self._log, self._total, self._quiet = log, total, quiet
        self._step = self._told = first
        self._begun = self._since = time.monotonic()
        self._first = first
        self._audio_s = 0.0
        self._sums: dict[str, float] = {}
        self._watched: dict[str, float] = {}
        if not quiet:
            forget_after(log, first)

    def step(self, step: int, audio_s: float, **values: float) -> None:
        """Report a step, with its audio and losses."""
        self._step = step
        self._audio_s += audio_s
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        if time.monotonic() - self._since >= _LOG_EVERY_S:
            self._tell()

    def watched(self, step: int, rates: Mapping[str, float]) -> None:
        """Report word error rates after a step, which are part of its line, if it has one, and of every later line."""
        self._watched = {name: round(rate, 4) for name, rate in rates.items()}
        if rates:
            self._watched["wer step"] = step
            if self._told == step and not self._quiet:
                _amend_last(self._log, step, self._watched)

    def saving(self) -> None:
        """The state is about to be written: the log says all that led to it, so that a kill loses none of it."""
        if self._step > self._told:
            self._tell()

    def close(self) -> None:
        """The last line."""
        self.saving()
        if not self._quiet and sys.stderr.isatty():
            print(file=sys.stderr)

    def _tell(self) -> None:
        now = time.monotonic()
        steps = self._step - self._told
        line: dict[str, float] = {"step": self._step}
        line |= {name: round(total / steps, 6) for name, total in self._sums.items()}
        line["audio_s_per_s"] = round(self._audio_s / (now - self._since), 1)
        line |= self._watched
        left_s = (self._total - self._step) * (now - self._begun) / (self._step - self._first)
        self._told, self._since, self._audio_s, self._sums = self._step, now, 0.0, {}
        if self._quiet:
            return
        append_line(self._log, json.dumps(line))
        text = (
            f"step {self._step}/{self._total}  loss {line['loss']:.3f} a label  ctc {line['ctc']:.3f}  "
            f"sounds {line['sounds']:.3f}  {line['audio_s_per_s']:.0f} s of audio a second  {left_s / 60:.0f} min left"
        )
        if "teacher" in line:
            text += f"  teacher {line['teacher']:.3f}"
        text += "".join(
            f"  {name} {100 * rate:.1f} %" for name, rate in self._watched.items() if name != "wer step"
        )
        terminal = sys.stderr.isatty()
        print(
            f"\r\x1b[K{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True
        )


def forget_after(log: Path, step: int) -> None:
    """Remove a log's lines of later steps, which are done again after a kill, and one that the kill cut.

    Args:
        log: JSON lines with `step`; nothing is done where it is missing.
        step: the last one that was not lost.

    Raises:
        EdgeSpeechError: it cannot be read or written.
    """
    if not log.is_file():
        return
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except OSError as error:
        raise EdgeSpeechError(f"{log}: could not be read: {error.strerror or error}") from error
    left = [line for line in lines if line.endswith("\n") and _step_of(line) <= step]
    if left != lines:
        write_atomic(log, "".join(left))


def _amend_last(log: Path, step: int, values: Mapping[str, float]) -> None:
    """Put values into the last line of a log, if it is that of the step; twice is as once, for a kill in between."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
    if lines and _step_of(lines[-1]) == step:
        write_atomic(log, "".join([*lines[:-1], json.dumps(json.loads(lines[-1]) | values) + "\n"]))


def _step_of(line: str) -> float:
    """The step of a line; infinity where it has none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
