"""Identification of the language that is spoken, frame by frame, from a transcriber's output.

The output of a transcriber is pooled over the frames heard so far, mean and standard deviation, with weights that fall
exponentially into the past, so that a session may change its language, and one linear layer gives the logits of the
languages. It adds no look-ahead. Sources: a transducer that recognises two languages and names them, "Streaming
end-to-end bilingual ASR systems with joint language identification" (2020, arXiv:2007.03900); a language for every
frame from statistics pooled in a stream, C. Zhang et al., "Streaming end-to-end multilingual speech recognition with
joint language identification" (2022, arXiv:2209.06058). The forgetting is this project's own.

Letters: B batch, T transcriber frames, J joiner width, N languages.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import LstmState, Transcriber

HEAD = "languages.safetensors"
"""The head of a recogniser, in its model's folder."""
IDENTIFIER = "identifier.safetensors"
_ABOUT = "edgespeech"
_FORMATS = {HEAD: "edgespeech-languages-1", IDENTIFIER: "edgespeech-identifier-1"}
_LEAST_VARIANCE = 1e-5


class Pooled(NamedTuple):
    """The weighted sums of the frames heard so far: of ones `(B, 1)`, values and squares, both `(B, J)`."""

    weight: Tensor
    values: Tensor
    squares: Tensor


class LanguageHead(nn.Module):
    """Logits of the languages after each frame.

    Args:
        width: J, of the transcriber's output.
        names: of the languages, sorted, at least two.
        frame_s: seconds that one frame covers.
        memory_s: a frame's weight falls to 1/e in this many seconds; None: it does not fall.

    Raises:
        EdgeSpeechError: fewer than two languages, or a name twice or out of order; a memory that is not positive.
    """

    def __init__(self, width: int, names: Sequence[str], frame_s: float, memory_s: float | None) -> None:
        super().__init__()
        if len(names) < 2 or list(names) != sorted(set(names)):
            raise bad("language head", "names", list(names), "at least two different ones, sorted")
        if memory_s is not None and not (math.isfinite(memory_s) and memory_s > 0):
            raise bad("language head", "memory_s", memory_s, "above 0, or none")
        self.names, self.frame_s, self.memory_s = tuple(names), frame_s, memory_s
        self.decay = 1.0 if memory_s is None else math.exp(-frame_s / memory_s)
        self.out = nn.Linear(2 * width, len(names))

    def forward(self, encoded: Tensor) -> Tensor:
        """The logits after each frame of a batch: `(B, T, J)` to `(B, T, N)`.

        The logits of a frame depend on no later one, so that padding at the end changes nothing.
        """
        steps = encoded.shape[1]
        age = torch.arange(steps, device=encoded.device)
        age = age[:, None] - age[None, :]
        weights = torch.where(age >= 0, self.decay ** age.clamp(min=0), 0.0)
        total = weights.sum(1)[None, :, None]
        mean, square = weights @ encoded / total, weights @ encoded.square() / total
        logits: Tensor = self.out(_statistics(mean, square))
        return logits

    def start(self, batch: int = 1) -> Pooled:
        """The sums before the first frame."""
        width = self.out.in_features // 2
        return Pooled(torch.zeros(batch, 1), torch.zeros(batch, width), torch.zeros(batch, width))

    def accept(self, encoded: Tensor, pooled: Pooled) -> tuple[Tensor, Pooled]:
        """The logits after each of the next frames, `(B, T, J)` to `(B, T, N)` with T >= 0, and the sums after them."""
        found = []
        for frame in encoded.unbind(1):
            pooled = Pooled(
                pooled.weight * self.decay + 1,
                pooled.values * self.decay + frame,
                pooled.squares * self.decay + frame.square(),
            )
            mean, square = pooled.values / pooled.weight, pooled.squares / pooled.weight
            found.append(self.out(_statistics(mean, square)))
        if not found:
            return encoded.new_zeros(len(encoded), 0, len(self.names)), pooled
        return torch.stack(found, dim=1), pooled


def _statistics(mean: Tensor, square: Tensor) -> Tensor:
    """Mean and standard deviation side by side, `(..., 2 J)`."""
    variance = (square - mean.square()).clamp(min=_LEAST_VARIANCE)
    return torch.cat([mean, variance.sqrt()], dim=-1)


class Identifier(nn.Module):
    """A transcriber that only names the language: what stands beside several monolingual recognisers.

    Args:
        config: of its transcriber; predictor and vocabulary are not used.
        names: as for `LanguageHead`.
        memory_s: likewise.
    """

    def __init__(self, config: ModelConfig, names: Sequence[str], memory_s: float | None) -> None:
        super().__init__()
        self.config = config
        self.transcriber = Transcriber(config)
        self.head = LanguageHead(config.joiner, names, config.frame_s, memory_s)

    def forward(
        self, features: Tensor, lengths: Tensor, state: LstmState | None = None
    ) -> tuple[Tensor, Tensor]:
        """The logits after each frame, `(B, T, N)`, and the valid frames, `(B,)`; takes what `Transcriber` takes."""
        encoded, steps, _ = self.transcriber(features, lengths, state)
        return self.head(encoded), steps


@dataclass(frozen=True, slots=True)
class Decision:
    """What is known of the language after a frame.

    Attributes:
        language: the likeliest; None where its probability is below what is asked.
        probability: of the likeliest.
    """

    language: str | None
    probability: float


def decide(head: LanguageHead, logits: Tensor, least: float = 0.0) -> Decision:
    """The decision from one frame's logits, with shape `(N,)`.

    A head only knows its own languages. Speech in another one is told apart by its probability at best: below `least`
    there is no decision, and a recogniser goes on in the language that it had.
    """
    shares = logits.softmax(-1)
    value, at = shares.max(-1)
    probability = float(value)
    return Decision(head.names[int(at)] if probability >= least else None, probability)


def save_head(folder: Path, head: LanguageHead) -> None:
    """Write a recogniser's head into its model's folder."""
    _write(folder / HEAD, head.state_dict(), _about(head))


def load_head(folder: Path, config: ModelConfig) -> LanguageHead:
    """Read the head of a recogniser.

    Raises:
        EdgeSpeechError: it is missing, damaged, of another format, or not for a model of this width and frame.
    """
    path = folder / HEAD
    about, tensors = _read(path)
    head = LanguageHead(config.joiner, about["names"], config.frame_s, about["memory_s"])
    _fill(path, head, tensors)
    return head


def save_identifier(folder: Path, model: Identifier) -> None:
    """Write an identifier into a folder."""
    about = _about(model.head) | {"config": model.config.to_mapping()}
    _write(folder / IDENTIFIER, model.state_dict(), about)


def load_identifier(folder: Path) -> Identifier:
    """Read an identifier.

    Raises:
        EdgeSpeechError: it is missing, damaged or of another format.
    """
    path = folder / IDENTIFIER
    about, tensors = _read(path)
    if not isinstance(about.get("config"), dict):
        raise bad(str(path), "config", about.get("config"), "the shape of its transcriber")
    model = Identifier(
        ModelConfig.from_mapping(about["config"], str(path)), about["names"], about["memory_s"]
    )
    _fill(path, model, tensors)
    return model


def _about(head: LanguageHead) -> dict[str, object]:
    return {"names": list(head.names), "memory_s": head.memory_s}


def _write(path: Path, tensors: dict[str, Tensor], about: dict[str, object]) -> None:
    header = {_ABOUT: json.dumps({"format": _FORMATS[path.name], **about}, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, header))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise EdgeSpeechError(f"{path}: not readable as the weights of a language head: {error}") from error
    if not isinstance(about, dict) or about.get("format") != _FORMATS[path.name]:
        raise bad(str(path), "format", about, _FORMATS[path.name])
    for field, kinds, wanted in (
        ("names", list, "a list of languages"),
        ("memory_s", (int, float, type(None)), "seconds"),
    ):
        if not isinstance(about.get(field), kinds):
            raise bad(str(path), field, about.get(field), wanted)
    return about, tensors


def _fill(path: Path, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name in sorted(wanted.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != wanted.get(name):
            raise bad(str(path), f"tensor {name}", found, str(wanted.get(name)))
        if not bool(tensors[name].isfinite().all()):
            raise bad(str(path), f"tensor {name}", "a value that is not finite", "finite values")
    module.load_state_dict(tensors)
    module.eval().requires_grad_(False)
