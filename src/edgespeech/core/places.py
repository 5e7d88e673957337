"""Where the project keeps what it ships: the one module of `src/` that knows the layout of `results/`."""

from __future__ import annotations

from pathlib import Path

from edgespeech.core.files import project_root


def shipped_models() -> Path:
    """The folder of the trained models that ship with the project."""
    return project_root() / "results" / "models"


def heads_file() -> Path:
    """The learned end-pointer's networks, which `replication/endpointing` makes."""
    return shipped_models() / "endpointing" / "heads.safetensors"
