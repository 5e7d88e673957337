"""Treatments: what a compression technique does to a training run, one weight matrix at a time.

A technique is one file in `edgespeech.compressors` with one class, found by its `name`. A run's file asks
for it:

    treatment: {name: acosr, bits: 5, layers: {"joiner.*": {bits: 8}, "predictor.embedding.*": null}}

`layers` maps patterns of matrix names to changed options, or to null for a matrix that is left alone; of several
patterns that match, the later one wins where they disagree. Matrices have the names, and the two dimensions, that
they have in a packed file (`edgespeech.packed.pack.weights_of`).
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

_PACKAGE = "edgespeech.compressors"


@dataclass(frozen=True, slots=True)
class Moment:
    """A step of the run.

    Attributes:
        step: counted from 0.
        steps: of the whole run.
        rate: the step's learning rate.
    """

    step: int
    steps: int
    rate: float

    def at(self, share: float) -> int:
        """The step before which this share of the run, 0 to 1, is done."""
        return int(share * self.steps)

    def since(self, share: float, until: float = 1.0) -> float:
        """How much is done of the part of the run from one share of its steps to another, 0 to 1."""
        first, last = self.at(share), self.at(until)
        return min(1.0, max(0.0, (self.step - first) / max(last - first, 1)))


class Options(BaseModel):
    """A technique's settings for one matrix; each technique adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Treatment(nn.Module, ABC):
    """A technique on one matrix. Its buffers and parameters are kept in the run's checkpoint.

    Nothing else may be kept from step to step, and nothing drawn: a run that was stopped goes on bit for bit. Methods
    get the matrix in two dimensions, `(rows, cols)`, and change nothing of what they are given.

    Args:
        weights: the matrix at the start, with shape `(rows, cols)`.
        options: of the technique's `options_type`.

    Attributes:
        name: what a run's file calls it.
        options_type: its settings.
        skips: matrices that it leaves alone unless a pattern names them.
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
        """Settings from a file, without `name` and `layers`.

        Raises:
            EdgeSpeechError: an unknown key, a wrong type or a value out of range.
        """
        try:
            return cls.options_type.model_validate(values)
        except ValidationError as error:
            raise explain(f"treatment {cls.name}", error, tuple(cls.options_type.model_fields)) from error

    @classmethod
    def begin(cls, weights: Tensor, options: Options) -> Treatment:
        """A treatment of a matrix of the started model; see `parse` for the options."""
        return cls(weights, options)

    @classmethod
    def check(cls, matrices: Mapping[str, Tensor]) -> None:
        """Whether these matrices can be treated.

        Raises:
            EdgeSpeechError: one is all zeros, is not finite, or has a row in which all weights are the same.
        """
        for name, weights in matrices.items():
            where = f"treatment {cls.name}: {name}"
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
        """The weights that a step begins with."""
        return weights

    def seen(self, weights: Tensor) -> Tensor:
        """The weights that the forward pass sees; its gradient is passed back to the weights, and to parameters."""
        return weights

    def after(self, weights: Tensor, moment: Moment) -> Tensor:
        """The weights after the optimiser's step, such as with what a regulariser adds, decoupled from it."""
        return weights

    def finish(self, weights: Tensor) -> Codes | Tensor:
        """What ships of the averaged weights: as codes, or with zeros; on the processor."""
        raise NotImplementedError


class Treated(nn.Module):
    """All of a model's matrices under a technique; without one, nothing.

    Around each step the loop calls `enter`, then computes the gradients, then `leave`, then steps its optimiser, then
    `after`.

    Args:
        values: the run's `treatment`; None for none.
        model: as it is started; its weights are changed in place from now on.
        steps: of the run.

    Raises:
        EdgeSpeechError: a pattern that matches no matrix, or a matrix that cannot be treated.
    """

    def __init__(self, values: Mapping[str, Any] | None, model: Transducer, steps: int) -> None:
        super().__init__()
        self._steps = steps
        self._parameters_of = {name: p for name, p in model.named_parameters() if is_matrix(name, p)}
        self._latent: dict[str, Tensor] = {}
        self.matrices = nn.ModuleDict()
        if values is None:
            return
        technique = find_treatment(values)
        chosen = _options(technique, values, tuple(self._parameters_of))
        started = {name: as_matrix(self._parameters_of[name].detach()) for name in chosen}
        technique.check(started)
        for name, options in chosen.items():
            self.matrices[name.replace(".", "/")] = technique.begin(started[name], options)

    @property
    def names(self) -> tuple[str, ...]:
        """The matrices that are treated."""
        return tuple(name for name, _ in self._all())

    @torch.no_grad()
    def enter(self, step: int, rate: float) -> None:
        """A step begins: the model computes with the weights that the technique lets it see."""
        moment = Moment(step, self._steps, rate)
        for name, treatment in self._all():
            parameter = self._parameters_of[name]
            latent = treatment.before(as_matrix(parameter.detach()), moment)
            self._latent[name] = latent.clone()
            parameter.copy_(as_stored(treatment.seen(latent), parameter))

    def leave(self) -> None:
        """The gradients are there: the weights come back, with the gradients that are theirs."""
        for name, treatment in self._all():
            parameter = self._parameters_of[name]
            assert parameter.grad is not None
            latent = self._latent.pop(name).requires_grad_()
            own = tuple(treatment.parameters())
            grads = torch.autograd.grad(treatment.seen(latent), (latent, *own), as_matrix(parameter.grad))
            with torch.no_grad():
                parameter.copy_(as_stored(latent, parameter))
                parameter.grad.copy_(as_stored(grads[0], parameter))
            for its, grad in zip(own, grads[1:], strict=True):
                its.grad = grad

    @torch.no_grad()
    def after(self, step: int, rate: float) -> None:
        """The optimiser has stepped.

        Raises:
            EdgeSpeechError: what the technique makes of a matrix is not finite; names the matrix.
        """
        moment = Moment(step, self._steps, rate)
        for name, treatment in self._all():
            parameter = self._parameters_of[name]
            weights = treatment.after(as_matrix(parameter.detach()), moment)
            if not torch.isfinite(weights).all():
                worst = float(weights[~torch.isfinite(weights)][0])
                where = f"treatment {treatment.name}: step {step}: {name}"
                raise bad(where, "regularised weight", worst, "finite weights")
            parameter.copy_(as_stored(weights, parameter))

    @torch.no_grad()
    def finish(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Codes]]:
        """What ships of averaged weights.

        Args:
            weights: the model's, by name.

        Returns:
            All of them, those of treated matrices as they ship; and the codes that these stand for, of the matrices
            that have some.
        """
        finished = dict(weights)
        codes: dict[str, Codes] = {}
        for name, treatment in self._all():
            result = treatment.finish(as_matrix(weights[name].detach()))
            if isinstance(result, Codes):
                codes[name] = result
                result = torch.from_numpy(dequantise(result))
            finished[name] = as_stored(result, weights[name])
        return finished, codes

    def _all(self) -> Iterator[tuple[str, Treatment]]:
        for key, treatment in self.matrices.items():
            assert isinstance(treatment, Treatment)
            yield key.replace("/", "."), treatment


def treatments() -> dict[str, type[Treatment]]:
    """Every technique by its name, sorted.

    Raises:
        EdgeSpeechError: two techniques share a name.
    """
    found: dict[str, type[Treatment]] = {}
    for info in pkgutil.iter_modules(import_module(_PACKAGE).__path__):
        if info.name.startswith("_"):
            continue
        module = import_module(f"{_PACKAGE}.{info.name}")
        for item in vars(module).values():
            if isinstance(item, type) and issubclass(item, Treatment) and item.__module__ == module.__name__:
                if item.name in found:
                    raise EdgeSpeechError(f"{module.__name__}: two treatments are named {item.name!r}")
                found[item.name] = item
    return dict(sorted(found.items()))


def find_treatment(values: Mapping[str, Any]) -> type[Treatment]:
    """The technique that a run's file asks for.

    Raises:
        EdgeSpeechError: there is none of this name.
    """
    known = treatments()
    if values.get("name") not in known:
        raise bad("treatment", "name", values.get("name"), "one of " + ", ".join(known))
    return known[values["name"]]


def check_treatment(values: Mapping[str, Any]) -> None:
    """Check a run's `treatment` as far as that goes without the model.

    Raises:
        EdgeSpeechError: an unknown technique or key, a wrong type or a value out of range.
    """
    technique = find_treatment(values)
    base, layers = _split(values)
    technique.parse(base)
    for change in layers.values():
        technique.parse({**base, **(change or {})})


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter of a transducer is a matrix that ships."""
    return parameter.ndim > 1 and not name.startswith("ctc.")


def as_matrix(values: Tensor) -> Tensor:
    """A parameter in two dimensions, as the packed file has it: see `edgespeech.packed.pack.weights_of`."""
    return values if values.ndim == 2 else values.transpose(1, 2).reshape(len(values), -1)


def as_stored(matrix: Tensor, like: Tensor) -> Tensor:
    """The reverse of `as_matrix`: with the shape of `like`."""
    if like.ndim == 2:
        return matrix
    rows, channels, places = like.shape
    return matrix.reshape(rows, places, channels).transpose(1, 2)


def _split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any] | None]]:
    """A run's `treatment` as the settings of every matrix, and the changes of some."""
    base = {key: value for key, value in values.items() if key not in ("name", "layers")}
    layers = values.get("layers", {})
    if not isinstance(layers, dict):
        raise bad("treatment", "layers", layers, "patterns of matrix names, each with its options or null")
    for pattern, change in layers.items():
        if not (change is None or isinstance(change, dict)):
            raise bad("treatment", f"layers.{pattern}", change, "options, or null to leave it alone")
    return base, layers


def _options(
    technique: type[Treatment], values: Mapping[str, Any], names: tuple[str, ...]
) -> dict[str, Options]:
    """The settings of each matrix that is treated."""
    base, layers = _split(values)
    for pattern in layers:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise bad("treatment", "layers", pattern, "a pattern that matches one of " + ", ".join(names))
    chosen: dict[str, Options] = {}
    for name in names:
        own: dict[str, Any] | None = None if name in technique.skips else dict(base)
        for pattern, change in layers.items():
            if fnmatchcase(name, pattern):
                own = None if change is None else {**(own or base), **change}
        if own is not None:
            chosen[name] = technique.parse(own)
    if not chosen:
        raise bad("treatment", "layers", list(layers), "a matrix that is not left alone")
    return chosen
