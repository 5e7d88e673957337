"""The runs that make the on-device model from nothing, as steps of the pipeline."""

from __future__ import annotations

from pathlib import Path

from replication.rnnt.shipping import FUSION_CONFIG, publish_model

from edgespeech.core.config import words_in
from edgespeech.core.places import project_root, shipped_models
from edgespeech.core.yaml_files import load_yaml
from edgespeech.corpora.step import is_corpus
from edgespeech.model.checkpoint import WEIGHTS, model_files
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job
from edgespeech.synthesis.step import speech_steps
from edgespeech.systems.edge_packed import PACKED, EdgePacked
from edgespeech.training.config import load_train_config
from edgespeech.training.loop import MODEL
from edgespeech.training.step import train_step

HERE = Path(__file__).parent


def training_files() -> list[Path]:
    """The runs' files, in the order in which they are made: the first model, then the stages that go on from it."""
    return [*sorted(HERE.glob("train_*.yaml")), *sorted(HERE.glob("base_*.yaml"))]


def run_steps() -> dict[str, Step]:
    """The training runs by their names, each on those that its file says it starts from.

    Where that is a published folder, such as a snapshot of a stage, the run goes on from it and the stages before are
    not made again; a snapshot that is no longer published is the run of its name.
    """
    resources = Resources.from_mapping(load_yaml(HERE / "config.yaml").get("resources"), "rnnt/config.yaml")
    steps: dict[str, Step] = {}
    root = project_root()
    for path in training_files():
        config = load_train_config(path)
        inits = [
            root / init if (root / init / WEIGHTS).is_file() else steps[_run_of(init)]
            for init in config.inits
        ]
        steps[config.name] = train_step(config.name, config, inits=inits, resources=resources)
    return steps


def _run_of(init: str) -> str:
    """The run whose model, or snapshot, a path is."""
    path = Path(init)
    return path.parent.name if path.name == MODEL else path.name


def first_steps(profile: str, only: str) -> list[Step]:
    """In the full profile the model is made from nothing, and ships before anything is measured."""
    del only
    if profile != "full":
        return []
    shares, runs = load_yaml(HERE / "config.yaml")["shipped"], run_steps()
    return [
        Step(
            rule="ship",
            name="edge-fp32",
            function=f"{__name__}:ship",
            given={"shares": shares},
            needs=(*(runs[name] for name in shares), *speech_steps(fusion_corpora())),
            inputs=(FUSION_CONFIG,),
            code=("edgespeech.model.average", "edgespeech.training.fusion"),
            without=("core", "records", "corpora"),
            here=True,
        )
    ]


def fusion_corpora() -> list[str]:
    """The splits that `fusion.yaml` names."""
    return sorted({word for word in words_in(load_yaml(FUSION_CONFIG)) if is_corpus(word)})


def ship(job: Job) -> list[Path]:
    """Ship the average of the runs."""
    shares = job.given["shares"]
    folder = publish_model(shares, {name: job.folders[f"train/{name}"] for name in shares})
    return [*(folder / name for name in model_files(folder)), shipped_models() / EdgePacked.name / PACKED]
