"""The packed models of the page: pairs of an old and a new one, from what this repository holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from edgespeech.arms.configuration import start_model
from edgespeech.core.places import project_root, shipped_models
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import Trained, load_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transducer
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.systems.edge_packed import PACKED, EdgePacked

START = "start"
"""The recogniser's trained model, or the one that the environment names."""
SHIPPED = "shipped"
"""The packed model that ships."""


class Pair(NamedTuple):
    """Two packed models, and where the new one's weights come from.

    Attributes:
        name: of the pair.
        about: what differs.
        old: the old `.edge` file.
        new: the new one.
        target: the new trained model's folder, whose weights are on no levels; None for the shipped file.
    """

    name: str
    about: str
    old: Path
    new: Path
    target: Path | None


def pairs(config: Mapping[str, Any], folder: Path) -> Iterator[Pair]:
    """The configured pairs, packed into a folder.

    Raises:
        EdgeSpeechError: a model is missing.
    """
    for asked in config["pairs"]:
        old, new = (packed(asked[end], folder / f"{asked['name']}.{end}.edge") for end in ("old", "new"))
        source = asked["new"]["model"]
        yield Pair(
            asked["name"], asked["about"], old, new, None if source == SHIPPED else model_folder(source)
        )


def packed(asked: Mapping[str, Any], out: Path) -> Path:
    """A packed model: `model` is `start`, `shipped` or a folder of the checkout, `pack` its encoding.

    Every model has the language models of the recogniser's, so that pairs differ in networks alone.
    """
    if asked["model"] == SHIPPED:
        file = shipped_models() / EdgePacked.name / PACKED
        if not file.is_file():
            raise EdgeSpeechError(f"no packed model among the shipped ones: {PACKED}")
        out.write_bytes(file.read_bytes())
        return out
    trained = load_model(model_folder(asked["model"]))
    pack(
        replace(trained, fusion=load_model(start_model()).fusion),
        Layout(matrices=Encoding(**asked["pack"])),
        out,
    )
    return out


def model_folder(name: str) -> Path:
    """The folder of a trained model.

    Raises:
        EdgeSpeechError: there is none.
    """
    folder = start_model() if name == START else project_root() / name
    if not folder.is_dir():
        raise EdgeSpeechError(f"updates: no model in {name}")
    return folder


def small(seed: int, out: Path, hidden: int = 16) -> Path:
    """A packed model of random weights that is small enough to try every byte of it."""
    tokeniser = load_model(start_model()).tokeniser
    torch.manual_seed(seed)
    shape = ModelConfig(vocabulary=len(tokeniser), layers=1, hidden=hidden, joiner=16, context=2)
    model = Transducer(shape).eval().requires_grad_(False)
    pack(Trained(model, tokeniser, {"run": f"random {seed}"}), Layout(), out)
    return out
