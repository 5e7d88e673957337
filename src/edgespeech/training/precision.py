"""Choosing the faster precision on this machine, by timing the model itself at the start of a run."""

from __future__ import annotations

import time
from typing import Literal

import torch
from torch import distributed

from edgespeech.model.transducer import Transducer

Precision = Literal["fp32", "bf16"]

_UTTERANCES, _FRAMES = 16, 240
_ROUNDS = 3


def faster_precision(model: Transducer, *, world: int = 1) -> Precision:
    """Time the transcriber, forward and backward, in both precisions.

    Args:
        model: on the device on which it will train; its gradients are cleared.
        world: number of training processes; all get the first one's result.
    """
    took = {name: _seconds(model, name == "bf16") for name in ("fp32", "bf16")}
    prefers_bf16 = torch.tensor(int(took["bf16"] < took["fp32"]), device=model.joiner.weight.device)
    if world > 1:
        distributed.broadcast(prefers_bf16, 0)
    return "bf16" if prefers_bf16.item() else "fp32"


def _seconds(model: Transducer, bf16: bool) -> float:
    """The minimum over several rounds, without the first one, which prepares the kernels."""
    device = model.joiner.weight.device
    features = torch.zeros(_UTTERANCES, _FRAMES, model.config.features, device=device)
    lengths = torch.full((_UTTERANCES,), _FRAMES, device=device)
    rounds = []
    for _ in range(1 + _ROUNDS):
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            encoded, _, _ = model.transcribe(features, lengths)
        torch.autograd.backward(encoded.float().sum())
        if device.type == "cuda":
            torch.cuda.synchronize()
        rounds.append(time.perf_counter() - start)
        model.zero_grad(set_to_none=True)
    return min(rounds[1:])
