"""A branching model's training as a step of the pipeline (`edgespeech.steps`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgespeech.core.places import project_root
from edgespeech.model.branching_checkpoint import load_branching
from edgespeech.model.branching_config import BranchingConfig
from edgespeech.model.checkpoint import TOKENS, WEIGHTS
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job
from edgespeech.synthesis.step import speech_steps
from edgespeech.training.branching_config import branch_training
from edgespeech.training.branching_loop import MODEL, SPENT, STATE, starting, train_branching
from edgespeech.training.step import portable

RULE = "branch"
_WITHOUT = ("core", "records", "corpora", "synthesis", "engine", "packed", "metrics", "search", "lm")


def branch_step(
    name: str,
    settings: Mapping[str, Any],
    init: Step | Path,
    *,
    as_costly_as: Step | None = None,
    resources: Resources | None = None,
) -> Step:
    """The step that trains a branching model.

    Args:
        name: of the step.
        settings: see `BranchTraining`; `init` of its run is not looked at.
        init: the training step, or the folder of a model, that it starts from.
        as_costly_as: a training step whose final mean cost per frame this one gets: with `chooses` `fast` by the
            sparsity of its branch, else by `slow_share`.
        resources: what it uses of a machine.

    Raises:
        EdgeSpeechError: its settings are not valid, or its speech is none that can be made or fetched.
    """
    given = {**settings, "slow_share": 0.5} if _needs_share(settings, as_costly_as) else dict(settings)
    run = {**given["run"], "init": given["run"].get("init", "init")}
    config = branch_training({**given, "run": run}, name).run
    speech = [*(source.corpus for source in config.speech), *config.noise_corpora, *config.room_corpora]
    needs = [one for one in (init, as_costly_as) if isinstance(one, Step)]
    return Step(
        rule=RULE,
        name=name,
        function=f"{__name__}:train",
        given={
            "settings": {key: value for key, value in settings.items() if key != "run"},
            "run": {key: value for key, value in settings["run"].items() if key != "init"},
            "init": f"{init.rule}/{init.name}" if isinstance(init, Step) else portable(init),
            "as_costly_as": None if as_costly_as is None else f"{RULE}/{as_costly_as.name}",
        },
        needs=(*dict.fromkeys(needs), *speech_steps(speech)),
        inputs=() if isinstance(init, Step) else (init / WEIGHTS, init / TOKENS),
        code=("edgespeech.training.branching_loop", __name__),
        without=_WITHOUT,
        resources=resources or Resources(),
    )


def train(job: Job) -> list[Path]:
    """Train, or go on where the run was stopped."""
    torch.set_num_threads(job.resources.threads)
    name = job.given["init"]
    init = job.folders[name] / MODEL if name in job.folders else project_root() / name
    settings = {**job.given["settings"], "run": {**job.given["run"], "init": portable(init)}}
    if (other := job.given["as_costly_as"]) is not None:
        cost = json.loads((job.folders[other] / SPENT).read_text(encoding="utf-8"))["cost"]
        settings = at_cost(settings, cost, init)
    train_branching(branch_training(settings, job.name), job.folder, init)
    files = [job.folder / MODEL / name for name in (WEIGHTS, TOKENS)]
    return [*files, job.folder / SPENT, job.folder / STATE]


def at_cost(settings: Mapping[str, Any], cost: float, init: Path) -> dict[str, Any]:
    """Settings of a control whose mean cost per frame is given.

    Args:
        settings: of the control.
        cost: in shares of the slow branch.
        init: folder of the model that it starts from.

    Returns:
        The settings with another `branching.sparsity`, or `branching.rank` of a factorised one, if it has one branch
        alone, which costs no arbitrator, or with `slow_share`, which costs none either.
    """
    branching = BranchingConfig.from_mapping(settings["branching"])
    if settings["chooses"] == "fast":
        macs = starting(init, replace(branching, sparsity=0.0)).model.transcriber.macs
        layers = cost * macs.all_slow - macs.shared
        size: dict[str, float] = {"sparsity": min(max(1 - layers / sum(macs.slow), 0.0), 0.99)}
        if branching.fast == "factorised":
            size = {"rank": max(1, round(layers / (sum(macs.fast) / branching.rank)))}
        return {**settings, "branching": {**settings["branching"], **size}}
    macs = load_branching(init).model.transcriber.macs
    share = (cost * macs.all_slow - macs.all_fast) / (macs.all_slow - macs.all_fast)
    return {**settings, "slow_share": min(max(share, 0.0), 1.0)}


def _needs_share(settings: Mapping[str, Any], as_costly_as: Step | None) -> bool:
    return as_costly_as is not None and settings["chooses"] in ("random", "energy")
