"""An understanding network as tensors of a `.edge` file, in single precision or 8 bits, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from edgespeech.core.config import explain
from edgespeech.errors import bad
from edgespeech.packed.arithmetic import Lstm, Product
from edgespeech.packed.codes import Codes, dequantise, quantise
from edgespeech.packed.edge_file import EdgeFile, Tensor, read_edge, write_edge
from edgespeech.understanding.config import NetworkConfig
from edgespeech.understanding.network import Network, Scheme
from edgespeech.understanding.training import Trained
from edgespeech.understanding.vocabulary import Vocabulary

KIND = "understanding"
"""What such a file's metadata say that it is."""
PRINTS = "words.prints"
TABLE = "embedding.table"
CODES = "embedding.codes"
CODEWORDS = "embedding.codewords"
_BITS = 8


def pack_network(trained: Trained, path: Path, *, floats: bool = False) -> int:
    """Write a network as a file.

    Args:
        trained: the network.
        path: the file.
        floats: leave it in single precision, and its codes as the vectors that they give; otherwise all matrices are
            rounded to 8 bits and codes stay codes.

    Returns:
        Bytes of the file.

    Raises:
        EdgeSpeechError: the file cannot be written.
    """
    if floats and trained.config.embedding == "codes":
        trained = expanded(trained)
    meta = {
        "kind": KIND,
        "config": trained.config.model_dump(mode="json"),
        "schemes": {name: one.to_json() for name, one in trained.schemes.items()},
    }
    write_edge(path, tensors_of(trained, floats=floats), meta)
    return path.stat().st_size


def tensors_of(trained: Trained, *, floats: bool = False) -> dict[str, Tensor]:
    """The file's tensors by name; see `pack_network`."""
    config, network = trained.config, trained.network
    tensors: dict[str, Tensor] = {}

    def matrix(values: torch.Tensor) -> Tensor:
        array = np.ascontiguousarray(values.detach().numpy(), np.float32)
        return array if floats else quantise(array, bits=_BITS)

    if config.embedding != "hashed":
        tensors[PRINTS] = raw(trained.vocabulary.to_bytes(), 8)
    if config.embedding == "codes":
        tensors[CODES] = raw(network.embedding.codes().T.numpy().astype(np.uint8), config.code_bits)
        tensors[CODEWORDS] = matrix(network.embedding.codewords)
    else:
        # One row for each value of a vector: a scale for a word would cost as much as four of its values.
        tensors[TABLE] = matrix(network.embedding.table.weight.T)
    state = network.state_dict()
    for name in ("forward", "backward"):
        bias = state[f"{name}_lstm.bias_ih_l0"] + state[f"{name}_lstm.bias_hh_l0"]
        tensors[f"{name}.input.weight"] = matrix(state[f"{name}_lstm.weight_ih_l0"])
        tensors[f"{name}.input.bias"] = vector(bias)
        tensors[f"{name}.recurrent.weight"] = matrix(state[f"{name}_lstm.weight_hh_l0"])
    for kind, layers in (("intents", network.intents), ("slots", network.slots)):
        for scheme in layers:
            tensors[f"{kind}.{scheme}.weight"] = matrix(state[f"{kind}.{scheme}.weight"])
            tensors[f"{kind}.{scheme}.bias"] = vector(state[f"{kind}.{scheme}.bias"])
    return tensors


def expanded(trained: Trained) -> Trained:
    """A network of codes as one whose table has the vectors that they give."""
    config = trained.config.model_copy(update={"embedding": "dense"})
    with torch.no_grad():
        vectors = trained.network.embedding(torch.arange(len(trained.vocabulary) + 1))
    network = Network(config, len(vectors), trained.schemes).eval().requires_grad_(False)
    state = {
        name: values
        for name, values in trained.network.state_dict().items()
        if not name.startswith("embedding.")
    }
    network.load_state_dict(state | {"embedding.table.weight": vectors})
    return Trained(config, network, trained.vocabulary, trained.schemes)


def raw(values: NDArray[np.uint8], bits: int) -> Codes:
    """Whole numbers as codes, as the file stores them, with scales that nobody uses."""
    return Codes(
        codes=values,
        mask=None,
        scales=np.ones((len(values), 1), np.float32),
        bits=bits,
        group=0,
        codebook=None,
    )


def vector(values: torch.Tensor) -> NDArray[np.float32]:
    """A bias as the file has it, `(1, N)`."""
    return np.ascontiguousarray(values.detach().numpy()[None], np.float32)


def read_network(path: Path) -> tuple[EdgeFile, NetworkConfig, dict[str, Scheme]]:
    """Read a file and check what it says of itself.

    Raises:
        EdgeSpeechError: it is damaged, or no understanding network; a tensor is missing, in excess or of another shape.
    """
    file = read_edge(path)
    told = file.meta
    if told.get("kind") != KIND:
        raise bad(str(path), "meta: kind", told.get("kind"), KIND)
    try:
        config = NetworkConfig.model_validate(told.get("config"))
    except ValidationError as error:
        raise explain(f"{path}: meta: config", error) from error
    try:
        schemes = {str(name): Scheme.from_json(one) for name, one in told["schemes"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise bad(str(path), "meta: schemes", told.get("schemes"), "intents and slots by name") from error
    _check(file.tensors, config, schemes, str(path))
    return file, config, schemes


def _check(
    tensors: Mapping[str, Tensor], config: NetworkConfig, schemes: Mapping[str, Scheme], where: str
) -> None:
    words = _shape(tensors[PRINTS])[1] if PRINTS in tensors else 0
    wanted = _shapes(config, schemes, words)
    for name in sorted(wanted.keys() | tensors.keys()):
        found = _shape(tensors[name]) if name in tensors else None
        if found != wanted.get(name):
            raise bad(where, f"tensor {name}", found, str(wanted.get(name, "none of this name")))


def _shapes(config: NetworkConfig, schemes: Mapping[str, Scheme], words: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors for a vocabulary of so many words."""
    gates, hidden = 4 * config.hidden, config.hidden
    shapes: dict[str, tuple[int, ...]] = {}
    if config.embedding != "hashed":
        shapes[PRINTS] = (3, words)
    if config.embedding == "codes":
        shapes[CODES] = (config.codebooks, words + 1)
        shapes[CODEWORDS] = (config.codebooks * config.codewords, config.width)
    else:
        shapes[TABLE] = (config.width, config.buckets or words + 1)
    for name in ("forward", "backward"):
        shapes[f"{name}.input.weight"] = (gates, config.width)
        shapes[f"{name}.input.bias"] = (1, gates)
        shapes[f"{name}.recurrent.weight"] = (gates, hidden)
    for scheme, one in schemes.items():
        for kind, count in (("intents", len(one.intents)), ("slots", len(one.tags))):
            if count:
                shapes[f"{kind}.{scheme}.weight"] = (count, 2 * hidden)
                shapes[f"{kind}.{scheme}.bias"] = (1, count)
    return shapes


def embedding_bytes(config: NetworkConfig, words: int) -> int:
    """Bytes of word vectors, vocabulary and the matrices that take the vectors, in 8 bits, without padding.

    Args:
        config: the shape.
        words: of the vocabulary.
    """
    total = 0.0
    for name, (rows, cols) in _shapes(config, {}, words).items():
        if not name.endswith(("bias", "recurrent.weight")):
            total += rows * (4 + cols * (config.code_bits if name == CODES else _BITS) / 8)
    return round(total)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tensor.codes.shape if isinstance(tensor, Codes) else tensor.shape


def values_of(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor's values as floats."""
    return dequantise(tensor) if isinstance(tensor, Codes) else tensor.astype(np.float32)


def word_vectors(tensors: Mapping[str, Tensor], config: NetworkConfig) -> NDArray[np.float32]:
    """The vector of every word, or the rows of a hashed table, with shape `(V + 1, width)`."""
    if config.embedding != "codes":
        return np.ascontiguousarray(values_of(tensors[TABLE]).T)
    codes, codewords = tensors[CODES], values_of(tensors[CODEWORDS])
    assert isinstance(codes, Codes)
    total = np.zeros((codes.cols, config.width), np.float32)
    for book, chosen in enumerate(codes.codes):
        total += codewords[book * config.codewords + chosen]
    return total


def vocabulary_of(tensors: Mapping[str, Tensor]) -> Vocabulary:
    """The words' fingerprints; none of a hashed embedding."""
    prints = tensors.get(PRINTS)
    return Vocabulary(np.zeros(0, np.int64)) if prints is None else Vocabulary.from_bytes(_codes(prints))


def _codes(tensor: Tensor) -> NDArray[np.uint8]:
    assert isinstance(tensor, Codes)
    return tensor.codes


def load_twin(path: Path) -> Trained:
    """A file's network in torch, with products as the engine's kernels have them: its slow, obvious twin.

    Raises:
        EdgeSpeechError: as `read_network`.
    """
    file, config, schemes = read_network(path)
    tensors = file.tensors
    dense = config if config.embedding == "hashed" else config.model_copy(update={"embedding": "dense"})
    vectors = torch.from_numpy(word_vectors(tensors, config))
    network = Network(dense, len(vectors), schemes)
    network.embedding.table.weight.data.copy_(vectors)

    def product(name: str) -> Product:
        bias = tensors.get(f"{name}.bias")
        return Product(tensors[f"{name}.weight"], None if bias is None else torch.from_numpy(values_of(bias)))

    for name in ("forward", "backward"):
        lstm: Any = Lstm(product(f"{name}.input"), product(f"{name}.recurrent"))
        setattr(network, f"{name}_lstm", lstm)
    for kind, layers in (("intents", network.intents), ("slots", network.slots)):
        for scheme in list(layers):
            layers[scheme] = product(f"{kind}.{scheme}")
    nn.Module.eval(network).requires_grad_(False)
    return Trained(dense, network, vocabulary_of(tensors), schemes)
