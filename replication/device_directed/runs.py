"""Fitting the classifiers, as steps of the pipeline; the recogniser listens once for all of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from replication.device_directed.sets import PACKED, Heard, Recogniser, heard, training, tuning
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from edgespeech.audio.features import N_MELS
from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import shipped_models
from edgespeech.corpora.needed import fetch_all
from edgespeech.directed.features import AUDIO, FEATURES, Floats
from edgespeech.directed.score import Saved, save_classifier
from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.verification import equal_error_threshold
from edgespeech.model.perceptron import Classifier, learn
from edgespeech.records.records import sha256_json
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job

HEARD = {"training": "training.npz", "tuning": "tuning.npz"}
FILE, CONTROLS = "classifier.safetensors", "controls.safetensors"
AUDIO_ONLY, SPECTRUM = "audio alone", "spectrum"
MATERIAL = ("seed", "per_corpus", "train", "tuning", "tuning_from", "tuning_utterances", "wake_words")
SPECTRUM_SIZE = 2 * N_MELS
_WITHOUT = ("core", "records", "steps")


def material_given(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what is heard: the recogniser's file too."""
    file = shipped_models() / config["recogniser"] / PACKED
    listens = sha256_file(file) if file.is_file() else None
    return {**{key: config[key] for key in MATERIAL}, "recogniser_sha256": listens}


def given_of(config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """All that decides the classifier of a seed."""
    return {"classifier_seed": seed, **material_given(config)}


def steps_of(config: Mapping[str, Any], only: str = "*") -> list[Step]:
    """What is heard, and the classifier of each seed."""
    resources = Resources.from_mapping(config.get("resources"), "device_directed/config.yaml")
    material = Step(
        rule="directed_material",
        name="material",
        function=f"{__name__}:make_material",
        given=material_given(config),
        code=("replication.device_directed.sets",),
        without=_WITHOUT,
        resources=resources,
    )
    classifiers = [
        Step(
            rule="directed",
            name=f"seed_{seed}",
            function=f"{__name__}:make_classifier",
            given=given_of(config, seed),
            needs=(material,),
            code=("replication.device_directed.sets", "edgespeech.model.perceptron"),
            without=_WITHOUT,
            resources=resources,
        )
        for seed in config["seeds"]
    ]
    return [material, *(step for step in classifiers if fnmatchcase(step.name, only))]


def make_material(job: Job) -> list[Path]:
    """Let the recogniser hear training and tuning speech."""
    given = job.given
    fetch_all([*given["train"]["directed"], *given["train"]["other"], given["tuning"]])
    recogniser = Recogniser()
    try:
        for name, items in (("training", training(given)), ("tuning", tuning(given))):
            found = heard(items, recogniser.decode, recogniser.language, given["wake_words"])
            write_atomic(job.folder / HEARD[name], packed(found))
    finally:
        recogniser.close()
    return [job.folder / name for name in HEARD.values()]


def packed(found: Heard) -> bytes:
    """What was heard, as a file."""
    content = io.BytesIO()
    np.savez(
        content,
        features=found.features,
        levels=found.levels,
        spectra=found.spectra,
        directed=found.directed,
        speakers=np.array(found.speakers),
    )
    return content.getvalue()


def unpacked(path: Path) -> Heard:
    """Read what `packed` made."""
    with np.load(path) as found:
        names = [str(name) for name in found["speakers"]]
        return Heard(found["features"], found["levels"], found["spectra"], found["directed"], names)


def make_classifier(job: Job) -> list[Path]:
    """Fit a classifier, and choose its threshold on tuning speech."""
    folder = next(iter(job.folders.values()))
    train, tune = (unpacked(folder / HEARD[name]) for name in ("training", "tuning"))
    classifier = learn(train.features, train.directed.astype(np.float64), job.given["classifier_seed"])
    threshold = equal_error_threshold(classifier.scores(tune.features), tune.directed)
    save_classifier(job.folder / FILE, Saved(classifier, threshold, sha256_json(job.given)))
    write_atomic(
        job.folder / CONTROLS, packed_controls(fitted_controls(train, tune, job.given["classifier_seed"]))
    )
    return [job.folder / FILE, job.folder / CONTROLS]


class Controls(NamedTuple):
    """What a classifier is compared with, fitted to the same utterances.

    Attributes:
        classifiers: of audio features alone, and of long-term spectra.
        energy_sign: 1 if speech for the device is louder in tuning speech, else -1.
    """

    classifiers: dict[str, Classifier]
    energy_sign: int

    def scores(self, found: Heard) -> dict[str, Floats]:
        """The scores of each control, and of the rules on the wake word and on energy."""
        return {
            AUDIO_ONLY: self.classifiers[AUDIO_ONLY].scores(found.features[:, : len(AUDIO)]),
            SPECTRUM: self.classifiers[SPECTRUM].scores(found.spectra),
            "wake word": found.features[:, FEATURES.index("wake")],
            "energy": self.energy_sign * found.levels,
        }


def fitted_controls(train: Heard, tune: Heard, seed: int) -> Controls:
    """Fit the controls."""
    labels = train.directed.astype(np.float64)
    classifiers = {
        AUDIO_ONLY: learn(train.features[:, : len(AUDIO)], labels, seed),
        SPECTRUM: learn(train.spectra, labels, seed),
    }
    louder = tune.levels[tune.directed].mean() >= tune.levels[~tune.directed].mean()
    return Controls(classifiers, 1 if louder else -1)


def packed_controls(controls: Controls) -> bytes:
    """The controls, as a file."""
    weights = {
        f"{name}/{field}": value
        for name, one in controls.classifiers.items()
        for field, value in one.state_dict().items()
    }
    return save(weights, {"energy_sign": str(controls.energy_sign)})


def load_controls(path: Path) -> Controls:
    """Read what `packed_controls` made.

    Raises:
        EdgeSpeechError: it is no such file.
    """
    made = {AUDIO_ONLY: Classifier(len(AUDIO)), SPECTRUM: Classifier(SPECTRUM_SIZE)}
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            sign = int((file.metadata() or {})["energy_sign"])
        for name, one in made.items():
            own = {
                key.removeprefix(f"{name}/"): value
                for key, value in weights.items()
                if key.startswith(f"{name}/")
            }
            one.load_state_dict(own)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise EdgeSpeechError(f"{path}: no controls of device-directed speech: {error}") from error
    return Controls({name: one.eval() for name, one in made.items()}, sign)
