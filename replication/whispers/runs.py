"""Training the detectors, as steps of the pipeline; crops are made once for all seeds."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from replication.whispers.sets import crops_of, tuning

from edgespeech.audio.features import log_mel
from edgespeech.core.files import write_atomic
from edgespeech.corpora.needed import fetch_all
from edgespeech.model.perceptron import learn
from edgespeech.records.records import sha256_json
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job
from edgespeech.whispers.network import Saved, save_network
from edgespeech.whispers.rules import features_of
from edgespeech.whispers.training import Crops, Schedule, best_threshold, chosen_pooling, train

CROPS, FILE = "crops.npz", "network.safetensors"
MATERIAL = ("seed", "train", "per_corpus", "crop_s", "noises", "noise_share", "noise_snr_db")
CHOICE = ("tuning", "tuning_utterances", "poolings", "snr_db", "schedule")
_WITHOUT = ("core", "records", "steps")


def given_of(config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """All that decides the network of a seed."""
    return {"network_seed": seed, **{key: config[key] for key in (*MATERIAL, *CHOICE)}}


def steps_of(config: Mapping[str, Any], only: str = "*") -> list[Step]:
    """The crops, and the network of each seed."""
    resources = Resources.from_mapping(config.get("resources"), "whispers/config.yaml")
    crops = Step(
        rule="whispers_crops",
        name="crops",
        function=f"{__name__}:make_crops",
        given={key: config[key] for key in MATERIAL},
        code=("replication.whispers.sets",),
        without=_WITHOUT,
        resources=resources,
    )
    networks = [
        Step(
            rule="whispers",
            name=f"seed_{seed}",
            function=f"{__name__}:make_network",
            given=given_of(config, seed),
            needs=(crops,),
            code=("replication.whispers.sets", "edgespeech.whispers.training"),
            without=_WITHOUT,
            resources=resources,
        )
        for seed in config["seeds"]
    ]
    return [crops, *(step for step in networks if fnmatchcase(step.name, only))]


def make_crops(job: Job) -> list[Path]:
    """Make the crops."""
    fetch_all([*job.given["train"], *job.given["noises"]])
    crops = crops_of(job.given)
    path = job.folder / CROPS
    content = io.BytesIO()
    np.savez(content, **{**asdict(crops), "features": crops.features.astype(np.float16)})
    write_atomic(path, content.getvalue())
    return [path]


def load_crops(path: Path) -> Crops:
    """Read what `make_crops` wrote."""
    with np.load(path) as found:
        return Crops(**{**found, "features": found["features"].astype(np.float32)})


def make_network(job: Job) -> list[Path]:
    """Train a network and its control; choose pooling and thresholds on tuning speech."""
    fetch_all([job.given["tuning"]])
    crops, seed = load_crops(next(iter(job.folders.values())) / CROPS), job.given["network_seed"]
    network = train(crops, Schedule(**job.given["schedule"]), seed)
    control = learn(crops.by_hand, crops.labels.astype(np.float64), seed)
    examples = list(tuning(job.given))
    labels = np.array([one.is_whispered for one in examples])
    with torch.inference_mode():
        log_odds = [network(torch.from_numpy(log_mel(one.samples))[None])[0][0] for one in examples]
    pooling = chosen_pooling(log_odds, labels, job.given["poolings"])
    scores = control.scores(np.array([features_of(one.samples) for one in examples]))
    saved = Saved(network, pooling, control, best_threshold(scores, labels), sha256_json(job.given))
    save_network(job.folder / FILE, saved)
    return [job.folder / FILE]
