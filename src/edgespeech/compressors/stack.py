"""Quantisation of a sparsified model: any quantiser, with the zeros of the initial model fixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from edgespeech.compressors._quantiser import Quantiser
from edgespeech.errors import bad
from edgespeech.training.compressor import Compressor, Options, compressors


class StackOptions(Options):
    """The quantiser and its options.

    Attributes:
        quantiser: a technique that ends in codes; its own settings are given beside this one.
        settings: of the quantiser.
    """

    quantiser: str
    settings: Options


class Stack(Compressor):
    """A quantiser with a fixed mask: zeros stay zero, and are not stored.

    A matrix without zeros is quantised as a dense one.
    """

    name = "stack"
    options_type: ClassVar[type[Options]] = StackOptions
    zero_rows = True

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> StackOptions:
        """See `Compressor.parse`."""
        own = dict(values)
        name = own.pop("quantiser", None)
        known = {key: item for key, item in compressors().items() if issubclass(item, Quantiser)}
        if name not in known:
            raise bad("compressor stack", "quantiser", name, "one of " + ", ".join(known))
        return StackOptions(quantiser=name, settings=known[name].parse(own))

    @classmethod
    def begin(cls, weights: Tensor, options: Options) -> Compressor:
        """The quantiser, under the mask of the matrix."""
        assert isinstance(options, StackOptions)
        technique = compressors()[options.quantiser]
        assert issubclass(technique, Quantiser)
        mask = weights != 0
        return technique(weights, options.settings, None if mask.all() else mask)

    @classmethod
    def check(cls, matrices: Mapping[str, Tensor]) -> None:
        """See `Compressor.check`; also raises if no matrix has a zero."""
        super().check(matrices)
        if all(weights.all() for weights in matrices.values()):
            raise bad("compressor stack", "init", "a model without zeros", "a model that was sparsified")
