"""Save a long training in the repository: its averaged weights in half precision, as the initial model of a later run
(`init:` names the folder).

python replication/rnnt/snapshot.py NAME FOLDER [FOLDER ...] [--shares SHARE ...]

Each folder has a run or a model; several are averaged. A snapshot adds some 9 MB to the git history, so it is never
overwritten.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.average import average_checkpoints
from edgespeech.model.checkpoint import WEIGHTS, model_bytes, save_model
from edgespeech.training.loop import MODEL

SNAPSHOTS = project_root() / "results" / "rnnt" / "snapshots"
LARGEST_BYTES = 10_000_000


def snapshot(folders: Sequence[Path], shares: Sequence[float] | None, out: Path) -> int:
    """Write a snapshot.

    Args:
        folders: of runs or models, each trained on from the one before it.
        shares: weight of each in the average; None: equal.
        out: a new folder.

    Returns:
        Its bytes.

    Raises:
        EdgeSpeechError: the folder exists already, the models do not fit together, or it would exceed 10 MB.
    """
    if out.exists():
        raise bad("snapshot", "name", out.name, "a new one: a snapshot is never overwritten")
    models = [folder / MODEL if (folder / MODEL).is_dir() else folder for folder in folders]
    trained = average_checkpoints(models, shares)
    if (expected := 2 * trained.model.parameters_deployed) > LARGEST_BYTES:
        raise bad("snapshot", "bytes", expected, f"at most {LARGEST_BYTES}")
    about = dict(trained.provenance)
    if len(folders) > 1:
        parts = shares or [1 / len(folders)] * len(folders)
        about["mean_of"] = ", ".join(f"{f.name} {s:g}" for f, s in zip(folders, parts, strict=True))
    save_model(out, trained.model, trained.tokeniser, about, half=True)
    return model_bytes(out)


def main() -> None:
    """Run the command line; see the module's docstring."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("name")
    options.add_argument("models", nargs="+", type=Path)
    options.add_argument("--shares", nargs="+", type=float)
    given = options.parse_args()
    size = snapshot(given.models, given.shares, SNAPSHOTS / given.name)
    print(f"{SNAPSHOTS / given.name / WEIGHTS}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    try:
        main()
    except EdgeSpeechError as error:
        sys.exit(f"snapshot: {error}")
