"""A model in a folder: `model.safetensors` (weights, and the configuration in its header), `tokens.model`, and
`fusion.safetensors` if it has a language model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lm.fusion import FUSION, Fusion, load_fusion, save_fusion
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.records.used import note_model

WEIGHTS = "model.safetensors"
TOKENS = "tokens.model"
_ABOUT = "edgespeech"
_FORMAT = "edgespeech-transducer-1"


@dataclass(frozen=True, slots=True)
class Trained:
    """A loaded model in evaluation mode, with its word pieces, provenance and language-model fusion."""

    model: Transducer
    tokeniser: Tokeniser
    provenance: dict[str, str]
    fusion: Fusion | None = None


def save_model(
    folder: Path,
    model: Transducer,
    tokeniser: Tokeniser,
    provenance: dict[str, str],
    *,
    half: bool = False,
    fusion: Fusion | None = None,
) -> None:
    """Write a model; each file is written atomically.

    Args:
        folder: created if missing.
        model: what to save; the `ctc` output, which recognition does not use, is left out.
        tokeniser: with as many pieces as the model's vocabulary.
        provenance: of its training, such as hashes of configuration and data.
        half: store the weights in half precision.
        fusion: its language model; None removes one from the folder.

    Raises:
        EdgeSpeechError: the word pieces are not as many as the model's, or the folder cannot be written.
    """
    if len(tokeniser) != model.config.vocabulary:
        raise bad("model", "vocabulary", model.config.vocabulary, f"{len(tokeniser)}, as the word pieces")
    # A single key, since safetensors writes several in random order, and equal models must give equal bytes.
    about = {"format": _FORMAT, "config": model.config.to_mapping(), "provenance": provenance}
    header = {_ABOUT: json.dumps(about, sort_keys=True)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise bad("model", "folder", str(folder), "a folder that can be written") from error
    kept = {name: _stored(tensor, half) for name, tensor in model.state_dict().items() if _deployed(name)}
    tokeniser.save(folder / TOKENS)
    if fusion is not None:
        save_fusion(folder, fusion)
    else:
        (folder / FUSION).unlink(missing_ok=True)
    write_atomic(folder / WEIGHTS, save(kept, header))  # last: who finds them finds all of the model


def load_model(folder: Path) -> Trained:
    """Read a model.

    Raises:
        EdgeSpeechError: a file is missing, damaged, of another format, or its tensors are not those of its
            configuration.
    """
    path = folder / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise EdgeSpeechError(f"{path}: not a readable model: {error}") from error
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise bad(str(path), "format", about, _FORMAT)
    note_model(f"{folder.parent.name}/{folder.name}/{WEIGHTS}", lambda: sha256_file(path))
    config = ModelConfig.from_mapping(about["config"], str(path))
    model = Transducer(config)
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items() if _deployed(name)}
    for name in sorted(wanted.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else None
        expected = tuple(wanted[name]) if name in wanted else None
        if found != expected:
            raise bad(str(path), f"tensor {name}", found, str(expected))
        if name.startswith("biasing.") and not bool(tensors[name].isfinite().all()):
            raise bad(str(path), f"tensor {name}", "a value that is not finite", "finite values")
    model.load_state_dict(tensors, strict=False)
    tokeniser = Tokeniser.load(folder / TOKENS)
    if len(tokeniser) != config.vocabulary:
        raise bad(str(folder / TOKENS), "pieces", len(tokeniser), str(config.vocabulary))
    fusion = load_fusion(folder, config.vocabulary)
    return Trained(model.eval().requires_grad_(False), tokeniser, about["provenance"], fusion)


def model_bytes(folder: Path) -> int:
    """Bytes of all of a model's files."""
    return sum((folder / name).stat().st_size for name in model_files(folder))


def model_files(folder: Path) -> tuple[str, ...]:
    """The names of a model's files."""
    return (WEIGHTS, TOKENS, FUSION) if (folder / FUSION).exists() else (WEIGHTS, TOKENS)


def _deployed(name: str) -> bool:
    return not name.startswith("ctc.")


def _stored(tensor: Tensor, half: bool) -> Tensor:
    kept = tensor.detach().cpu().contiguous()
    return kept.to(torch.float16) if half and kept.is_floating_point() else kept
