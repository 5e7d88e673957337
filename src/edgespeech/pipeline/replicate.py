"""Discovery of techniques by their folders, and running them by name.

A technique is one folder `replication/NAME` with `README.md`, `claim.yaml`, `config.yaml` and `experiment.py`, which
has a `PAGE` (`edgespeech.harness.checks.Page`) and `main(words)`, where `words` are the command line after the name.
A new folder needs no other edit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from edgespeech.core.places import project_root
from edgespeech.errors import bad

EXPERIMENT = "experiment.py"
"""The file that makes a folder of `replication/` a technique."""


def techniques() -> dict[str, Path]:
    """The folder of every technique, by name.

    Raises:
        EdgeSpeechError: there is no checkout.
    """
    folders = sorted(path.parent for path in (project_root() / "replication").glob(f"*/{EXPERIMENT}"))
    return {folder.name: folder for folder in folders}


def load_experiment(name: str) -> ModuleType:
    """The experiment of a technique; `-` in its name stands for `_`.

    Raises:
        EdgeSpeechError: there is no such technique.
    """
    known = techniques()
    folder = known.get(name.replace("-", "_"))
    if folder is None:
        raise bad("replicate", "technique", name, "one of " + ", ".join(known))
    root = str(folder.parents[1])
    if root not in sys.path:
        sys.path.append(root)  # so that an experiment and its worker processes find its modules
    return import_module(f"{folder.parent.name}.{folder.name}.{folder.joinpath(EXPERIMENT).stem}")


def run_technique(name: str, words: Sequence[str]) -> None:
    """Measure one technique on this machine, and render its page.

    Args:
        name: of its folder.
        words: its own options; `--help` lists them.

    Raises:
        EdgeSpeechError: there is no such technique, or as its experiment.
    """
    load_experiment(name).main(words)
