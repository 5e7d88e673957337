"""The memory meter sees a known allocation, and only what came after `before`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgespeech.errors import EdgeSpeechError
from edgespeech.harness import memory
from edgespeech.harness.memory import MemoryMeter

MB = 1_000_000
SCRIPT = """
import dataclasses, json, sys
import numpy as np
from edgespeech.harness.memory import MemoryMeter

def touch(mb):
    return np.ones(mb * 125_000)

meter = MemoryMeter()
early, kept, loading, running = map(int, sys.argv[1:])
held = touch(kept)
del_me = touch(early)
del del_me
meter.before()
model = touch(loading)
meter.after_load()
state = touch(running)
del state
print(json.dumps(dataclasses.asdict(meter.peak())))
"""


def measure(*, early: int = 0, kept: int = 0, loading: int = 0, running: int = 0) -> dict[str, Any]:
    """The figures of a fresh process that allocates these megabytes at these moments."""
    command = [sys.executable, "-c", SCRIPT, *map(str, (early, kept, loading, running))]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")


@linux
def test_a_known_allocation_is_seen() -> None:
    figures = measure(loading=200)
    assert figures["loaded_bytes"] - figures["baseline_bytes"] == pytest.approx(200 * MB, rel=0.05)
    assert figures["peak_bytes"] - figures["baseline_bytes"] == pytest.approx(200 * MB, rel=0.05)
    assert figures["helpers_bytes"] is None


@linux
def test_a_passing_peak_while_running_is_seen() -> None:
    figures = measure(loading=50, running=150)
    assert figures["loaded_bytes"] - figures["baseline_bytes"] == pytest.approx(50 * MB, rel=0.05)
    assert figures["peak_bytes"] - figures["baseline_bytes"] == pytest.approx(200 * MB, rel=0.05)


@linux
def test_what_was_touched_before_is_not_counted() -> None:
    figures = measure(early=300, kept=100, loading=200)
    assert figures["method"] == "VmHWM since before loading"
    assert figures["baseline_bytes"] > 100 * MB
    assert figures["peak_bytes"] - figures["baseline_bytes"] == pytest.approx(200 * MB, rel=0.05)


@linux
def test_helpers_count_with_their_own_peak() -> None:
    code = "import time; x = bytearray(100_000_000); print('ready', flush=True); del x; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as helper:
        try:
            assert helper.stdout is not None
            assert helper.stdout.readline() == "ready\n"
            meter = MemoryMeter()
            meter.before()
            meter.after_load()
            seen = meter.peak([helper.pid]).helpers_bytes
            twice = meter.peak([helper.pid, helper.pid]).helpers_bytes
        finally:
            helper.kill()
    assert seen is not None
    assert 100 * MB < seen < 130 * MB
    assert twice == 2 * seen


@linux
def test_a_helper_that_is_gone_is_an_error() -> None:
    helper = subprocess.Popen([sys.executable, "-c", ""])
    helper.wait()
    meter = MemoryMeter()
    meter.before()
    meter.after_load()
    with pytest.raises(EdgeSpeechError, match=f"process {helper.pid} cannot be looked at"):
        meter.peak([helper.pid])


def figures_from(
    monkeypatch: pytest.MonkeyPatch, proc: Path, readings: list[tuple[int, int]]
) -> memory.MemoryFigures:
    """The figures when this folder is `/proc` and says so before loading, after loading and at the end."""
    monkeypatch.setattr(memory, "_PROC", proc)
    meter = MemoryMeter()

    def say(resident: int, high: int) -> None:
        (proc / "self/status").write_text(f"Name:\tx\nVmHWM:\t{high} kB\nVmRSS:\t{resident} kB\n")

    say(*readings[0])
    meter.before()
    say(*readings[1])
    meter.after_load()
    say(*readings[2])
    return meter.peak()


def test_a_mark_that_cannot_be_reset_is_used_only_once_it_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proc/self/clear_refs").mkdir(parents=True)  # a folder cannot be written to
    moved = figures_from(monkeypatch, tmp_path / "proc", [(10, 50), (30, 50), (40, 60)])
    assert moved.peak_bytes == 60 * 1024
    assert moved.method == "VmHWM since the process started"
    still = figures_from(monkeypatch, tmp_path / "proc", [(10, 50), (30, 50), (20, 50)])
    assert still.peak_bytes == 30 * 1024
    assert still.added_bytes == 20 * 1024
    assert still.method == "VmRSS after loading and at the end"


def test_without_proc_the_method_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PROC", tmp_path / "nothing")
    meter = MemoryMeter()
    meter.before()
    meter.after_load()
    figures = meter.peak()
    assert figures.method == "getrusage maximum since the process started"
    assert figures.peak_bytes >= figures.baseline_bytes > MB
    with pytest.raises(EdgeSpeechError, match="cannot be looked at"):
        meter.peak([os.getpid()])
