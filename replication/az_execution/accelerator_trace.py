"""Operations of a recogniser on real speech, as input of the accelerator model: calls, lookups, activations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgespeech.arms.accelerator import Workload
from edgespeech.audio.features import Features
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import FRAME_S
from edgespeech.model.transducer import Transducer
from edgespeech.search.greedy import GreedyDecoder

VECTORS = 256
"""Maximum number of sampled inputs of each matrix, evenly spaced over the speech."""


def listen(model: Transducer, utterances: Iterable[Features]) -> Workload:
    """Recognise speech by greedy search and record the inputs of every matrix.

    Args:
        model: in evaluation mode; its activations stand for those of every layout that it is packed in.
        utterances: features of each, with shape `(F, 80)`.

    Raises:
        EdgeSpeechError: features of another shape, or none that fill a frame.
    """
    seen: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    lookups = frames = 0

    def note(name: str, x: Tensor) -> None:
        seen[name].append(x.reshape(-1, x.shape[-1]).numpy())

    def looked_up(labels: Tensor) -> None:
        nonlocal lookups
        lookups += labels.numel()

    with _noting(model, note, looked_up), torch.inference_mode():
        for features in utterances:
            if len(features) < model.config.stack:  # no transcriber frame
                continue
            encoded, steps, _ = model.transcribe(
                torch.from_numpy(features[None]), torch.tensor([len(features)])
            )
            GreedyDecoder(model).accept(encoded[0])
            frames += int(steps[0]) * model.config.stack
    if not frames:
        raise EdgeSpeechError("accelerator: no speech that fills a transcriber frame")
    inputs = {name: np.concatenate(parts) for name, parts in seen.items()}
    return Workload(
        audio_s=frames * FRAME_S,
        calls={
            "transcriber": len(inputs["transcriber.enter.weight"]),
            "predictor": len(inputs["predictor.leave.weight"]),
            "joiner": len(inputs["joiner.weight"]),
        },
        lookups=lookups,
        inputs={name: _sample(vectors) for name, vectors in inputs.items()},
    )


def _sample(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    kept = min(VECTORS, len(vectors))
    return vectors[np.linspace(0, len(vectors) - 1, kept).round().astype(np.int64)]


@contextmanager
def _noting(
    model: Transducer, note: Callable[[str, Tensor], None], looked_up: Callable[[Tensor], None]
) -> Iterator[None]:
    """Call `note` with each matrix's name and inputs, `(..., cols)`, within this context."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def see(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            x: Tensor = given[0]
            if isinstance(module, nn.Embedding):
                looked_up(x)
            elif isinstance(module, nn.Linear):
                note(f"{name}.weight", x)
            elif isinstance(module, nn.Conv1d):  # over all labels that the predictor sees: position-major
                note(f"{name}.weight", x.transpose(1, 2).flatten(1))
            elif isinstance(module, nn.LSTM):
                state = given[1] if len(given) > 1 else None
                first = (
                    x.new_zeros(x.shape[0], 1, module.hidden_size) if state is None else state[0][0][:, None]
                )
                note(f"{name}.weight_ih_l0", x)
                note(f"{name}.weight_hh_l0", torch.cat([first, out[0][:, :-1]], dim=1))

        return see

    kinds = (nn.Embedding, nn.Linear, nn.Conv1d, nn.LSTM)
    hooks = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()
