"""A metric in a file of its own, beside those of the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespeech import metrics as package

FAMILY = """
from edgespeech.metrics.registry import Direction, Metric, ratio_figure

METRICS = (Metric(id={id!r}, unit="ratio", direction=Direction.HIGHER, definition="words that are long", {extra}),)


def measure(scored, *, seed):
    words = [item.hypothesis.split() for item in scored]
    long = [sum(len(word) > 4 for word in said) for said in words]
    groups = [item.speaker for item in scored]
    figures = ratio_figure(METRICS[0], long, [len(said) for said in words], groups, n=1, seed=seed)
    return {{name + {suffix!r}: figure for name, figure in figures.items()}}
"""


def add_family(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, *, id_: str, suffix: str = "", extra: str = ""
) -> None:
    """Write a metric's file, and have it found; `extra` goes into its `Metric`."""
    (folder / f"{name}.py").write_text(FAMILY.format(id=id_, suffix=suffix, extra=extra))
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
