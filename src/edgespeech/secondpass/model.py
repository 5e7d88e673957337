"""A language model of word pieces, and its file.

Source: M. Sundermeyer, R. Schlueter, H. Ney, "LSTM neural networks for language modeling" (Interspeech 2012); one
matrix for embedding and output: O. Press, L. Wolf, "Using the output embedding to improve language models" (EACL
2017).

Letters: B sentences, U pieces, V vocabulary, W width, L layers.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.packed.codes import Codes, dequantise, quantise
from edgespeech.packed.edge_file import Tensor as Stored
from edgespeech.packed.edge_file import read_edge, write_edge
from edgespeech.secondpass.config import LmShape

MARK = 0
"""The label before the first and after the last piece of a sentence."""
FORMAT = "edgespeech-language-model-1"


class LanguageModel(nn.Module):
    """An LSTM over word pieces whose output matrix is its embedding.

    Args:
        shape: of it.
        dropout: share of the activations dropped before, between and after the layers in training.
    """

    def __init__(self, shape: LmShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        between = dropout if shape.layers > 1 else 0.0
        self.lstm = nn.LSTM(shape.width, shape.width, shape.layers, batch_first=True, dropout=between)
        self.bias = nn.Parameter(torch.zeros(shape.vocabulary))
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=shape.width**-0.5)

    def forward(self, labels: Tensor) -> Tensor:
        """Logits of the next label after each label.

        Args:
            labels: with shape `(B, U)`.

        Returns:
            With shape `(B, U, V)`.
        """
        hidden, _ = self.lstm(self.dropout(self.embedding(labels)))
        return self._logits(self.dropout(hidden))

    def start(self, batch: int) -> tuple[Tensor, Tensor]:
        """The LSTM's output and cell before the first label, each with shape `(L, B, W)`."""
        zeros = torch.zeros(self.shape.layers, batch, self.shape.width, device=self.bias.device)
        return zeros, zeros

    def advance(self, labels: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Log-probabilities `(B, V)` after one more label each, `labels` with shape `(B,)`, and the state there."""
        hidden, after = self.lstm(self.embedding(labels[:, None]), state)
        return self._logits(hidden[:, 0]).log_softmax(-1), after

    def _logits(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.embedding.weight, self.bias)


@dataclass(frozen=True, slots=True)
class TrainedLm:
    """A loaded language model in evaluation mode, with its word pieces and provenance."""

    model: LanguageModel
    tokeniser: Tokeniser
    provenance: dict[str, str]

    @property
    def parameters(self) -> int:
        """The number of weights; the two biases of an LSTM layer, which are only added, count once."""
        return sum(tensor.size for tensor in _weights(self.model).values())


def save_lm(
    path: Path, model: LanguageModel, tokeniser: Tokeniser, provenance: dict[str, str], *, bits: int = 32
) -> None:
    """Write a model atomically as one `.edge` file, with shape and word pieces in its metadata.

    The same model gives the same bytes. A state dict's two biases of a layer are stored as their sum.

    Args:
        path: the file to write.
        model: what to save.
        tokeniser: with as many pieces as the model's vocabulary.
        provenance: of its training, such as hashes of configuration and text.
        bits: per weight of matrices: 2 to 8 as codes with one scale per row, or 32 as floats. Vectors are always fp32.

    Raises:
        EdgeSpeechError: bits out of range, the word pieces are not as many as the model's, a weight is not finite,
            or the file cannot be written.
    """
    if bits != 32 and not 2 <= bits <= 8:
        raise bad(str(path), "bits", bits, "2 to 8 or 32")
    if len(tokeniser) != model.shape.vocabulary:
        raise bad(str(path), "vocabulary", model.shape.vocabulary, f"{len(tokeniser)}, as the word pieces")
    tensors: dict[str, Stored] = {}
    for name, values in _weights(model).items():
        if not np.isfinite(values).all():
            raise bad(str(path), f"tensor {name}", float(values[~np.isfinite(values)][0]), "finite values")
        if values.ndim == 1:
            tensors[name] = values[None]
        else:
            tensors[name] = values if bits == 32 else quantise(values, bits=bits, clip="mse")
    meta = {
        "format": FORMAT,
        "shape": model.shape.to_mapping(),
        "pieces": base64.b64encode(tokeniser.proto).decode(),
        "provenance": {**provenance, "bits": str(bits)},
    }
    write_edge(path, tensors, meta)


def load_lm(path: Path) -> TrainedLm:
    """Read a model.

    Raises:
        EdgeSpeechError: the file is missing, damaged, or not a language model, or its tensors or word pieces do not fit
            its shape.
    """
    where = str(path)
    file = read_edge(path)
    if file.meta.get("format") != FORMAT:
        raise bad(where, "format", file.meta.get("format"), FORMAT)
    model = LanguageModel(LmShape.from_mapping(file.meta.get("shape"), where))
    wanted = {name: np.atleast_2d(values).shape for name, values in _weights(model).items()}
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    for name in sorted(wanted.keys() | file.tensors.keys()):
        tensor = file.tensors.get(name)
        values = None if tensor is None else dequantise(tensor) if isinstance(tensor, Codes) else tensor
        if values is None or name not in wanted or values.shape != wanted[name]:
            raise bad(
                where, f"tensor {name}", None if values is None else values.shape, str(wanted.get(name))
            )
        own = state[name if name in state else _FIRST_BIAS.format(name.removeprefix("lstm.bias_l"))]
        own.copy_(torch.from_numpy(values.astype(np.float32)).reshape(own.shape))
    model.load_state_dict(state)
    tokeniser = _tokeniser(file.meta.get("pieces"), where)
    if len(tokeniser) != model.shape.vocabulary:
        raise bad(where, "pieces", len(tokeniser), f"{model.shape.vocabulary} of them")
    provenance = file.meta.get("provenance")
    if not isinstance(provenance, dict) or not all(isinstance(told, str) for told in provenance.values()):
        raise bad(where, "provenance", provenance, "a mapping to texts")
    return TrainedLm(model.eval().requires_grad_(False), tokeniser, provenance)


_FIRST_BIAS, _SECOND_BIAS = "lstm.bias_ih_l{}", "lstm.bias_hh_l{}"


def _weights(model: LanguageModel) -> dict[str, NDArray[np.float32]]:
    """The weights to store, by their names in the state dict, except for a layer's single bias, `lstm.bias_l0`."""
    state = {name: tensor.detach().cpu().float().numpy() for name, tensor in model.state_dict().items()}
    for layer in range(model.shape.layers):
        state[f"lstm.bias_l{layer}"] = state.pop(_FIRST_BIAS.format(layer)) + state.pop(
            _SECOND_BIAS.format(layer)
        )
    return state


def _tokeniser(told: object, where: str) -> Tokeniser:
    try:
        if not isinstance(told, str):
            raise ValueError("no text")
        return Tokeniser(base64.b64decode(told, validate=True))
    except (ValueError, binascii.Error, EdgeSpeechError) as error:
        raise bad(where, "pieces", told, f"a sentencepiece model in base 64 ({error})") from error
