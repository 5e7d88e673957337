"""Pairs of tiny packed models: a release and its successor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from edgespeech.model.checkpoint import Trained
from edgespeech.packed.pack import Encoding, Layout, pack
from helpers_packed import prune, tiny

SPARSE = Layout(
    matrices=Encoding(bits=4, store="sparse"), others={"predictor.embedding.weight": Encoding(bits=4)}
)
EIGHT = Layout()


def moved(trained: Trained, size: float = 0.3, seed: int = 5, *, hidden: int = 24) -> Trained:
    """A model a little further on: every weight moves by a share of its matrix's spread."""
    other = tiny(hidden=hidden, layers=1)
    torch.manual_seed(seed)
    with torch.no_grad():
        for own, before in zip(other.model.parameters(), trained.model.parameters(), strict=True):
            own.copy_(before + size * before.std(correction=0) * torch.randn_like(before))
        other.model.transcriber.set_statistics(
            trained.model.transcriber.mean, trained.model.transcriber.scale
        )
    return replace(other, provenance={"run": "later"})


def releases(folder: Path, layout: Layout = EIGHT, *, hidden: int = 24) -> tuple[Path, Path]:
    """Two packed models, the old and the new one."""
    first = tiny(hidden=hidden, layers=1)
    second = moved(first, hidden=hidden)
    for trained in (first, second):
        if layout.matrices.store == "sparse":
            prune(trained.model, 0.5)
    files = folder / "old.edge", folder / "new.edge"
    for file, trained in zip(files, (first, second), strict=True):
        pack(trained, layout, file)
    return files
