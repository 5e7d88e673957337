"""Records beside the harness: one head, files named by time, and what a long run of fuzzing adds up to."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from edgespeech.core.places import project_root
from edgespeech.report import side_records


def test_a_record_is_named_by_its_time_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_records, "results_dir", lambda: tmp_path)
    head = side_records.record_head("edgespeech-x-1")
    assert list(head) == ["format", "at", "commit", "dirty", "processor"]
    late, early = ({**head, "at": f"2026-01-0{day}T03:04:05+00:00"} for day in (2, 1))
    paths = [side_records.write_side_record("x", record) for record in (late, early)]
    assert [path.name for path in paths] == ["20260102T030405Z.json", "20260101T030405Z.json"]
    assert side_records.side_records("x") == [early, late]
    assert side_records.side_records("y") == []


@pytest.fixture
def long_run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("long", project_root() / "fuzz" / "long.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_runs_of_fuzzing_add_up(long_run: ModuleType) -> None:
    def record(cpu_s: float, inputs: int | None, fault: bool) -> dict[str, object]:
        one = {"cpu_s": cpu_s, "inputs": inputs, "fault": fault}
        return {"readers": [{"reader": reader, **one} for reader in long_run.READERS]}

    lines = long_run.summed([record(100.0, 5, False), record(350.0, None, True)]).splitlines()
    assert lines[2] == "| edge | 450 | 5 | 1 |"
    all_s = 450 * len(long_run.READERS)
    assert lines[-1] == f"{all_s:,} s of CPU time ({all_s / 3600:.2f} hours) in 2 runs."
