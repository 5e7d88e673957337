"""Train the networks of the learned scorers, and ship them with thresholds for use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from replication.endpointing.dual import dual_thresholds
from replication.endpointing.listening import frames_of
from replication.endpointing.material import Config, recogniser, tuned_sweeps
from replication.endpointing.sets import lessons_cases
from replication.endpointing.training import Lesson, NetworksConfig, lesson, train_networks

from edgespeech.audio.augment import Augmenter
from edgespeech.audio.augment_config import AugmentConfig
from edgespeech.core import places
from edgespeech.core.yaml_files import load_yaml
from edgespeech.endpointing.networks import Thresholds, new_networks, save_networks
from edgespeech.errors import EdgeSpeechError
from edgespeech.records.records import sha256_json
from edgespeech.search.settings import SearchSettings
from edgespeech.steps.step import Step
from edgespeech.steps.store import Job
from edgespeech.synthesis.pauses import Hesitation
from edgespeech.synthesis.step import speech_steps
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.training.speech import load_noises, trainable

HERE = Path(__file__).parent


def train(config: Config) -> Path:
    """Train the networks on train splits, and ship them with thresholds for use.

    Raises:
        EdgeSpeechError: speech or noises are missing, or for evaluation only.
    """
    trained, sha256 = recogniser()
    settings, seed = config["training"], config["seed"]
    how = NetworksConfig.model_validate(settings["networks"])
    augment = Augmenter(
        AugmentConfig.from_mapping(settings["augment"]),
        load_noises(*filter(None, [settings["noises"]])),
        seed,
    )
    hesitation = Hesitation.model_validate(settings["hesitation"])
    lessons_search = SearchSettings(beam=config["beam"], language_model=False)
    lessons: list[Lesson] = []
    for source in settings["speech"]:
        manifest = trainable(source["corpus"]).subset(source["utterances"], seed)
        lessons += [
            lesson(frames_of(trained, lessons_search, case), case.eos_s, how.after_s)
            for case in lessons_cases(manifest, hesitation, trained, augment, seed, gate=settings["gate"])
        ]
        print(f"{manifest.name}: heard, {len(lessons)} utterances in all", flush=True)
    shape = trained.model.config
    networks = new_networks(shape.joiner, shape.vocabulary, how.hidden, sha256, seed)
    losses = train_networks(networks, lessons, how, seed)
    networks.provenance.update(
        utterances=str(len(lessons)),
        audio_s=f"{sum(float(one.audio_s[-1]) for one in lessons):.0f}",
        config_sha256=training_sha256(config),
        **{f"loss_{name}": f"{loss:.4f}" for name, loss in losses.items()},
    )
    save_networks(places.networks_file(), networks)
    parts = config["dual"]["policies"][config["shipped"]]
    closing, opening = dual_thresholds(config, parts, tuned_sweeps(config))
    save_networks(places.networks_file(), replace(networks, thresholds=Thresholds(closing[1], opening[1])))
    return places.networks_file()


def training_sha256(config: Config) -> str:
    """A hash of the configuration of the training."""
    told = {key: config[key] for key in ("seed", "beam", "training")}
    training = dict(told["training"])
    training["heads"] = training.pop("networks")  # their name when the shipped ones were trained
    return sha256_json({**told, "training": training})


def first_steps(profile: str, only: str) -> list[Step]:
    """The networks, which ship before anything is measured."""
    del only
    if profile != "full":
        return []
    found = EdgeFp32()
    if (missing := found.missing()) is not None:
        raise EdgeSpeechError(missing)
    config: Config = {**load_yaml(HERE / "config.yaml"), "profile": profile}
    settings, tuning = config["training"], config["tuning"]
    speech = [tuning["corpus"], tuning["noises"], settings["noises"]]
    return [
        Step(
            rule="train_networks",
            name=HERE.name,
            function=f"{__name__}:train_step",
            given={"config": config},
            needs=speech_steps([*speech, *(source["corpus"] for source in settings["speech"])]),
            inputs=tuple(found.files().values()),
            code=("replication.endpointing.training", "edgespeech.endpointing.networks"),
            without=("core", "records", "corpora"),
            here=True,
        )
    ]


def train_step(job: Job) -> list[Path]:
    """Train and ship; thresholds for use come from all tuning utterances."""
    return [train(job.given["config"])]
