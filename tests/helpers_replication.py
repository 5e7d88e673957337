"""Loads the script of a replication, which is no module of the package; and a corpus for it that is always there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import yaml

from edgespeech.core.places import manifests_dir, project_root
from edgespeech.core.yaml_files import load_yaml

FEW = ["assistant_mini-0155", "assistant_mini-0157", "assistant_mini-0180"]


def load_replication(name: str) -> ModuleType:
    """`replication/NAME/experiment.py` as a module."""
    path = project_root() / "replication" / name / "experiment.py"
    spec = importlib.util.spec_from_file_location(f"replication.{name}.experiment", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def describe_few(folder: Path) -> None:
    """A corpus of the three shortest utterances of the embedded one."""
    content = load_yaml(manifests_dir() / "assistant_mini.yaml")
    split = content["splits"]["assistant_mini"] | {"utterances": 3, "select": {"ids": FEW}}
    del split["audio_s"]
    folder.mkdir()
    content |= {"name": "few", "splits": {"few": split}}
    (folder / "few.yaml").write_text(yaml.safe_dump(content))
