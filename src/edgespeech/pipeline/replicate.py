"""Replications of one technique each: found by their folders, and run by their names.

A technique is one folder `replication/NAME` with `README.md`, `claim.yaml`, `config.yaml` and `experiment.py`, which
has a `PAGE` (`edgespeech.harness.checks.Page`) and `main(words)`, where `words` are the command line after the name.
`PAGE.steps` are steps of the pipeline, of whatever kinds, that make what is measured. A new folder needs no other edit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from edgespeech.core.places import checkout, project_root
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
    make_importable()
    return import_module(f"{folder.parent.name}.{folder.name}.{folder.joinpath(EXPERIMENT).stem}")


def make_importable() -> None:
    """Let experiments, and their worker processes, import the modules beside them; an installed package has none."""
    root = checkout()
    if root is not None and str(root) not in sys.path:
        sys.path.append(str(root))


def run_technique(name: str, words: Sequence[str]) -> None:
    """A command of a technique's own, outside the pipeline.

    Args:
        name: of its folder.
        words: its options; `--help` lists them.

    Raises:
        EdgeSpeechError: there is no such technique, or what its experiment refuses.
    """
    main = load_experiment(name).main
    before = sys.argv[0]
    sys.argv[0] = f"edgespeech replicate {name}"  # argparse names a command by it, in usage lines and errors
    try:
        main(words)
    finally:
        sys.argv[0] = before
