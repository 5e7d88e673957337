"""Records of what is measured beside the harness: kills, fuzzing, long audio, hostile clients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgespeech.core.files import visible, write_atomic
from edgespeech.core.places import project_root, results_dir
from edgespeech.records.provenance import git_state, processor


def record_head(name: str) -> dict[str, Any]:
    """What each of these records begins with; taken before the measurement, so that the code is the one that ran.

    Args:
        name: of the record's format.
    """
    commit, dirty = git_state(project_root())
    return {
        "format": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "dirty": dirty,
        "processor": processor()[0],
    }


def write_side_record(kind: str, record: Mapping[str, Any]) -> Path:
    """Write a record, named by its time, into the folder of its kind below `results/`; returns its path."""
    name = record["at"].replace("-", "").replace(":", "").partition("+")[0]
    path = results_dir() / kind / f"{name}Z.json"
    write_atomic(path, json.dumps(record, indent=1) + "\n")
    return path


def side_records(kind: str) -> list[dict[str, Any]]:
    """The records of a kind, oldest first."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in visible(results_dir() / kind, "*.json")]
