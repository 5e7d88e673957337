"""The arms of the page: their configuration, and the steps that train them.

`config.yaml` has `run`, changes of the base mapping for every arm, `branchings`, the networks by name, and `arms`. The
keys of an arm:

- `name`: with `_seedS` behind it except for the first seed.
- `branching`: a name of `branchings`.
- `from`: the arm that it starts from, or `init`.
- `chooses`, and further settings of `edgespeech.training.branching_config.BranchTraining`, under `with`.
- `as_costly_as`: the arm whose mean cost this control has.
- `train`: changes of `run`.
- `seeds`: of the training; by default the first of the page's.
- `ways`: how it is heard, of `WAYS`; by default the one that it was trained for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from edgespeech.arms.configuration import compression_base
from edgespeech.core.files import sha256_file
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.branching_checkpoint import TrainedBranching, load_branching
from edgespeech.model.checkpoint import WEIGHTS, load_model
from edgespeech.records.records import sha256_json
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import folder_of, is_made
from edgespeech.training.branching_loop import MODEL, SPENT
from edgespeech.training.branching_step import branch_step

INIT = "init"
WAYS = ("own", "slow", "fast", "random", "energy", "entropy", "pivot")
"""How an arm's frames get their branch when it is heard; `own` is the arbitrator's."""
_OWN = {"arbitrator": ("own",), "both": ()}
_KEYS = {"name", "branching", "from", "chooses", "with", "as_costly_as", "train", "seeds", "ways"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One training.

    Attributes:
        name: of the arm.
        first: the name with the first seed.
        seed: of its training.
        ways: how it is heard.
        settings: of its training, without what it starts from.
        start: the name of the arm that it starts from, with its seed; None for the initial model.
        as_costly_as: likewise.
    """

    name: str
    first: str
    seed: int
    ways: tuple[str, ...]
    settings: Mapping[str, Any]
    start: str | None
    as_costly_as: str | None


class BranchArms:
    """The page's arms.

    Args:
        folder: of the page.
        config: its configuration.
        init: folder of the initial model.

    Raises:
        EdgeSpeechError: the configuration is not valid; the message names the arm and the key.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], init: Path) -> None:
        self.folder, self.init = folder, init
        self._config = config
        self._resources = Resources.from_mapping(config.get("resources"), f"{folder.name}/config.yaml")
        base: dict[str, Any] = {**load_yaml(folder / config["base"]), **config.get("run", {})}
        shape = load_model(init).model.config.to_mapping()
        self._run = {key: value for key, value in base.items() if key != "dropout"}
        self._run["model"] = {**shape, "dropout": base.get("dropout", 0.0)}
        self._steps: dict[str, Step] = {}
        self.arms: dict[str, Arm] = {}
        for given in config["arms"]:
            for arm in self._expand(given):
                if arm.name in self.arms:
                    raise bad(f"{folder.name}/config.yaml", "arms", arm.name, "each arm once")
                self.arms[arm.name] = arm

    def step(self, arm: Arm) -> Step:
        """The step that trains an arm.

        Raises:
            EdgeSpeechError: its settings are not valid, or its speech is none that can be made or fetched.
        """
        if arm.name not in self._steps:
            start: Step | Path = self.init if arm.start is None else self.step(self.arms[arm.start])
            cost = None if arm.as_costly_as is None else self.step(self.arms[arm.as_costly_as])
            self._steps[arm.name] = branch_step(
                f"{self.folder.name}/{arm.name}",
                arm.settings,
                start,
                as_costly_as=cost,
                resources=self._resources,
            )
        return self._steps[arm.name]

    def steps(self, profile: str, pattern: str = "*") -> list[Step]:
        """The steps of a profile: `full` trains the arms whose names match; others train nothing.

        Raises:
            EdgeSpeechError: no arm matches.
        """
        wanted = [arm for arm in self.arms.values() if fnmatchcase(arm.name, pattern)]
        if not wanted:
            known = ", ".join(self.arms)
            raise bad(f"{self.folder.name}/config.yaml", "arm", pattern, f"a pattern of one of {known}")
        return [self.step(arm) for arm in wanted] if profile == "full" else []

    def trained(self, arm: Arm) -> TrainedBranching:
        """An arm's model.

        Raises:
            EdgeSpeechError: it is not trained on this machine.
        """
        return load_branching(self.model_folder(arm))

    def model_folder(self, arm: Arm) -> Path:
        """The folder of an arm's model; raises as `trained`."""
        if not is_made(self.step(arm)):
            raise EdgeSpeechError(f"{self.folder.name}: {arm.name} is not trained on this machine")
        return folder_of(self.step(arm)) / MODEL

    def slow_share(self, arm: Arm) -> float:
        """The share of slow frames at the end of an arm's training."""
        told = json.loads((folder_of(self.step(arm)) / SPENT).read_text(encoding="utf-8"))
        return float(told["slow"])

    def sha256(self, arm: Arm) -> str:
        """A hash of an arm's settings, of those that it starts from, and of the initial model."""
        parents = [self.sha256(self.arms[name]) for name in (arm.start, arm.as_costly_as) if name is not None]
        return sha256_json(
            {
                "settings": dict(arm.settings),
                "parents": parents,
                "init": sha256_file(self.init / WEIGHTS),
            }
        )

    def of(self, first: str) -> list[Arm]:
        """An arm with all its seeds.

        Raises:
            EdgeSpeechError: there is none of that name.
        """
        found = [arm for arm in self.arms.values() if arm.first == first]
        if not found:
            raise bad(f"{self.folder.name}/config.yaml", "arm", first, "one of " + ", ".join(self.arms))
        return found

    def _expand(self, given: Mapping[str, Any]) -> Iterator[Arm]:
        """An arm with each of its seeds."""
        where = f"{self.folder.name}/config.yaml: arm {given.get('name')}"
        if unknown := sorted(given.keys() - _KEYS):
            raise bad(where, "key", unknown[0], "one of " + ", ".join(sorted(_KEYS)))
        for name in ("name", "branching", "chooses", "from"):
            if name not in given:
                raise bad(where, name, None, "a value")
        if given["branching"] not in self._config["branchings"]:
            known = ", ".join(self._config["branchings"])
            raise bad(where, "branching", given["branching"], f"one of {known}")
        seeds: Sequence[int] = self._config["seeds"]
        ways = tuple(given.get("ways", _OWN.get(given["chooses"], (given["chooses"],))))
        for way in ways:
            if way not in WAYS:
                raise bad(where, "ways", way, "one of " + ", ".join(WAYS))
        for seed in given.get("seeds", seeds[:1]):
            suffix = "" if seed == seeds[0] else f"_seed{seed}"
            name = f"{given['name']}{suffix}"
            yield Arm(
                name=name,
                first=given["name"],
                seed=seed,
                ways=ways,
                settings={
                    "run": {
                        **self._run,
                        **given.get("train", {}),
                        "name": f"{self.folder.name}.{name}",
                        "seed": seed,
                    },
                    "branching": self._config["branchings"][given["branching"]],
                    "chooses": given["chooses"],
                    **given.get("with", {}),
                },
                start=None if given["from"] == INIT else self._known(given["from"], suffix, where, "from"),
                as_costly_as=(
                    self._known(given["as_costly_as"], suffix, where, "as_costly_as")
                    if "as_costly_as" in given
                    else None
                ),
            )

    def _known(self, name: str, suffix: str, where: str, field: str) -> str:
        """An arm above, with the same seed if it has it."""
        for wanted in (f"{name}{suffix}", name):
            if wanted in self.arms:
                return wanted
        raise bad(where, field, name, "an arm above it: " + ", ".join([INIT, *self.arms]))


def branch_arms(folder: Path) -> BranchArms:
    """The page's arms, from its `config.yaml`.

    Raises:
        EdgeSpeechError: as `BranchArms` and `compression_base`.
    """
    return BranchArms(folder, load_yaml(folder / "config.yaml"), compression_base())
