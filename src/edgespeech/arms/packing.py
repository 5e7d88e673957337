"""Packing a model as a step of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgespeech.core.places import checkout
from edgespeech.model.checkpoint import TOKENS, WEIGHTS, load_model, model_files
from edgespeech.packed.pack import Encoding, Layout, load_codes, pack
from edgespeech.steps.step import Step
from edgespeech.steps.store import Job
from edgespeech.training.loop import MODEL
from edgespeech.training.step import portable

RULE = "pack"
PACKED = "model.edge"
"""What a step of packing makes, in its folder."""


def pack_step(name: str, model: Step | Path, layout: Layout, *, fusion: Path | None, codes: bool) -> Step:
    """The step that packs a model.

    Args:
        name: of the step.
        model: a training step, whose model is packed, or a model's folder.
        layout: how its matrices are stored.
        fusion: folder of the model whose language models the file gets; None: none.
        codes: whether what was trained to lie on the levels of codes is stored as those.
    """
    inputs = [] if isinstance(model, Step) else [model / file for file in (WEIGHTS, TOKENS)]
    if fusion is not None:
        inputs += [fusion / file for file in model_files(fusion)]
    return Step(
        rule=RULE,
        name=name,
        function=f"{__name__}:pack_model",
        given={
            "model": f"{model.rule}/{model.name}" if isinstance(model, Step) else portable(model),
            "layout": layout.to_mapping(),
            "fusion": None if fusion is None else portable(fusion),
            "codes": codes,
        },
        needs=(model,) if isinstance(model, Step) else (),
        inputs=tuple(inputs),
        code=("edgespeech.packed.pack",),
        without=("core", "records", "corpora", "search", "lm", "engine"),
    )


def pack_model(job: Job) -> list[Path]:
    """Pack."""
    name = job.given["model"]
    folder = job.folders[name] / MODEL if name in job.folders else _here(name)
    codes = load_codes(folder) if job.given["codes"] else None
    fusion = None if job.given["fusion"] is None else load_model(_here(job.given["fusion"])).fusion
    out = job.folder / PACKED
    pack(replace(load_model(folder), fusion=fusion), _layout(job.given["layout"]), out, codes=codes)
    return [out]


def _layout(values: Mapping[str, Any]) -> Layout:
    others = {name: Encoding(**encoding) for name, encoding in values["others"].items()}
    return Layout(matrices=Encoding(**values["matrices"]), others=others)


def _here(folder: str) -> Path:
    return (checkout() or Path()) / folder
