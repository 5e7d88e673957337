"""A torch model with the engine's arithmetic: the reference implementation of the whole engine.

A model whose matrices are codes gives the engine's results bit for bit (`edgespeech.packed.arithmetic`). Products with
matrices of floats are torch's, with another order of summation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as Torch
from torch import nn

from edgespeech.errors import bad
from edgespeech.model.biasing import ContextAttention
from edgespeech.model.branching import BranchingTransducer
from edgespeech.model.branching_config import BranchingConfig
from edgespeech.model.config import ModelConfig
from edgespeech.model.fast_branch import FastLayer
from edgespeech.model.transducer import Transcriber, Transducer
from edgespeech.packed.arithmetic import Lstm, Mix, Norm, Product, tanh
from edgespeech.packed.codes import Codes, dequantise
from edgespeech.packed.edge_file import Tensor
from edgespeech.packed.pack import weights_of
from edgespeech.packed.simulate_biasing import simulate_attention
from edgespeech.packed.simulate_branching import SimulatedTranscriber, fast_step


class Simulated(Transducer):
    """A transducer with the engine's joiner; `simulate` replaces its layers."""

    def join(self, encoded: Torch, predicted: Torch) -> Torch:
        """See `Transducer.join`."""
        logits: Torch = self.joiner(tanh(encoded + predicted))
        return logits


class SimulatedBranching(Simulated, BranchingTransducer):
    """The same of a branching transducer."""

    def __init__(self, config: ModelConfig, branching: BranchingConfig) -> None:
        BranchingTransducer.__init__(self, config, branching)
        self.transcriber = SimulatedTranscriber(config, branching)


@overload
def simulate(
    config: ModelConfig, tensors: Mapping[str, Tensor], branching: BranchingConfig
) -> SimulatedBranching: ...
@overload
def simulate(
    config: ModelConfig, tensors: Mapping[str, Tensor], branching: BranchingConfig | None = None
) -> Simulated: ...
def simulate(
    config: ModelConfig, tensors: Mapping[str, Tensor], branching: BranchingConfig | None = None
) -> Simulated:
    """The model in a `.edge` file as a `Transducer` in evaluation mode.

    Args:
        config: the model's shape, the file's `meta["config"]`.
        tensors: by name, as in the file; see `pack_tensors`.
        branching: of its branches, the file's `meta["branching"]`; None where it has none.

    Raises:
        EdgeSpeechError: they are not the tensors of such a model.
    """
    model = Simulated(config) if branching is None else SimulatedBranching(config, branching)
    simulate_attention(model, config)
    wanted = {name: values.shape for name, values in weights_of(model).items()}
    for name in sorted(wanted.keys() | tensors.keys()):
        found = _shape(tensors[name]) if name in tensors else None
        expected = (1, *wanted[name])[-2:] if name in wanted else None
        if found != expected:
            raise bad("packed model", f"tensor {name}", found, str(expected))
    floats = {name: torch.from_numpy(_floats(tensor)) for name, tensor in tensors.items()}
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.LSTM):
            inputs = Product(tensors[f"{name}.weight_ih_l0"], floats[f"{name}.bias"])
            model.set_submodule(name, Lstm(inputs, Product(tensors[f"{name}.weight_hh_l0"])))
        elif isinstance(layer, nn.Conv1d):
            product = Product(tensors[f"{name}.weight"], floats[f"{name}.bias"])
            model.set_submodule(name, Mix(product, config.context))
        elif isinstance(layer, nn.Linear) and name != "ctc":
            model.set_submodule(name, Product(tensors[f"{name}.weight"], floats.get(f"{name}.bias")))
        elif isinstance(layer, nn.LayerNorm):
            model.set_submodule(name, Norm(floats[f"{name}.weight"], floats[f"{name}.bias"]))
        elif isinstance(layer, FastLayer):
            model.set_submodule(name, fast_step(layer, name, tensors, floats))
        elif isinstance(layer, nn.Embedding | Transcriber | ContextAttention):
            for own, values in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
                values.data.copy_(floats[f"{name}.{own}"].view_as(values))
    return model.eval().requires_grad_(False)


def transcriptions(
    twin: Transducer, utterances: Sequence[NDArray[np.float32]], together: int = 32
) -> Iterator[Torch]:
    """The transcription of each utterance by a simulated model, with shape `(T, J)`.

    Args:
        twin: see `simulate`.
        utterances: features, each with shape `(F, 80)`.
        together: batch size, which changes no bit and saves much time.
    """
    for at in range(0, len(utterances), together):
        some = [torch.from_numpy(features) for features in utterances[at : at + together]]
        lengths = torch.tensor([len(features) for features in some])
        encoded, steps, _ = twin.transcribe(nn.utils.rnn.pad_sequence(some, batch_first=True), lengths)
        yield from (each[:count] for each, count in zip(encoded, steps.tolist(), strict=True))


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tensor.codes.shape if isinstance(tensor, Codes) else tensor.shape


def _floats(tensor: Tensor) -> NDArray[np.float32]:
    return dequantise(tensor) if isinstance(tensor, Codes) else tensor.astype(np.float32)
