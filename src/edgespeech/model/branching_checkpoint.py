"""A branching model in a folder: the files of `edgespeech.model.checkpoint`, with both branches and the arbitrator.

The header of `model.safetensors` has `branching` beside `config`, and a format of its own, so that what expects a plain
model refuses it. There is no language model in the folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.branching import BranchingTransducer
from edgespeech.model.branching_config import BranchingConfig
from edgespeech.model.checkpoint import TOKENS, WEIGHTS, Trained
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.records.used import note_model

_ABOUT = "edgespeech"
FORMAT = "edgespeech-branching-1"


@dataclass(frozen=True, slots=True)
class TrainedBranching(Trained):
    """A loaded branching model in evaluation mode, with its word pieces and provenance."""

    model: BranchingTransducer


def save_branching(
    folder: Path, model: BranchingTransducer, tokeniser: Tokeniser, provenance: dict[str, str]
) -> None:
    """Write a branching model; each file is written atomically, the weights last.

    Args:
        folder: created if missing.
        model: what to save; the `ctc` output is left out.
        tokeniser: with as many pieces as the model's vocabulary.
        provenance: of its training.

    Raises:
        EdgeSpeechError: the word pieces are not as many as the model's, or the folder cannot be written.
    """
    if len(tokeniser) != model.config.vocabulary:
        raise bad("model", "vocabulary", model.config.vocabulary, f"{len(tokeniser)}, as the word pieces")
    about = {
        "format": FORMAT,
        "config": model.config.to_mapping(),
        "branching": model.branching.to_mapping(),
        "provenance": provenance,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise bad("model", "folder", str(folder), "a folder that can be written") from error
    tokeniser.save(folder / TOKENS)
    # A single key, as in `edgespeech.model.checkpoint`.
    tensors = {name: t.detach().cpu().contiguous() for name, t in _deployed(model).items()}
    write_atomic(folder / WEIGHTS, save(tensors, {_ABOUT: json.dumps(about, sort_keys=True)}))


def is_branching(folder: Path) -> bool:
    """Whether a folder's model says that it is a branching one."""
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
    except (OSError, SafetensorError, ValueError):
        return False
    return isinstance(about, dict) and about.get("format") == FORMAT


def load_branching(folder: Path) -> TrainedBranching:
    """Read a branching model.

    Raises:
        EdgeSpeechError: a file is missing or damaged, it is no branching model, a branch or the arbitrator is missing,
            or a branch is of another state size than the configuration's.
    """
    path = folder / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise EdgeSpeechError(f"{path}: not a readable model: {error}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise bad(str(path), "format", about, FORMAT)
    model = BranchingTransducer(
        ModelConfig.from_mapping(about["config"], str(path)),
        BranchingConfig.from_mapping(about["branching"], str(path)),
    )
    wanted = {name: tuple(tensor.shape) for name, tensor in _deployed(model).items()}
    for name in sorted(wanted.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != wanted.get(name):
            raise bad(str(path), f"tensor {name}", found, str(wanted.get(name)))
    model.load_state_dict(tensors, strict=False)
    tokeniser = Tokeniser.load(folder / TOKENS)
    if len(tokeniser) != model.config.vocabulary:
        raise bad(str(folder / TOKENS), "pieces", len(tokeniser), str(model.config.vocabulary))
    note_model(f"{folder.parent.name}/{folder.name}/{WEIGHTS}", lambda: sha256_file(path))
    return TrainedBranching(model.eval().requires_grad_(False), tokeniser, about["provenance"])


def _deployed(model: BranchingTransducer) -> dict[str, Tensor]:
    return {name: t for name, t in model.state_dict().items() if not name.startswith("ctc.")}
