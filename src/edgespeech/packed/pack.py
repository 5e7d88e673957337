"""Packing a trained model into one `.edge` file: its tensors, and the layout of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lm.fusion import HIGH, LOW, Fusion
from edgespeech.model.branching import BranchingTransducer
from edgespeech.model.checkpoint import Trained
from edgespeech.model.transducer import Transducer
from edgespeech.packed.branches import part_of
from edgespeech.packed.codes import (
    CODEBOOK_BITS,
    GROUP_STEP,
    GROUPS,
    Codes,
    dequantise,
    lloyd_max,
    quantise,
)
from edgespeech.packed.edge_file import Tensor, bits_per_weight, read_edge, write_edge
from edgespeech.packed.layout_search import Machine, search_layouts
from edgespeech.packed.runtime import FORMAT

EMBEDDING = "predictor.embedding.weight"
"""A matrix without products: its rows are looked up."""
CONTEXT_EMBEDDING = "biasing.encoder.embedding.weight"
"""The same of a model with attention over phrases."""

SCORE_STEP = 0.125
"""Quantisation step of language-model scores in a packed file, in nats; their weight is about 0.4."""

CODES = "codes.edge"
"""Name of the file with a model's trained codes, in the packed format."""
_CODES_FORMAT = "edgespeech-codes-1"

Store = Literal["dense", "sparse", "auto"]
_FLOATS = {16: np.float16, 32: np.float32}


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How a matrix is stored.

    Attributes:
        bits: of a weight: 2 to 8 as codes, 16 or 32 as floats.
        group: columns that share a scale, a multiple of 64; 0 for the whole row. Codes alone have scales.
        codebook: codes of 2 to 6 bits into levels that are learned (Lloyd-Max), not uniform; one scale a row.
        store: of codes: `dense`; `sparse`, in which zero weights cost one bit; or `auto`, the equivalent layout with
            the least predicted time, see `search_layouts`.

    Raises:
        EdgeSpeechError: a value out of range, or incompatible values.
    """

    bits: int = 8
    group: int = 0
    codebook: bool = False
    store: Store = "dense"

    def __post_init__(self) -> None:
        if self.bits not in range(2, 9) and self.bits not in _FLOATS:
            raise bad("layout", "bits", self.bits, "2 to 8, 16 or 32")
        if not isinstance(self.group, int) or not 0 <= self.group < 1 << 32 or self.group % GROUP_STEP:
            raise bad("layout", "group", self.group, GROUPS)
        if not isinstance(self.codebook, bool):
            raise bad("layout", "codebook", self.codebook, "true or false")
        if self.store not in get_args(Store):
            raise bad("layout", "store", self.store, f"one of {', '.join(get_args(Store))}")
        if self.floats and (self.group or self.codebook or self.store != "dense"):
            raise bad("layout", "bits", self.bits, "2 to 8 with a group, a codebook, sparse or auto")
        if self.codebook and (self.bits > CODEBOOK_BITS or self.group):
            found = f"{self.bits} bits, group {self.group}"
            raise bad("layout", "codebook", found, f"2 to {CODEBOOK_BITS} bits, group 0")

    @property
    def floats(self) -> bool:
        """Whether weights are stored as floats."""
        return self.bits in _FLOATS


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a model's matrices are stored; vectors are always fp32.

    Attributes:
        matrices: the default. Matrices of a fast branch with blocks of zeros are then sparse, not dense.
        others: exceptions by name, as in the file.
    """

    matrices: Encoding = Encoding()
    others: Mapping[str, Encoding] = field(default_factory=dict)

    def to_mapping(self) -> dict[str, Any]:
        """A mapping for JSON."""
        return {
            "matrices": asdict(self.matrices),
            "others": {name: asdict(encoding) for name, encoding in self.others.items()},
        }


@dataclass(frozen=True, slots=True)
class Packed:
    """The result of packing.

    Attributes:
        file_bytes: of the whole file.
        weights: numbers in all its tensors.
        bits_per_weight: on average over the tensors, without padding.
    """

    file_bytes: int
    weights: int
    bits_per_weight: float


def pack(
    trained: Trained,
    layout: Layout,
    out: Path,
    machine: Machine | None = None,
    codes: Mapping[str, Codes] | None = None,
) -> Packed:
    """Write a model as one `.edge` file, atomically.

    The same model and layout give the same bytes, unless `auto` measures.

    Args:
        trained: the model with word pieces and provenance, all of which are stored.
        layout: how its matrices are stored.
        out: the file to write.
        machine: the target machine of `auto`.
        codes: trained codes of some matrices, see `load_codes`; of their layout only `auto` is used.

    Raises:
        EdgeSpeechError: the layout or the codes do not fit the model, `auto` without a machine, or the file cannot
            be written.
    """
    tensors = pack_tensors(trained.model, layout, machine, codes)
    if trained.fusion is not None:
        tensors |= fusion_tensors(trained.fusion)
    about = layout.to_mapping()
    if codes:
        about["trained"] = {name: asdict(_encoding_of(its)) for name, its in codes.items()}
    told = json.dumps(about, sort_keys=True)
    meta = {
        "format": FORMAT,
        "config": trained.model.config.to_mapping(),
        "pieces": list(trained.tokeniser.pieces),
        "provenance": {**trained.provenance, "layout": told},
    }
    if isinstance(trained.model, BranchingTransducer):
        meta["branching"] = trained.model.branching.to_mapping()
    write_edge(out, tensors, meta)
    sizes = {name: _size(tensor) for name, tensor in tensors.items()}
    weights = sum(sizes.values())
    bits = sum(bits_per_weight(tensor) * sizes[name] for name, tensor in tensors.items())
    return Packed(out.stat().st_size, weights, bits / weights)


def fusion_tensors(fusion: Fusion) -> dict[str, Tensor]:
    """The language models for a packed file: tables of bytes, without zeros.

    Labels and numbers of children are unsigned bytes, stored as signed codes; scores are rounded to multiples of
    `SCORE_STEP` within +-15.875.

    Raises:
        EdgeSpeechError: more than 256 labels.
    """
    if fusion.high.vocabulary > 256:
        raise bad("pack", "vocabulary", fusion.high.vocabulary, "at most 256 with a language model")
    tensors: dict[str, Tensor] = dict(fusion.tensors())
    for name, model in ((HIGH, fusion.high), (LOW, fusion.low)):
        steps = np.clip(np.rint(model.table[2:].astype(np.float32) / SCORE_STEP), -127, 127)
        values = np.concatenate([model.table[:2].astype(np.uint8).view(np.int8), steps.astype(np.int8)])
        stored = values != 0
        tensors[name] = Codes(
            codes=np.where(stored, values.astype(np.int16) + 128, 0).astype(np.uint8),
            mask=stored,
            scales=np.array([[1], [1], [SCORE_STEP], [SCORE_STEP]], np.float32),
            bits=8,
            group=0,
            codebook=None,
        )
    return tensors


def save_codes(folder: Path, codes: Mapping[str, Codes]) -> None:
    """Write the trained codes of a model's matrices into its folder; see `load_codes`."""
    write_edge(folder / CODES, codes, {"format": _CODES_FORMAT})


def load_codes(folder: Path) -> dict[str, Codes]:
    """The trained codes of a model's matrices, by name; empty if it has none.

    Raises:
        EdgeSpeechError: the file is damaged or has another content.
    """
    path = folder / CODES
    if not path.exists():
        return {}
    file = read_edge(path)
    if file.meta.get("format") != _CODES_FORMAT:
        raise bad(str(path), "format", file.meta.get("format"), _CODES_FORMAT)
    return {name: tensor for name, tensor in file.tensors.items() if isinstance(tensor, Codes)}


def pack_tensors(
    model: Transducer,
    layout: Layout,
    machine: Machine | None = None,
    codes: Mapping[str, Codes] | None = None,
) -> dict[str, Tensor]:
    """A model's tensors in their stored form, by name; see `weights_of` and `pack`.

    Raises:
        EdgeSpeechError: the layout names a tensor that is not a matrix of the model, has an impossible codebook or
            sparse store, or is `auto` without a machine; or the codes do not match the model.
    """
    codes = codes or {}
    weights = weights_of(model)
    matrices = [name for name, values in weights.items() if values.ndim == 2]
    for name in layout.others:
        if name not in matrices:
            raise bad("layout", "others", name, "one of " + ", ".join(matrices))
    for name, its in codes.items():
        if name not in matrices or not np.array_equal(dequantise(its), weights[name]):
            raise bad("codes", "tensor", name, "a matrix of the model, with the decoded values of the codes")
    tensors: dict[str, Tensor] = {}
    auto: dict[str, Codes] = {}
    for name, values in weights.items():
        if values.ndim == 1:
            _check_finite(name, values)
            tensors[name] = values[None]
            continue
        encoding = layout.others.get(name, _by_default(name, model, layout.matrices))
        tensor = tensors[name] = codes[name] if name in codes else _encoded(values, encoding, name)
        if encoding.store == "auto" and isinstance(tensor, Codes):
            auto[name] = tensor
    if auto:
        if machine is None:
            raise bad("layout", "store", "auto", "dense or sparse, or auto with a target machine")
        fixed = sum(bits_per_weight(t) * _size(t) / 8 for name, t in tensors.items() if name not in auto)
        looked_up = {EMBEDDING, CONTEXT_EMBEDDING}
        tensors.update(search_layouts(auto, machine, fixed_bytes=fixed, looked_up=looked_up))
    return tensors


def weights_of(model: Transducer) -> dict[str, NDArray[np.float32]]:
    """The weights needed for recognition, in single precision, by their names in the file.

    Names are those of the state dict, except for an LSTM's `bias`, the sum of its two. A vector has shape `(N,)`, a
    matrix `(rows, cols)`; `predictor.mix.weight`, with shape `(J, context * J)`, has in column k * J + j the
    convolution's weights at position k of channel j.
    """
    state = {name: tensor.detach().cpu().float().numpy() for name, tensor in model.state_dict().items()}
    weights: dict[str, NDArray[np.float32]] = {}
    for name, values in state.items():
        if name.startswith("ctc.") or name.endswith("bias_hh_l0"):
            continue
        if name.endswith("bias_ih_l0"):
            both = values + state[name.replace("bias_ih", "bias_hh")]
            weights[name.removesuffix("_ih_l0")] = both
        elif values.ndim == 3:
            weights[name] = np.ascontiguousarray(values.transpose(0, 2, 1)).reshape(len(values), -1)
        else:
            weights[name] = values
    return weights


def _by_default(name: str, model: Transducer, encoding: Encoding) -> Encoding:
    """How a matrix is stored that the layout does not name: that of a fast branch with blocks of zeros, sparse."""
    blocks = isinstance(model, BranchingTransducer) and model.branching.fast == "sparse"
    if blocks and part_of(name) == "fast" and encoding.store == "dense" and not encoding.floats:
        return replace(encoding, store="sparse")
    return encoding


def _encoding_of(codes: Codes) -> Encoding:
    """How codes are stored."""
    store: Store = "dense" if codes.mask is None else "sparse"
    return Encoding(bits=codes.bits, group=codes.group, codebook=codes.codebook is not None, store=store)


def _encoded(values: NDArray[np.float32], encoding: Encoding, name: str) -> Tensor:
    """Encode a matrix; for `auto`, sparse."""
    if encoding.floats:
        with np.errstate(over="ignore"):
            floats = values.astype(_FLOATS[encoding.bits])
        _check_finite(name, floats)
        return floats
    mask = None if encoding.store == "dense" else values != 0
    try:
        if encoding.codebook:
            return lloyd_max(values, bits=encoding.bits, mask=mask)
        return quantise(values, bits=encoding.bits, group=encoding.group, mask=mask, clip="mse")
    except EdgeSpeechError as error:
        raise EdgeSpeechError(f"tensor {name}: {error}") from error


def _check_finite(name: str, floats: NDArray[np.floating[Any]]) -> None:
    if not np.isfinite(floats).all():
        raise bad(f"tensor {name}", "value", float(floats[~np.isfinite(floats)][0]), "finite values")


def _size(tensor: Tensor) -> int:
    return tensor.codes.size if isinstance(tensor, Codes) else tensor.size
