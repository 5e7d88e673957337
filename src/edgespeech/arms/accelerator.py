"""A model of a neural edge processor that runs a packed model: cycles, bytes and energy per second of speech.

Weights are packed up to the decoder, which is between the memory and an array of processing elements (PEs). As many as
fit are in SRAM, the most frequently read first; the rest is read from DRAM every time. Output row r belongs to PE r mod
`pes`; a PE does one multiply-accumulate per cycle and none for a weight that is not stored, nor, optionally, for an
activation of zero. All PEs work on the same `window` columns and wait there for the slowest; a window takes at least
one cycle, even if it is empty. Memory, decoder and array work in parallel, so that a product takes as long as its
slowest part; a dense one, whose rows fill the array, takes exactly max(MACs / array, bytes / bandwidth) (roofline:
Williams et al., CACM 2009).

Sources: rows distributed over PEs with local weight decoding: Han et al., EIE (ISCA 2016). Bit masks matched in
windows: Gondimalla et al., SparTen (MICRO 2019). Energy is modelled as pJ per MAC and per byte only.

Not modelled: vector operations between products and their energy, energy of the decoder, leakage, memory latency, the
initial filling of the SRAM. A weight matrix is read again for every vector, as in the CPU runtime.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgespeech.core.config import explain
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.packed.codes import Codes, dequantise, quantise
from edgespeech.packed.edge_file import Tensor, sections
from edgespeech.packed.pack import EMBEDDING
from edgespeech.packed.reference import quantise_activations

NUMBERS = Path(__file__).with_suffix(".yaml")
"""The processors' numbers with their sources, for `load_numbers`."""
Limit = Literal["dram", "sram", "decoder", "array", "imbalance"]
"""The parts of the time: `imbalance` is the array's waiting for its slowest PE, beyond the time of every other part."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Number(_Strict):
    """A number with its source."""

    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    source: Annotated[str, Field(min_length=1)]


class Claim(_Strict):
    """A published claim about a processor that cannot be measured here.

    Attributes:
        statement: in words.
        measure: this model's corresponding figure, of one layout against another: ratio of speeds (`speed`), ratio of
            energies (`energy`), the share of bytes saved (`memory`), or none.
        claimed: in the measure's unit.
        source: of the claim.
    """

    statement: str
    measure: Literal["speed", "energy", "memory", "none"]
    claimed: float
    source: Annotated[str, Field(min_length=1)]


class Processor(_Strict):
    """A processor's numbers.

    Attributes:
        name: of the processor.
        pes: processing elements; each does one multiply-accumulate a cycle.
        clock_hz: of all of it.
        window: number of columns after which the PEs synchronise.
        decoder_codes_per_cycle: stored weights unpacked per cycle, for all PEs together.
        sram_bytes: for packed weights.
        sram_bytes_per_cycle: read bandwidth of the SRAM.
        dram_bytes_per_s: read bandwidth of the DRAM.
        mac_pj: energy of a multiply-accumulate.
        dram_pj_per_byte: of weights.
        sram_pj_per_byte: of weights.
        activation_pj_per_byte: of activations read and sums written.
        sources: of each number.
    """

    name: str
    pes: Annotated[int, Field(gt=0)]
    clock_hz: Annotated[float, Field(gt=0)]
    window: Annotated[int, Field(gt=0)]
    decoder_codes_per_cycle: Annotated[float, Field(gt=0)]
    sram_bytes: Annotated[int, Field(ge=0)]
    sram_bytes_per_cycle: Annotated[float, Field(gt=0)]
    dram_bytes_per_s: Annotated[float, Field(gt=0)]
    mac_pj: Annotated[float, Field(ge=0)]
    dram_pj_per_byte: Annotated[float, Field(ge=0)]
    sram_pj_per_byte: Annotated[float, Field(ge=0)]
    activation_pj_per_byte: Annotated[float, Field(ge=0)]
    sources: Mapping[str, str]


class _File(_Strict):
    schema_version: Literal[1]
    shared: Mapping[str, Number]
    processors: Annotated[Mapping[str, Mapping[str, Number]], Field(min_length=1)]
    claims: tuple[Claim, ...]


class Numbers(NamedTuple):
    """The content of a file of processors and claims."""

    processors: tuple[Processor, ...]
    claims: tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """The operations of a model on some speech; `edgespeech.arms.accelerator_work` counts those of a packed one.

    Attributes:
        audio_s: seconds of speech.
        calls: number of calls by the name of a tensor, or by its first part (`transcriber`, `predictor`, `joiner`).
        lookups: number of rows of the embedding that were read.
        inputs: input vectors by the name of a matrix, with shape `(N, cols)`; a sample is enough, needed only for zeros
            among the activations.
    """

    audio_s: float
    calls: Mapping[str, int]
    lookups: int
    inputs: Mapping[str, NDArray[np.float32]]


class Product(NamedTuple):
    """The operations of one call of a tensor, averaged over the vectors.

    Attributes:
        codes: weights that are decoded.
        macs: multiply-accumulates that are done.
        cycles: of the array, including waiting.
        activation_bytes: inputs read for each round of rows, and 4-byte sums written.
    """

    codes: int
    macs: float
    cycles: float
    activation_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A tensor on a processor.

    Attributes:
        name: of the tensor.
        packed_bytes: of all its sections in the file.
        resident_bytes: of those, in SRAM.
        reads: passes over it per second of speech; for an embedding, shares of its rows.
        product: operations of each pass.
        time_s: of one pass: the longest of the `bounds` and the array's cycles.
        bounds: seconds of each part alone, of the array without waiting.
        waiting_s: time that the array's waiting adds to the longest of the bounds.
        energy_j: modelled, of one pass.
    """

    name: str
    packed_bytes: int
    resident_bytes: int
    reads: float
    product: Product
    time_s: float
    bounds: Mapping[Limit, float]
    waiting_s: float
    energy_j: float


@dataclass(frozen=True, slots=True)
class Execution:
    """A packed model on a processor, per second of speech.

    Attributes:
        processor: that runs it.
        skips_activations: whether activations of zero take no cycle.
        steps: every tensor, in the file's order.
    """

    processor: Processor
    skips_activations: bool
    steps: tuple[Step, ...]

    @property
    def packed_bytes(self) -> int:
        """Of all sections of the file."""
        return sum(step.packed_bytes for step in self.steps)

    @property
    def resident_bytes(self) -> int:
        """Kept in SRAM."""
        return sum(step.resident_bytes for step in self.steps)

    @property
    def dram_bytes(self) -> float:
        """Read from DRAM in a second of speech."""
        return sum(step.reads * (step.packed_bytes - step.resident_bytes) for step in self.steps)

    @property
    def macs(self) -> float:
        """Multiply-accumulates done in a second of speech."""
        return sum(step.reads * step.product.macs for step in self.steps)

    @property
    def time_s(self) -> float:
        """Seconds of work in a second of speech."""
        return sum(step.reads * step.time_s for step in self.steps)

    @property
    def energy_j(self) -> float:
        """Modelled joules in a second of speech, which is watts."""
        return sum(step.reads * step.energy_j for step in self.steps)

    @property
    def times(self) -> dict[Limit, float]:
        """The time by its limiting part: each tensor's longest bound, and the waiting beyond it."""
        times: dict[Limit, float] = dict.fromkeys(("dram", "sram", "decoder", "array", "imbalance"), 0.0)
        for step in self.steps:
            longest = max(step.bounds, key=step.bounds.__getitem__)
            times[longest] += step.reads * (step.time_s - step.waiting_s)
            times["imbalance"] += step.reads * step.waiting_s
        return times

    @property
    def imbalance(self) -> float:
        """The array's cycles relative to those without waiting; 1 is perfect."""
        done = sum(step.reads * step.product.macs for step in self.steps) / self.processor.pes
        return sum(step.reads * step.product.cycles for step in self.steps) / done if done else 1.0

    @property
    def decoder_needed(self) -> float:
        """Codes per cycle below which the decoder would be the slowest part for some tensor."""
        clock = self.processor.clock_hz
        needed = 0.0
        for step in self.steps:
            others = max(step.bounds["dram"], step.bounds["sram"], step.product.cycles / clock)
            needed = max(needed, step.product.codes / (others * clock))
        return needed

    def as_row(self) -> dict[str, Any]:
        """Its figures for a record, under the names that they have here; `processor` is the name."""
        return {
            "processor": self.processor.name,
            "skips_activations": self.skips_activations,
            "packed_bytes": self.packed_bytes,
            "resident_bytes": self.resident_bytes,
            "dram_bytes": self.dram_bytes,
            "macs": self.macs,
            "time_s": self.time_s,
            "energy_j": self.energy_j,
            "imbalance": self.imbalance,
            "decoder_needed": self.decoder_needed,
            "times": self.times,
        }


def load_numbers(path: Path) -> Numbers:
    """Read processors and claims.

    Numbers that a processor does not have are taken from `shared`.

    Raises:
        EdgeSpeechError: not YAML, an unknown or missing number, one without a source or out of range.
    """
    try:
        file = _File.model_validate(load_yaml(path))
    except OSError as error:
        raise EdgeSpeechError(f"{path}: could not be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise explain(str(path), error, tuple(_File.model_fields)) from error
    known = tuple(name for name in Processor.model_fields if name not in ("name", "sources"))
    processors = []
    for name, own in file.processors.items():
        numbers = {**file.shared, **own}
        if unknown := sorted(numbers.keys() - set(known)):
            raise bad(f"{path}: processor {name}", "key", unknown[0], "one of " + ", ".join(known))
        values = {key: number.value for key, number in numbers.items()}
        sources = {key: number.source for key, number in numbers.items()}
        try:
            processors.append(Processor.model_validate({"name": name, **values, "sources": sources}))
        except ValidationError as error:
            raise explain(f"{path}: processor {name}", error, known) from error
    return Numbers(tuple(processors), file.claims)


def multiply(codes: Codes, processor: Processor, x: NDArray[np.float32] | None = None) -> Product:
    """The operations of the product of a matrix with a vector.

    Args:
        codes: the matrix.
        processor: whose array.
        x: vectors with shape `(N, cols)`, whose activations of zero, after they were quantised, are skipped; None
            skips none.

    Raises:
        EdgeSpeechError: x is not such an array.
    """
    if x is None:
        seen = np.ones((codes.cols, 1), np.float32)
    else:
        if x.ndim != 2 or not len(x) or x.shape[1] != codes.cols:
            raise bad("multiply", "shape of x", x.shape, f"(N, {codes.cols}), N at least 1")
        seen = (quantise_activations(x)[0] != 0).T.astype(np.float32)
    stored = np.ones(codes.codes.shape, np.float32)
    if codes.mask is not None:
        stored = codes.mask.astype(np.float32)
    rounds = -(-codes.rows // processor.pes)
    work = np.zeros((rounds * processor.pes, seen.shape[1]))  # a PE without a row has none
    macs = cycles = 0.0
    for start in range(0, codes.cols, processor.window):
        columns = slice(start, start + processor.window)
        work[: codes.rows] = stored[:, columns] @ seen[columns]  # counts below 2^24: exact
        slowest = work.reshape(rounds, processor.pes, -1).max(axis=1)
        cycles += float(np.maximum(slowest, 1).sum())
        macs += float(work.sum())
    vectors = seen.shape[1]
    moved = rounds * codes.cols + 4 * codes.rows
    return Product(codes.non_zeros, macs / vectors, cycles / vectors, moved)


def execute(
    tensors: Mapping[str, Tensor],
    processor: Processor,
    workload: Workload,
    *,
    skip_activations: bool = False,
) -> Execution:
    """Run a packed model.

    Args:
        tensors: from `edgespeech.packed.edge_file.read_edge`.
        processor: that runs it.
        workload: calls and inputs of each tensor.
        skip_activations: spend no cycle on an activation of zero.

    Raises:
        EdgeSpeechError: a matrix of floats other than the embedding, which the array cannot multiply; a tensor of
            a part that the workload does not name; or an input that is missing or of another shape.
    """
    if workload.audio_s <= 0:
        raise bad("workload", "audio_s", workload.audio_s, "more than 0")
    sizes = {name: sum(sections(tensor)) for name, tensor in tensors.items()}
    reads = {name: _reads(name, tensor, workload) for name, tensor in tensors.items()}
    room = processor.sram_bytes
    resident: dict[str, int] = {}
    for name in sorted(tensors, key=lambda name: -reads[name]):
        resident[name] = min(room, sizes[name])
        room -= resident[name]
    steps = []
    for name, tensor in tensors.items():
        if name == EMBEDDING or (not isinstance(tensor, Codes) and tensor.shape[0] == 1):
            product = Product(0, 0.0, 0.0, 0)
        elif not isinstance(tensor, Codes):
            raise bad(f"tensor {name}", "type", tensor.dtype, "codes: the array multiplies int8 alone")
        else:
            x = None
            if skip_activations:
                if name not in workload.inputs:
                    raise bad("workload", "inputs", name, "vectors that this matrix was multiplied with")
                x = workload.inputs[name]
            product = multiply(tensor, processor, x)
        steps.append(_step(name, sizes[name], resident[name], reads[name], product, processor))
    return Execution(processor, skip_activations, tuple(steps))


def thinned(tensors: Mapping[str, Tensor], bits: int, sparsity: float) -> dict[str, Tensor]:
    """The same model with other bits and sparsity, for estimating costs; not equivalent to a trained model.

    Args:
        tensors: from `read_edge`.
        bits: of every matrix that is multiplied, 2 to 8.
        sparsity: the share of its weights, the smallest, that becomes zero; 0 stores it dense. More become zero
            where a kept weight rounds to it.

    Raises:
        EdgeSpeechError: a number out of range.
    """
    if not 0 <= sparsity < 1:
        raise bad("thinned", "sparsity", sparsity, "0 or more, below 1")
    changed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        changed[name] = tensor
        if isinstance(tensor, Codes) and name != EMBEDDING:
            weights = dequantise(tensor)
            mask = None
            if sparsity > 0:
                zeros = int(sparsity * weights.size)  # never all of them
                mask = np.ones(weights.shape, np.bool_)
                mask.flat[np.argpartition(np.abs(weights), zeros, axis=None)[:zeros]] = False
            changed[name] = quantise(weights, bits=bits, group=tensor.group, mask=mask)
    return changed


def sparsity_of(tensors: Mapping[str, Tensor]) -> float:
    """The share of weights that are not stored, over all matrices of codes that are multiplied."""
    matrices = multiplied(tensors)
    size = sum(codes.codes.size for codes in matrices)
    return 1 - sum(codes.non_zeros for codes in matrices) / size if size else 0.0


def multiplied(tensors: Mapping[str, Tensor]) -> Sequence[Codes]:
    """The matrices of codes that are multiplied."""
    return [codes for name, codes in tensors.items() if isinstance(codes, Codes) and name != EMBEDDING]


def _reads(name: str, tensor: Tensor, workload: Workload) -> float:
    """Passes over a tensor per second of speech."""
    if name == EMBEDDING:
        rows = tensor.rows if isinstance(tensor, Codes) else tensor.shape[0]
        return workload.lookups / rows / workload.audio_s
    part = name.partition(".")[0]
    calls = workload.calls.get(name, workload.calls.get(part))
    if calls is None:
        raise bad(f"tensor {name}", "part", part, "one of " + ", ".join(workload.calls))
    return calls / workload.audio_s


def _step(
    name: str, packed: int, resident: int, reads: float, product: Product, processor: Processor
) -> Step:
    clock = processor.clock_hz
    bounds: dict[Limit, float] = {
        "array": product.macs / processor.pes / clock,
        "dram": (packed - resident) / processor.dram_bytes_per_s,
        "sram": resident / processor.sram_bytes_per_cycle / clock,
        "decoder": product.codes / processor.decoder_codes_per_cycle / clock,
    }
    longest = max(bounds.values())
    time = max(longest, product.cycles / clock)
    picojoules = math.fsum(
        (
            (packed - resident) * processor.dram_pj_per_byte,
            resident * processor.sram_pj_per_byte,
            product.macs * processor.mac_pj,
            product.activation_bytes * processor.activation_pj_per_byte,
        )
    )
    return Step(
        name=name,
        packed_bytes=packed,
        resident_bytes=resident,
        reads=reads,
        product=product,
        time_s=time,
        bounds=bounds,
        waiting_s=time - longest,
        energy_j=picojoules * 1e-12,
    )
