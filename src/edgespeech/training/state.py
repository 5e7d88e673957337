"""The state of a run on disk: one safetensors file from which a killed run resumes bit for bit.

It has no random state: the draws of a step depend on the run's seed and the step's number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError, bad

_FORMAT = "edgespeech-training-1"
_MOMENTS = ("exp_avg", "exp_avg_sq")
_TREATED = "treated"  # the name of the compressors in a state file


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a run: hashes of its configuration and of its speech, and the precision chosen by `auto`."""

    config: str
    speech: str
    precision: str = "fp32"


class Average:
    """The exponential average of a model's weights, with `decay` per step, and less in early steps.

    The decay of step n (from 0) is at most (1 + n) / (10 + n), so that the initial weights have little influence.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Update with the weights after a step."""
        keep = min(self.decay, (1 + step) / (10 + step))
        own = model.state_dict()
        torch._foreach_lerp_(list(self.weights.values()), [own[name] for name in self.weights], 1 - keep)


def save_state(
    path: Path,
    identity: Identity,
    step: int,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: Average,
    compressors: nn.Module,
) -> None:
    """Save the complete state of a run.

    Args:
        path: the file, which is replaced atomically.
        identity: of the run.
        step: number of finished steps.
        model: all trained modules.
        optimiser: AdamW over the model's parameters, in their order, and of the compressors.
        average: of the weights.
        compressors: their state; see `edgespeech.training.compressor`.
    """
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.weights.items()}
    tensors |= {f"{_TREATED}.{k}": v for k, v in compressors.state_dict().items()}
    for name, parameter in _trained(model, compressors):
        moments = optimiser.state.get(parameter, {})
        tensors |= {f"{moment}.{name}": moments[moment] for moment in _MOMENTS if moment in moments}
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(kept, _header(identity, step)))


def note_step(path: Path, identity: Identity, step: int) -> None:
    """Write beside a state what it is of, for people and for `arms`: its model is of the same step.

    Args:
        path: of the state; the note's name ends in `.json`.
        identity: of the run.
        step: how many steps are done.
    """
    note, text = path.with_suffix(".json"), json.dumps(_header(identity, step), indent=1)
    if not note.is_file() or note.read_text(encoding="utf-8") != text:
        write_atomic(note, text)


def _header(identity: Identity, step: int) -> dict[str, str]:
    return {
        "format": _FORMAT,
        "config": identity.config,
        "speech": identity.speech,
        "precision": identity.precision,
        "step": str(step),
    }


def load_state(
    path: Path,
    identity: Identity,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: Average,
    compressors: nn.Module,
) -> int:
    """Resume a run: load the model, the optimiser, the average and the compressors.

    Returns:
        The number of finished steps.

    Raises:
        EdgeSpeechError: the file is damaged, or of another configuration, speech or model.
    """
    header, tensors = _read(path)
    for what, found, wanted in (
        ("config", header["config"], identity.config),
        ("speech", header["speech"], identity.speech),
    ):
        if found != wanted:
            raise EdgeSpeechError(
                f"{path}: belongs to another {what} (sha256 {found}, now {wanted}); "
                "give the run another name, or restart it in an empty folder"
            )
    step = int(header["step"])
    try:
        model.load_state_dict(_under(tensors, "model"))
        average.weights = {k: v.to(average.weights[k].device) for k, v in _under(tensors, "average").items()}
        compressors.load_state_dict(_under(tensors, _TREATED))
    except (RuntimeError, KeyError) as error:
        raise EdgeSpeechError(f"{path}: another model's weights: {error}") from error
    for name, parameter in _trained(model, compressors):
        if f"{_MOMENTS[0]}.{name}" in tensors:
            moments = {m: tensors[f"{m}.{name}"].to(parameter.device) for m in _MOMENTS}
            count = torch.tensor(float(step), device=parameter.device)
            optimiser.state[parameter] = {"step": count, **moments}
    return step


def kept_precision(path: Path) -> str:
    """The precision of the run of a state.

    Raises:
        EdgeSpeechError: the file is damaged.
    """
    return _read(path)[0].get("precision", "fp32")


def load_average(path: Path, model: nn.Module) -> None:
    """Load another run's averaged weights into a model, including those that only training uses.

    Raises:
        EdgeSpeechError: the file is damaged, or of another model, or of another number of sounds.
    """
    try:
        model.load_state_dict(_under(_read(path)[1], "average"))
    except RuntimeError as error:
        raise EdgeSpeechError(f"{path}: another model's weights: {error}") from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """A state's header and tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise EdgeSpeechError(f"{path}: not a readable training state: {error}") from error
    if header.get("format") != _FORMAT:
        raise bad(str(path), "format", header.get("format"), _FORMAT)
    return header, tensors


def _trained(model: nn.Module, compressors: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """All parameters of the optimiser, by their names in the file."""
    own = [(f"{_TREATED}.{name}", parameter) for name, parameter in compressors.named_parameters()]
    return [*model.named_parameters(), *own]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")
    }
