"""Training arms of an experiment: their configuration, their runs, and packing into one file each.

A replication's `config.yaml` has a list `families`; each is one technique over several bit widths or sparsities, and
over seeds. The keys of a family:

- `name`: an arm is called `NAME_POINT`, with the point in bits or in percent of zeros, and `NAME_POINT_seedS` except
  for the first seed.
- `bits` or `sparsity`: the points, which are passed to `compressor`, or to `pack` if there is no compressor.
- `compressor`: the technique applied in training.
- `pack`: the encoding of the matrices (`edgespeech.packed.pack.Encoding`), except for those with codes from the
  compressor.
- `of`: pack the model of another arm (`fp32`, or `qat/fp32` of another page), or `init`, without training.
- `init_of`: start training from that arm's model instead of the page's.
- `train`: keys of the training configuration that differ from the base mapping of all arms.
- `attention`: the shape of the attention over phrases that training adds to the model (`BiasingConfig`); `train` then
  has the lists, as `biasing`.
- `seeds`: of the training; by default only the base mapping's.
- `ships`: publish the `.edge` file among the results.

An arm is two steps of the pipeline (`edgespeech.steps`): its training, if it is trained, and its packing. The pipeline
makes them; here are only those that it has made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from edgespeech.arms.packing import PACKED, pack_step
from edgespeech.core.config import explain
from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import MODEL_VARIABLE, shipped_models
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lm.fusion import FUSION
from edgespeech.model.checkpoint import TOKENS, WEIGHTS, load_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transducer
from edgespeech.packed.pack import EMBEDDING, Encoding, Layout, weights_of
from edgespeech.records.records import sha256_json, without_paths
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import folder_of, is_made, make
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.training.config import TrainConfig, hashed_names
from edgespeech.training.loop import MODEL, STATE
from edgespeech.training.step import SNAPSHOTS, model_of, portable, train_step

INIT = "init"
"""The value of `of` for the page's initial model."""

_KEYS = {
    "name", "bits", "sparsity", "compressor", "pack", "of", "init_of", "train", "attention", "seeds", "ships",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One point of a family.

    Attributes:
        name: of the arm.
        family: its family.
        point: bits per weight, or sparsity; None for a family of one arm.
        seed: of its training.
        config: its training configuration; None without training.
        of: the arm whose model is packed, without training.
        init_of: the arm whose model is the initial one; None for the page's.
        layout: of its file, except for matrices with codes from the compressor.
        ships: whether its file is published among the results.
    """

    name: str
    family: str
    point: float | None
    seed: int
    config: TrainConfig | None
    of: str | None
    init_of: str | None
    layout: Layout
    ships: bool

    @property
    def first(self) -> str:
        """The name of the same arm with the first seed."""
        return self.name.partition("_seed")[0]


class Arms:
    """A page's arms.

    Args:
        folder: of the page, `replication/NAME`.
        config: its configuration: `base` (path of the base mapping, relative to the folder) and `families`; with
            `fusion`, every packed file has the language models of the initial model, or the recogniser's where the
            initial model has none. `resources` are those of each training step; `snapshots` are numbers of intermediate
            models, by the arm's name.
        init: folder of the initial model.

    Raises:
        EdgeSpeechError: the configuration is not valid (the message names the key), or there is no such model.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], init: Path) -> None:
        self.folder = folder
        self.init = init
        self._base: dict[str, Any] = load_yaml(folder / config["base"])
        self._fused = bool(config.get("fusion", False))
        self._others: dict[str, Arms] = {}
        self._steps: dict[str, Step] = {}
        self._resources = Resources.from_mapping(config.get("resources"), self._where)
        self._snapshots: Mapping[str, int] = config.get("snapshots", {})
        self.arms: dict[str, Arm] = {}
        for family in config["families"]:
            for arm in self._expand(family):
                if arm.name in self.arms:
                    raise bad(self._where, "families", arm.name, "each arm once")
                self.arms[arm.name] = arm

    @property
    def page(self) -> str:
        """The page's name."""
        return self.folder.name

    @cached_property
    def shape(self) -> ModelConfig:
        """The configuration of the initial model."""
        return load_model(self.init).model.config

    @cached_property
    def root_sha256(self) -> str:
        """The hash of the initial weights."""
        return sha256_file(self.init / WEIGHTS)

    def named(self, pattern: str) -> list[Arm]:
        """The arms whose names match a shell pattern.

        Raises:
            EdgeSpeechError: none matches.
        """
        found = [arm for arm in self.arms.values() if fnmatchcase(arm.name, pattern)]
        if not found:
            raise bad(self._where, "arm", pattern, "a pattern that matches one of " + ", ".join(self.arms))
        return found

    def sha256(self, arm: Arm) -> str:
        """A hash of the configuration of an arm and of the arms that it starts from."""
        return self._sha256(arm, fused=self._fused)

    def _sha256(self, arm: Arm, *, fused: bool) -> str:
        run = (
            None
            if arm.config is None
            else hashed_names(arm.config.model_dump(mode="json", exclude_unset=True))
        )
        parents = []
        for reference in (arm.of, arm.init_of):
            if reference is not None and reference != INIT:
                owner, other = self._other(reference, arm.seed)
                # For another page's arm only the training counts, not that page's additional packed tensors.
                parents.append(owner._sha256(other, fused=fused and owner is self))
        layout = arm.layout.to_mapping()
        told = {"run": run and {**run, "init": ""}, "parents": parents, "layout": layout}
        return sha256_json(told | ({"fusion": True} if fused else {}))

    def train_step(self, arm: Arm) -> Step:
        """The step that trains an arm.

        Raises:
            EdgeSpeechError: nothing is trained for it, or its speech is none that can be made or fetched.
        """
        if arm.config is None:
            raise bad(self._where, "arm", arm.name, "one that is trained")
        if arm.name not in self._steps:
            start: Step | Path = self.init
            if arm.init_of is not None:
                owner, other = self._other(arm.init_of, arm.seed)
                start = owner.train_step(other)
            self._steps[arm.name] = train_step(
                f"{self.page}/{arm.name}",
                arm.config,
                inits=[start],
                resources=self._resources,
                snapshots=self._snapshots.get(arm.name, 0),
            )
        return self._steps[arm.name]

    def pack_step(self, arm: Arm) -> Step:
        """The step that packs an arm, as `train_step`."""
        model: Step | Path = self.init
        if arm.of is not None and arm.of != INIT:
            owner, other = self._other(arm.of, arm.seed)
            model = owner.train_step(other)
        elif arm.of is None:
            model = self.train_step(arm)
        return pack_step(
            f"{self.page}/{arm.name}",
            model,
            arm.layout,
            fusion=self.language_models() if self._fused else None,
            codes=arm.of is None,
        )

    def steps(self, profile: str, pattern: str = "*") -> list[Step]:
        """The steps that make what the arms of a page are measured by.

        Args:
            profile: `full` trains what is not trained; in any other the arms are packed whose models are there.
            pattern: as the shell has them; only arms whose names match are trained.

        Raises:
            EdgeSpeechError: the pattern matches none.
        """
        wanted = {arm.name for arm in self.named(pattern)}
        return [
            self.pack_step(arm)
            for arm in self.arms.values()
            if (profile == "full" and arm.name in wanted) or self.has_model(arm)
        ]

    def run_folder(self, arm: Arm) -> Path:
        """The folder of an arm's run, which may not exist yet.

        Raises:
            EdgeSpeechError: as `train_step`.
        """
        return folder_of(self.train_step(arm))

    def finished(self, arm: Arm) -> bool:
        """Whether an arm's run is made."""
        return is_made(self.train_step(arm))

    def has_model(self, arm: Arm) -> bool:
        """Whether the model is here that an arm packs."""
        try:
            self.model_folder(arm)
        except EdgeSpeechError:
            return False
        return True

    def model_folder(self, arm: Arm) -> Path:
        """The folder of the model that an arm packs.

        Raises:
            EdgeSpeechError: its run is not finished on this machine.
        """
        if arm.of == INIT:
            return self.init
        if arm.of is not None:
            owner, other = self._other(arm.of, arm.seed)
            return owner.model_folder(other)
        if not self.finished(arm):
            raise EdgeSpeechError(f"{self.page}: {arm.name} is not trained on this machine")
        return self.run_folder(arm) / MODEL

    def packed(self, arm: Arm) -> Path:
        """An arm's `.edge` file, packed now unless the pipeline has made it.

        Raises:
            EdgeSpeechError: its run is not finished on this machine, the layout does not fit the model, or the language
                models are of other word pieces.
        """
        self.model_folder(arm)
        step = self.pack_step(arm)
        make(step)
        return folder_of(step) / PACKED

    def pack(self, arm: Arm, out: Path) -> None:
        """Copy `packed`."""
        write_atomic(out, self.packed(arm).read_bytes())

    def language_models(self) -> Path:
        """The folder of the model with those: the initial one, or the recogniser's where it has none.

        Raises:
            EdgeSpeechError: the recogniser's are of other word pieces.
        """
        if (self.init / FUSION).is_file():
            return self.init
        recogniser = start_model()
        if (recogniser / TOKENS).read_bytes() != (self.init / TOKENS).read_bytes():
            where = f"{self._where}: fusion: {without_paths(str(self.init))}"
            raise bad(
                where, "word pieces", "others", "those of the recogniser, whose language models it gets"
            )
        return recogniser

    def _expand(self, family: Mapping[str, Any]) -> Iterator[Arm]:
        """The arms of a family."""
        where = f"{self._where}: family {family.get('name')}"
        if unknown := sorted(family.keys() - _KEYS):
            raise bad(where, "key", unknown[0], "one of " + ", ".join(sorted(_KEYS)))
        if "name" not in family:
            raise bad(where, "name", None, "a name")
        if not family.keys() & {"compressor", "pack"}:
            raise bad(where, "pack", None, "how its matrices are stored, or a compressor that says so")
        if "of" in family and family.keys() & {"compressor", "train", "init_of", "attention"}:
            expected = "no compressor, train, init_of or attention beside it: it trains nothing"
            raise bad(where, "of", family["of"], expected)
        axes = family.keys() & {"bits", "sparsity"}
        if len(axes) > 1:
            raise bad(where, "sparsity", family["sparsity"], "bits or sparsity, not both")
        axis = next(iter(axes), None)
        for seed in family.get("seeds", [self._base["seed"]]):
            for point in [None] if axis is None else family[axis]:
                yield self._arm(family, axis, point, seed, where)

    def _arm(
        self, family: Mapping[str, Any], axis: str | None, point: float | None, seed: int, where: str
    ) -> Arm:
        name = str(family["name"])
        if point is not None:
            name += f"_{point}" if axis == "bits" else f"_{round(100 * point)}"
        if seed != self._base["seed"]:
            name += f"_seed{seed}"
        given = {} if axis is None else {axis: point}
        layout = Layout()
        if "pack" in family:
            encoding = {**family["pack"], **({} if "compressor" in family else given)}
            group = {"group": encoding["group"]} if "group" in encoding else {}
            others = {EMBEDDING: Encoding(bits=encoding["bits"], **group)} if "store" in encoding else {}
            layout = Layout(matrices=Encoding(**encoding), others=others)
        config = None
        if "of" not in family:
            compressor = {"compressor": {**family["compressor"], **given}} if "compressor" in family else {}
            config = self._config(name, seed, {**family.get("train", {}), **compressor}, family, where)
        return Arm(
            name=name,
            family=family["name"],
            point=point,
            seed=seed,
            config=config,
            of=family.get("of"),
            init_of=family.get("init_of"),
            layout=layout,
            ships=bool(family.get("ships", False)) and seed == self._base["seed"],
        )

    def _config(
        self, name: str, seed: int, changes: Mapping[str, Any], family: Mapping[str, Any], where: str
    ) -> TrainConfig:
        """The training configuration: the base mapping with the arm's changes."""
        start = self.init
        if "init_of" in family:
            owner, parent = self._other(family["init_of"], seed)
            start = model_of(owner.train_step(parent))
        shape = {**self.shape.to_mapping(), "dropout": self._base["dropout"]}
        if "attention" in family:
            shape["biasing"] = dict(family["attention"])
        mapping = {key: value for key, value in self._base.items() if key != "dropout"}
        mapping |= {"name": f"{self.page}.{name}", "seed": seed, "model": shape, "init": portable(start)}
        try:
            return TrainConfig.model_validate({**mapping, **changes})
        except ValidationError as error:
            raise explain(where, error) from error

    def _other(self, reference: str, seed: int) -> tuple[Arms, Arm]:
        """The arm with the name `NAME` or `PAGE/NAME`: with the same seed if there is one, else with the first."""
        page, _, name = reference.rpartition("/")
        owner = self
        if page and page != self.page:
            if page not in self._others:
                folder = self.folder.parent / page
                config = load_yaml(folder / "config.yaml")
                self._others[page] = Arms(folder, config, self.init)
            owner = self._others[page]
        for wanted in (f"{name}_seed{seed}", name):
            if wanted in owner.arms:
                return owner, owner.arms[wanted]
        raise bad(self._where, "of", reference, "one of " + ", ".join(owner.arms))

    @property
    def _where(self) -> str:
        return f"{self.page}/config.yaml"


def start_model() -> Path:
    """The folder of the recogniser's model: the shipped one, or the one that the environment names.

    Raises:
        EdgeSpeechError: there is none.
    """
    recogniser = EdgeFp32()
    if (missing := recogniser.missing()) is not None:
        raise EdgeSpeechError(missing)
    return recogniser.folder()


def compression_base() -> Path:
    """The folder of the model that all arms of the compression pages start from, or the one the environment names.

    It does not change when a better recogniser ships: techniques are compared on one model, and training all arms
    takes hours.

    Raises:
        EdgeSpeechError: the folder has no weights.
    """
    named = os.environ.get(MODEL_VARIABLE)
    folder = Path(named) if named else shipped_models() / "compression-base"
    if not (folder / WEIGHTS).is_file():
        raise bad("arms", "start", without_paths(str(folder)), f"a folder with {WEIGHTS}")
    return folder


def arms_of(folder: Path) -> Arms:
    """A page's arms, from its `config.yaml`, on `compression_base`.

    Raises:
        EdgeSpeechError: as `Arms` and `compression_base` do.
    """
    return Arms(folder, load_yaml(folder / "config.yaml"), compression_base())


def latent_weights(folder: Path, shape: ModelConfig) -> dict[str, NDArray[np.float32]]:
    """A run's averaged weights before compression, as returned by `edgespeech.packed.pack.weights_of`.

    Raises:
        EdgeSpeechError: the run's state is damaged, or of another model.
    """
    prefix = f"average.{MODEL}."
    try:
        with safe_open(folder / STATE, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a mapping
            tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
        model = Transducer(shape)
        model.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise EdgeSpeechError(f"{folder.name}: not a readable state of this model: {error}") from error
    return weights_of(model)


def snapshots_of(arms: Arms, arm: Arm) -> list[tuple[int, dict[str, NDArray[np.float32]]]]:
    """The initial and intermediate models of an arm: steps, and weights as returned by `weights_of`.

    Raises:
        EdgeSpeechError: this machine has none, or one is damaged.
    """
    kept = sorted((arms.run_folder(arm) / SNAPSHOTS).glob("*"), key=lambda folder: int(folder.name))
    if not kept:
        raise EdgeSpeechError(f"{arms.page}: this machine has no intermediate models of {arm.name}")
    models = [(0, arms.init), *((int(folder.name), folder) for folder in kept)]
    return [(step, weights_of(load_model(folder).model)) for step, folder in models]
