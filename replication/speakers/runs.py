"""Training the networks and fitting the controls, as steps of the pipeline; the material is made once for all."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from replication.speakers.listening import Embed, Listener, Vectors
from replication.speakers.sets import corpora_of, stored, tuning, tuning_condition, voices_of
from replication.speakers.trials import Trials, free_trials
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edgespeech.core.files import write_atomic
from edgespeech.corpora.needed import fetch_all
from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.statistics import quantile
from edgespeech.metrics.verification import curve, equal_error_threshold
from edgespeech.records.records import sha256_json
from edgespeech.speakers.network import Saved, Thresholds, save_network
from edgespeech.speakers.spectrum import Floats, Spectrum, discriminants, standardised
from edgespeech.speakers.training import Schedule, Voices, train
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job

FRAMES, INDEX, FILE, CONTROLS = "frames.npy", "index.npz", "network.safetensors", "controls.safetensors"
MATERIAL = ("seed", "train", "languages", "per_speaker", "least", "longest_s", "noises", "rooms", "augment")
TUNING = ("tuning", "tuning_from", "tuning_trials", "snr_db")
LONG_TERM, DISCRIMINANTS = "spectrum", "spectrum, discriminants"
PAIRS_ABOVE = 0.98
"""Share of pairs of one speaker's utterances whose cosine is above the threshold for a warning at enrolment."""
_WITHOUT = ("core", "records", "steps")


def given_of(config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """All that decides the network of a seed."""
    return {"network_seed": seed, **{key: config[key] for key in (*MATERIAL, *TUNING, "schedule")}}


def controls_given(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides the controls."""
    return {key: config[key] for key in (*MATERIAL, *TUNING, "dimensions")}


def steps_of(config: Mapping[str, Any], only: str = "*") -> list[Step]:
    """The material, the controls, and the network of each seed."""
    resources = Resources.from_mapping(config.get("resources"), "speakers/config.yaml")

    def step(rule: str, name: str, function: str, given: Mapping[str, Any], *needs: Step) -> Step:
        return Step(
            rule=rule,
            name=name,
            function=f"{__name__}:{function}",
            given=given,
            needs=needs,
            code=("replication.speakers.sets", "replication.speakers.listening", "replication.speakers.trials",
                  "edgespeech.speakers.training", "edgespeech.speakers.spectrum"),
            without=_WITHOUT,
            resources=resources,
        )  # fmt: skip

    material = step("speakers_material", "material", "make_material", {key: config[key] for key in MATERIAL})
    controls = step("speakers_controls", "controls", "make_controls", controls_given(config), material)
    networks = [
        step("speakers", f"seed_{seed}", "make_network", given_of(config, seed), material)
        for seed in config["seeds"]
    ]
    return [material, controls, *(one for one in networks if fnmatchcase(one.name, only))]


def make_material(job: Job) -> list[Path]:
    """Make the features to train on."""
    fetch_all([*corpora_of(job.given), *job.given["noises"], *job.given["rooms"]])
    voices, spectra = voices_of(job.given)
    frames, index = io.BytesIO(), io.BytesIO()
    np.save(frames, voices.frames)
    np.savez(index, allow_pickle=False, **stored(voices, spectra))
    write_atomic(job.folder / FRAMES, frames.getvalue())
    write_atomic(job.folder / INDEX, index.getvalue())
    return [job.folder / FRAMES, job.folder / INDEX]


def load_material(folder: Path) -> tuple[Voices, Floats]:
    """Read what `make_material` wrote; the features stay on the disk."""
    with np.load(folder / INDEX) as found:
        frames = np.load(folder / FRAMES, mmap_mode="r")
        voices = Voices(frames, found["starts"], found["lengths"], found["speakers"])
        return voices, found["spectra"].astype(np.float64)


def make_controls(job: Job) -> list[Path]:
    """Fit the long-term spectra, with as many discriminants as tell tuning speakers apart best."""
    fetch_all([job.given["tuning"]])
    voices, spectra = load_material(next(iter(job.folders.values())))
    candidates = [discriminants(spectra, voices.speakers, count) for count in job.given["dimensions"]]
    trials, _, heard = _on_tuning(job.given, [one.embed for one in candidates])
    targets = trials.speakers.targets
    errors = [curve(one.scores(trials), targets).eer() for one in heard]
    best = candidates[int(np.argmin(errors))]
    write_atomic(job.folder / CONTROLS, packed_controls(standardised(spectra), best, sha256_json(job.given)))
    return [job.folder / CONTROLS]


def packed_controls(plain: Spectrum, best: Spectrum, given_sha256: str) -> bytes:
    """The file of the controls."""
    parts = {LONG_TERM: plain, DISCRIMINANTS: best}
    values = {
        f"{name}.{field}": np.ascontiguousarray(getattr(one, field), np.float32)
        for name, one in parts.items()
        for field in ("mean", "projection")
    }
    return save({**values, "given": np.frombuffer(bytes.fromhex(given_sha256), np.uint8)})


def load_controls(path: Path) -> tuple[dict[str, Spectrum], str]:
    """The controls by name, and the hash of what decided them.

    Raises:
        EdgeSpeechError: it is no such file.
    """
    try:
        found = load(path.read_bytes())
        made = {
            name: Spectrum(
                found[f"{name}.mean"].astype(np.float64), found[f"{name}.projection"].astype(np.float64)
            )
            for name in (LONG_TERM, DISCRIMINANTS)
        }
        return made, found["given"].tobytes().hex()
    except (OSError, SafetensorError, KeyError) as error:
        raise EdgeSpeechError(f"{path}: no controls of speaker identification: {error}") from error


def make_network(job: Job) -> list[Path]:
    """Train a network, and choose its thresholds on tuning speakers."""
    fetch_all([job.given["tuning"]])
    torch.set_num_threads(job.resources.threads)
    voices, _ = load_material(next(iter(job.folders.values())))
    network = train(voices, Schedule(**job.given["schedule"]), job.given["network_seed"])
    trials, listener, heard = _on_tuning(job.given, [network.embed])
    thresholds = thresholds_of(trials, listener, heard[0])
    save_network(job.folder / FILE, Saved(network, thresholds, sha256_json(job.given)))
    return [job.folder / FILE]


def thresholds_of(trials: Trials, listener: Listener, heard: Vectors) -> Thresholds:
    """The thresholds of a system that has heard the tuning speakers as `SYSTEM`."""
    cosines = []
    for voice in trials.voices:
        own = listener.embeddings(voice.utterances, SYSTEM, 0)
        others = [n for n, (speaker, _) in enumerate(trials.tests) if speaker == voice.speaker]
        cosines += (own @ heard.tests[others].T).ravel().tolist()
    return Thresholds(
        equal_error_threshold(heard.scores(trials), trials.speakers.targets),
        quantile(cosines, 1 - PAIRS_ABOVE),
    )


SYSTEM = "tuned"


def _on_tuning(config: Mapping[str, Any], runs: Sequence[Embed]) -> tuple[Trials, Listener, list[Vectors]]:
    """The tuning speakers' trials as some embedders hear them."""
    manifest = tuning(config)
    trials = free_trials(manifest.utterances, speakers=None, seed=config["seed"], **config["tuning_trials"])
    listener = Listener(manifest, {SYSTEM: runs})
    return trials, listener, listener.vectors(trials, "tuning", tuning_condition(config))[SYSTEM]
