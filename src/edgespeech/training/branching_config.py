"""The configuration of a branching model's training run."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edgespeech.core.config import explain
from edgespeech.model.branching_config import BranchingConfig
from edgespeech.training.config import Share, TrainConfig

Chooses = Literal["both", "slow", "fast", "arbitrator", "random", "energy", "pivot"]
Weight = Annotated[float, Field(ge=0)]


class BranchTraining(BaseModel):
    """A run that goes on from a trained model, plain or branching.

    Attributes:
        run: speech, augmentation, steps and rates, as of any run; of its losses only the transducer's is used.
        branching: see `BranchingConfig`.
        chooses: what picks the branch of each frame: `both` trains both branches, utterances of one and of stretches of
            either; `slow` and `fast` train one alone; `arbitrator` the network's own; `random` with the probability
            `slow_share`; `energy` where frames are loudest, `slow_share` of a batch's; `pivot` is fast before a random
            frame of the first half and slow from it on (Bifocal).
        slow_share: of frames, with `random` and `energy`.
        prune: with a `sparse` branch, the share of the steps in which its zeros grow from none to all, by the cubic law
            of Zhu and Gupta, 2017, arXiv:1710.01878; 0: all from the start, or as it was.
        cost_weight: of the mean MACs of a frame as a share of the slow branch's; 0 or more.
        ramp: share of the steps in which that weight grows from 0.
        temperature: of the Gumbel softmax, first and last; in between it falls exponentially.
        hard_from: share of the steps after which decisions are hard, their gradient straight through.
        floor: least mean probability of either branch, in the share `floor_until` of the steps.
        floor_until: see `floor`.
        floor_weight: of the squared distance below the floor.
        backlog_weight: of the backlog of a device, see `edgespeech.model.switching.backlog`, as a mean over the last
            `backlog_s` seconds of the utterance, in seconds; 0: not used.
        backlog_s: see `backlog_weight`.
        device_rate: what that device does in the time of a frame, as a share of the slow branch's MACs of a frame.
        arbitrator_rate: factor of the learning rate of the arbitrator, which starts from nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: TrainConfig
    branching: dict[str, Any]
    chooses: Chooses
    slow_share: Share | None = None
    prune: Share = 0.0
    cost_weight: Weight = 0.0
    ramp: Share = 0.2
    temperature: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (2.0, 0.5)
    hard_from: Share = 0.7
    floor: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    floor_until: Share = 0.4
    floor_weight: Weight = 10.0
    backlog_weight: Weight = 0.0
    backlog_s: Annotated[float, Field(gt=0)] = 1.0
    device_rate: Annotated[float, Field(gt=0)] | None = None
    arbitrator_rate: Annotated[float, Field(gt=0)] = 10.0

    @field_validator("branching")
    @classmethod
    def _branching(cls, values: dict[str, Any]) -> dict[str, Any]:
        BranchingConfig.from_mapping(values)
        return values

    @model_validator(mode="after")
    def _fits(self) -> BranchTraining:
        if (self.chooses in ("random", "energy")) != (self.slow_share is not None):
            raise ValueError(f"slow_share: {self.slow_share} expects chooses: random or energy, and they it")
        if bool(self.backlog_weight) != (self.device_rate is not None):
            raise ValueError(f"device_rate: {self.device_rate} expects a backlog_weight above 0, and that it")
        if self.prune and self.branching["fast"] != "sparse":
            raise ValueError(f"prune: {self.prune} expects a sparse branch")
        if self.run.init is None:
            raise ValueError("init: expects a trained model to start from")
        for name in ("sounds", "teacher", "compressor", "watch"):
            if getattr(self.run, name) is not None:
                raise ValueError(f"run.{name}: a branching model's training has none")
        if not all(source.learns_words for source in self.run.speech):
            raise ValueError("run.speech: expects words to learn in every corpus")
        if self.run.ctc or self.run.ctc_only_steps:
            raise ValueError(f"run.ctc: {self.run.ctc} must be 0, and ctc_only_steps too")
        return self

    @property
    def sha256(self) -> str:
        """A hash of all settings."""
        told = self.model_dump(mode="json", exclude={"run"}) | {"run": self.run.sha256}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def progress(self, step: int, share: float) -> float:
        """How much of the first `share` of the steps is done before a step, 0 to 1."""
        return 1.0 if not share else min(1.0, step / (share * self.run.steps))

    def heat(self, step: int) -> float:
        """The temperature of a step."""
        first, last = self.temperature
        return float(first * (last / first) ** self.progress(step, self.hard_from))

    def is_hard(self, step: int) -> bool:
        """Whether a step's decisions are hard."""
        return step >= self.hard_from * self.run.steps


def branch_training(values: dict[str, Any], where: str) -> BranchTraining:
    """From a file's content.

    Args:
        values: the content.
        where: the file, for messages.

    Raises:
        EdgeSpeechError: an unknown key, a wrong type or a value out of range.
    """
    try:
        return BranchTraining.model_validate(values)
    except ValidationError as error:
        raise explain(where, error, tuple(BranchTraining.model_fields)) from error
