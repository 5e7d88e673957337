"""Compressors: compression techniques applied during training, one weight matrix at a time.

A technique is one file in `edgespeech.compressors` with one class, which is found by its `name`. A training
configuration selects it:

    compressor: {name: acosr, bits: 5, layers: {"joiner.*": {bits: 8}, "predictor.embedding.*": null}}

`layers` maps patterns of matrix names to changed options, or to null for a matrix that is not compressed; if several
patterns match, the later one overrides the earlier. Matrices have the names and the two-dimensional shapes of a packed
file (`edgespeech.packed.pack.weights_of`).
"""

from __future__ import annotations

import pkgutil
from abc import ABC
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from edgespeech.core.config import explain
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.transducer import Transducer
from edgespeech.packed.codes import Codes, dequantise

COMPRESSORS = "edgespeech.compressors"


@dataclass(frozen=True, slots=True)
class Moment:
    """A training step.

    Attributes:
        step: counted from 0.
        steps: of the whole run.
        rate: the step's learning rate.
    """

    step: int
    steps: int
    rate: float

    def at(self, share: float) -> int:
        """The step at which this share of the run, 0 to 1, is done."""
        return int(share * self.steps)

    def since(self, share: float, until: float = 1.0) -> float:
        """Progress, 0 to 1, through the part of the run between two shares of its steps."""
        first, last = self.at(share), self.at(until)
        return min(1.0, max(0.0, (self.step - first) / max(last - first, 1)))


class Options(BaseModel):
    """A technique's settings for one matrix; each technique adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Compressor(nn.Module, ABC):
    """A technique applied to one matrix. Its buffers and parameters are saved in the run's checkpoint.

    A technique may hold no other state between steps and may draw no random numbers, so that a stopped run continues
    bit for bit. Methods take the matrix in two dimensions, `(rows, cols)`, and do not modify their arguments.

    Args:
        weights: the matrix at the start, with shape `(rows, cols)`.
        options: of the technique's `options_type`.

    Attributes:
        name: in training configurations.
        options_type: its settings.
        skips: matrices that are not compressed unless a pattern names them.
        zero_rows: whether a row may be all zeros at the start.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[Options]]
    skips: ClassVar[tuple[str, ...]] = ()
    zero_rows: ClassVar[bool] = False
    options: Options

    def __init__(self, weights: Tensor, options: Options) -> None:
        super().__init__()
        self.options = options

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Options:
        """Parse the settings of a configuration, without `name` and `layers`.

        Raises:
            EdgeSpeechError: an unknown key, a wrong type or a value out of range.
        """
        try:
            return cls.options_type.model_validate(values)
        except ValidationError as error:
            raise explain(f"compressor {cls.name}", error, tuple(cls.options_type.model_fields)) from error

    @classmethod
    def begin(cls, weights: Tensor, options: Options) -> Compressor:
        """The compressor of a matrix of the initial model; see `parse` for the options."""
        return cls(weights, options)

    @classmethod
    def check(cls, matrices: Mapping[str, Tensor]) -> None:
        """Check that these matrices can be compressed.

        Raises:
            EdgeSpeechError: one is all zeros, is not finite, or has a row in which all weights are the same.
        """
        for name, weights in matrices.items():
            where = f"compressor {cls.name}: {name}"
            if not torch.isfinite(weights).all():
                raise bad(where, "weight", float(weights[~torch.isfinite(weights)][0]), "finite weights")
            if not weights.any():
                raise bad(where, "matrix", 0.0, "weights that are not all zero")
            same = (weights == weights[:, :1]).all(dim=1)
            if cls.zero_rows:
                same &= weights[:, 0] != 0
            if weights.shape[1] > 1 and same.any():
                row = int(same.nonzero()[0, 0])
                raise bad(where, f"row {row}", float(weights[row, 0]), "weights that differ")

    def before(self, weights: Tensor, moment: Moment) -> Tensor:
        """The weights at the beginning of a step."""
        return weights

    def seen(self, weights: Tensor) -> Tensor:
        """The weights used in the forward pass; differentiable with respect to the weights and own parameters."""
        return weights

    def after(self, weights: Tensor, moment: Moment) -> Tensor:
        """The weights after the optimiser's step, for example with a decoupled regulariser applied."""
        return weights

    def finish(self, weights: Tensor) -> Codes | Tensor:
        """The compressed form of the averaged weights, as codes or as weights with zeros; on the CPU."""
        raise NotImplementedError


class Compressors(nn.Module):
    """The compressors of all matrices of a model; empty if the run has no technique.

    In each step the training loop calls `enter`, computes the gradients, calls `leave`, steps its optimiser and calls
    `after`.

    Args:
        values: the setting `compressor` of the run; None for none.
        model: the initial model; its weights are changed in place from now on.
        steps: of the run.

    Raises:
        EdgeSpeechError: a pattern that matches no matrix, or a matrix that cannot be compressed.
    """

    def __init__(self, values: Mapping[str, Any] | None, model: Transducer, steps: int) -> None:
        super().__init__()
        self._steps = steps
        self._parameters_of = {name: p for name, p in model.named_parameters() if is_matrix(name, p)}
        self._latent: dict[str, Tensor] = {}
        self.matrices = nn.ModuleDict()
        if values is None:
            return
        technique = find_compressor(values)
        chosen = _options(technique, values, tuple(self._parameters_of))
        started = {name: as_matrix(self._parameters_of[name].detach()) for name in chosen}
        technique.check(started)
        for name, options in chosen.items():
            self.matrices[name.replace(".", "/")] = technique.begin(started[name], options)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the compressed matrices."""
        return tuple(name for name, _ in self._all())

    @torch.no_grad()
    def enter(self, step: int, rate: float) -> None:
        """Begin a step: the model computes with the compressed weights (`Compressor.seen`)."""
        moment = Moment(step, self._steps, rate)
        for name, compressor in self._all():
            parameter = self._parameters_of[name]
            latent = compressor.before(as_matrix(parameter.detach()), moment)
            self._latent[name] = latent.clone()
            parameter.copy_(as_stored(compressor.seen(latent), parameter))

    def leave(self) -> None:
        """After the backward pass: restore the latent weights and set their gradients."""
        for name, compressor in self._all():
            parameter = self._parameters_of[name]
            assert parameter.grad is not None
            latent = self._latent.pop(name).requires_grad_()
            own = tuple(compressor.parameters())
            grads = torch.autograd.grad(compressor.seen(latent), (latent, *own), as_matrix(parameter.grad))
            with torch.no_grad():
                parameter.copy_(as_stored(latent, parameter))
                parameter.grad.copy_(as_stored(grads[0], parameter))
            for parameter_of_it, grad in zip(own, grads[1:], strict=True):
                parameter_of_it.grad = grad

    @torch.no_grad()
    def after(self, step: int, rate: float) -> None:
        """After the optimiser's step.

        Raises:
            EdgeSpeechError: a matrix that is not finite after the technique; its name is in the message.
        """
        moment = Moment(step, self._steps, rate)
        for name, compressor in self._all():
            parameter = self._parameters_of[name]
            weights = compressor.after(as_matrix(parameter.detach()), moment)
            if not torch.isfinite(weights).all():
                worst = float(weights[~torch.isfinite(weights)][0])
                where = f"compressor {compressor.name}: step {step}: {name}"
                raise bad(where, "regularised weight", worst, "finite weights")
            parameter.copy_(as_stored(weights, parameter))

    @torch.no_grad()
    def finish(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Codes]]:
        """The compressed form of averaged weights.

        Args:
            weights: the model's, by name.

        Returns:
            All weights, those of compressed matrices as they will be decoded; and the codes of the matrices that are
            stored as codes.
        """
        finished = dict(weights)
        codes: dict[str, Codes] = {}
        for name, compressor in self._all():
            result = compressor.finish(as_matrix(weights[name].detach()))
            if isinstance(result, Codes):
                codes[name] = result
                result = torch.from_numpy(dequantise(result))
            finished[name] = as_stored(result, weights[name])
        return finished, codes

    def _all(self) -> Iterator[tuple[str, Compressor]]:
        for key, compressor in self.matrices.items():
            assert isinstance(compressor, Compressor)
            yield key.replace("/", "."), compressor


def compressors() -> dict[str, type[Compressor]]:
    """Every technique by its name, sorted.

    Raises:
        EdgeSpeechError: two techniques share a name.
    """
    found: dict[str, type[Compressor]] = {}
    for info in pkgutil.iter_modules(import_module(COMPRESSORS).__path__):
        if info.name.startswith("_"):
            continue
        module = import_module(f"{COMPRESSORS}.{info.name}")
        for item in vars(module).values():
            if isinstance(item, type) and issubclass(item, Compressor) and item.__module__ == module.__name__:
                if item.name in found:
                    raise EdgeSpeechError(f"{module.__name__}: two compressors are named {item.name!r}")
                found[item.name] = item
    return dict(sorted(found.items()))


def find_compressor(values: Mapping[str, Any]) -> type[Compressor]:
    """The technique that a training configuration names.

    Raises:
        EdgeSpeechError: no technique has this name.
    """
    known = compressors()
    if values.get("name") not in known:
        raise bad("compressor", "name", values.get("name"), "one of " + ", ".join(known))
    return known[values["name"]]


def check_compressor(values: Mapping[str, Any]) -> None:
    """Check the setting `compressor` as far as possible without the model.

    Raises:
        EdgeSpeechError: an unknown technique or key, a wrong type or a value out of range.
    """
    technique = find_compressor(values)
    base, layers = _split(values)
    technique.parse(base)
    for change in layers.values():
        technique.parse({**base, **(change or {})})


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter of a transducer is a matrix of the deployed model."""
    return parameter.ndim > 1 and not name.startswith("ctc.")


def as_matrix(values: Tensor) -> Tensor:
    """A parameter in two dimensions, as in the packed file: see `edgespeech.packed.pack.weights_of`."""
    return values if values.ndim == 2 else values.transpose(1, 2).reshape(len(values), -1)


def as_stored(matrix: Tensor, like: Tensor) -> Tensor:
    """The reverse of `as_matrix`: with the shape of `like`."""
    if like.ndim == 2:
        return matrix
    rows, channels, places = like.shape
    return matrix.reshape(rows, places, channels).transpose(1, 2)


def _split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any] | None]]:
    """The setting `compressor` as options of every matrix, and changed options by pattern."""
    base = {key: value for key, value in values.items() if key not in ("name", "layers")}
    layers = values.get("layers", {})
    if not isinstance(layers, dict):
        raise bad("compressor", "layers", layers, "patterns of matrix names, each with its options or null")
    for pattern, change in layers.items():
        if not (change is None or isinstance(change, dict)):
            raise bad("compressor", f"layers.{pattern}", change, "options, or null to leave it uncompressed")
    return base, layers


def _options(
    technique: type[Compressor], values: Mapping[str, Any], names: tuple[str, ...]
) -> dict[str, Options]:
    """The options of each matrix that is compressed."""
    base, layers = _split(values)
    for pattern in layers:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise bad("compressor", "layers", pattern, "a pattern that matches one of " + ", ".join(names))
    chosen: dict[str, Options] = {}
    for name in names:
        own: dict[str, Any] | None = None if name in technique.skips else dict(base)
        for pattern, change in layers.items():
            if fnmatchcase(name, pattern):
                own = None if change is None else {**(own or base), **change}
        if own is not None:
            chosen[name] = technique.parse(own)
    if not chosen:
        raise bad("compressor", "layers", list(layers), "a pattern that leaves a matrix to compress")
    return chosen
