"""Loads the script of a replication, which is no module of the package."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from edgespeech.core.places import project_root


def load_replication(name: str) -> ModuleType:
    """`replication/NAME/experiment.py` as a module."""
    path = project_root() / "replication" / name / "experiment.py"
    spec = importlib.util.spec_from_file_location(f"replication.{name}.experiment", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
