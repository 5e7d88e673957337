"""A training run as a step of the pipeline: torchrun with as many processes or GPUs as the step's resources say.

The run goes on from its last state (`edgespeech.training.state`) where it was interrupted; the pipeline says whether it
is finished.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml

from edgespeech.core.files import write_atomic
from edgespeech.core.places import checkout
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.checkpoint import TOKENS, WEIGHTS
from edgespeech.model.languages import HEAD
from edgespeech.packed.pack import CODES
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job, folder_of
from edgespeech.synthesis.step import speech_steps
from edgespeech.training.compressor import COMPRESSORS
from edgespeech.training.config import TrainConfig
from edgespeech.training.loop import MODEL, STATE

RULE = "train"
RUN = "run.yaml"
"""A run's file, in its folder."""
SNAPSHOTS = "snapshots"
"""Models on the way, in a run's folder, each in a folder with its step as name."""
_CODE = ("edgespeech.training.loop", "edgespeech.packed.codes")
_WITHOUT = ("core", "records", "corpora", "synthesis", "engine", "packed", "metrics", "search", "lm")
"""What training imports to read speech, to write files and to be watched. Speech counts by the steps that made it."""


def train_step(
    name: str,
    config: TrainConfig,
    *,
    inits: Sequence[Step | Path] = (),
    resources: Resources | None = None,
    snapshots: int = 0,
) -> Step:
    """The step that makes a training run.

    Args:
        name: of the step.
        config: the run; what it starts from is in `inits`, and its own `init` is not looked at.
        inits: training steps, whose models it starts from, or folders of models. Several: their mean.
        resources: what it uses of a machine.
        snapshots: so many models on the way are left beside the last, after equal numbers of steps.

    Raises:
        EdgeSpeechError: its speech is none that can be made or fetched.
    """
    run = config.model_dump(mode="json", exclude_unset=True, exclude={"init"})
    speech = [*config.speech_corpora, *config.noise_corpora, *config.room_corpora]
    watched = () if config.watch is None else config.watch.tuning
    trained = tuple(one for one in inits if isinstance(one, Step))
    models = tuple(one for one in inits if isinstance(one, Path))
    files = (WEIGHTS, TOKENS)
    return Step(
        rule=RULE,
        name=name,
        function=f"{__name__}:train_run",
        given={
            "run": run,
            "init": [f"{one.rule}/{one.name}" if isinstance(one, Step) else portable(one) for one in inits],
            "snapshots": snapshots,
        },
        needs=(*dict.fromkeys(trained), *speech_steps([*speech, *watched])),
        inputs=tuple(folder / file for folder in models for file in files),
        code=(*_CODE, *_compressors(config.compressor)),
        without=_WITHOUT,
        resources=resources or Resources(),
    )


def model_of(step: Step) -> Path:
    """The folder of the model that a training step makes."""
    return folder_of(step) / MODEL


def train_run(job: Job) -> list[Path]:
    """Train, or go on where the run was stopped."""
    mapping = dict(job.given["run"])
    if inits := [str(job.folders[one] / MODEL) if one in job.folders else one for one in job.given["init"]]:
        mapping["init"] = inits[0] if len(inits) == 1 else inits
    config = TrainConfig.model_validate(mapping)
    folder, end = job.folder, min(config.until or config.steps, config.steps)
    write_atomic(folder / RUN, yaml.safe_dump(mapping, sort_keys=False))
    made = []
    snapshots = job.given["snapshots"]
    for until in [end * n // snapshots for n in range(1, snapshots + 1)] or [end]:
        left = folder / SNAPSHOTS / str(until)
        if not (left / WEIGHTS).is_file():
            torchrun(folder, job.resources, until)
            if snapshots:
                for name in (TOKENS, WEIGHTS):  # the weights last: they say that it is whole
                    write_atomic(left / name, (folder / MODEL / name).read_bytes())
        if snapshots:
            made += [left / TOKENS, left / WEIGHTS]
    last = [folder / MODEL / WEIGHTS, folder / MODEL / TOKENS, folder / STATE]
    return [*made, *last, *filter(Path.is_file, [folder / MODEL / CODES, folder / MODEL / HEAD])]


def torchrun(folder: Path, resources: Resources, until: int) -> None:
    """Train the run's file in a folder so far, in processes of their own.

    Raises:
        EdgeSpeechError: the training stopped, having said why; or there are fewer GPUs here than it needs.
    """
    environment = dict(os.environ)
    if resources.gpus:
        _check_gpus(resources.gpus)
    else:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    processes = resources.gpus or resources.processes
    command = (
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *("--module", "edgespeech.cli", "train", str(folder / RUN), "--out", str(folder)),
        *("--until", str(until), "--threads", str(resources.threads)),
    )
    if (code := subprocess.run(command, env=environment, check=False).returncode) != 0:
        raise EdgeSpeechError(
            f"{folder.name}: its training ended with {code}; it goes on from its last state"
        )


def _check_gpus(wanted: int) -> None:
    if (found := torch.cuda.device_count()) < wanted:
        raise bad("train", "gpus", wanted, f"at most {found}, which this machine has")


def portable(folder: Path) -> str:
    """A folder as a run's file names it: from the checkout's on, where it lies within that."""
    root = checkout()
    return os.path.relpath(folder, root) if root is not None and folder.is_relative_to(root) else str(folder)


def _compressors(compressor: Mapping[str, Any] | None) -> list[str]:
    """The modules of the techniques that a compressor names."""
    named = [f"{COMPRESSORS}.{value}" for value in (compressor or {}).values() if isinstance(value, str)]
    return [module for module in named if find_spec(module) is not None]
