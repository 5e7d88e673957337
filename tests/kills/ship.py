"""Shipping a model, which changes the files of several folders together."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from replication.rnnt import shipping

from edgespeech.core.folders import finish_switch
from edgespeech.model.checkpoint import save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from kills.base import Files, Worked, files

FUSION = {
    "seed": 1,
    "text": [{"grammar": "volume", "sentences": 30}],
    "held_out": [],
    "high": {"order": 3, "prune": 0},
    "low": {"order": 2, "prune": 0},
    "weights": {"high": 0.5, "low": 0.25, "label": 0.5},
    "domains": {"loud": {"text": [{"grammar": "volume", "sentences": 20}], "high": {"order": 3, "prune": 0}}},
}


class Ship:
    """`edgespeech replicate rnnt --publish-model`, where another model ships: with its language models and packed."""

    name = "ship a model"
    warms = True

    def prepare(self, folder: Path) -> None:
        torch.set_num_threads(1)
        (folder / "fusion.yaml").write_text(yaml.safe_dump(FUSION))
        for seed, name in enumerate(("old", "new")):
            torch.manual_seed(seed)
            tokeniser = Tokeniser.train(["turn on the light", "play some music", name * 3] * 3, 40)
            model = Transducer(ModelConfig(vocabulary=40, layers=1, hidden=16, joiner=16))
            save_model(folder / name, model, tokeniser, {"run": name})
        self._ship(folder, "old")

    def run(self, folder: Path, worked: Worked) -> None:
        self._ship(folder, "new")

    def _ship(self, folder: Path, name: str) -> None:
        setattr(shipping, "FUSION_CONFIG", folder / "fusion.yaml")  # noqa: B010 - in the place of a constant
        setattr(shipping, "shipped_models", lambda: self._models(folder))  # noqa: B010 - as above
        shipping.publish_model({str(folder / name): 1})

    def _models(self, folder: Path) -> Path:
        finish_switch(folder / "models")
        return folder / "models"

    def half_written(self, folder: Path, before: Files, after: Files) -> list[str]:
        """As `edgespeech.core.places.shipped_models` does for every reader, it finishes a switch first."""
        self._models(folder)
        there = self._shipped(files(folder))
        return [] if there in (self._shipped(before), self._shipped(after)) else ["files of two models"]

    def _shipped(self, found: Files) -> Files:
        return {name: found[name] for name in found if name.startswith("models/") and "/." not in name}

    def kept(self, folder: Path) -> int:
        return 0

    def end(self, folder: Path) -> Files:
        return files(folder)
