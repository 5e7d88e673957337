"""Sensitivity of a model to compression of each matrix, and the choice of bits and zeros for a budget of bytes.

Without training: each matrix alone is rounded, or loses its smallest weights, while all others are unchanged.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.checkpoint import Trained
from edgespeech.model.transducer import Transducer
from edgespeech.packed.edge_file import sections
from edgespeech.packed.pack import EMBEDDING, Encoding, Layout, pack, pack_tensors, weights_of


class Option(NamedTuple):
    """A compression of a matrix.

    Attributes:
        bits: of a weight.
        sparsity: share of its weights that are zero.
    """

    bits: int
    sparsity: float = 0.0


class Tried(NamedTuple):
    """The result of compressing a matrix.

    Attributes:
        matrix: its name.
        option: its compression.
        n_bytes: its size after that.
        loss: of the whole model.
    """

    matrix: str
    option: Option
    n_bytes: int
    loss: float


def matrices_of(model: Transducer) -> list[str]:
    """The names of a model's matrices, as in its packed file."""
    return [name for name, values in weights_of(model).items() if values.ndim == 2]


def thinned(trained: Trained, shares: Mapping[str, float]) -> Trained:
    """A copy in which the smallest weights of the named matrices are zero.

    Raises:
        EdgeSpeechError: a share is not in [0, 1), or a name is not that of a matrix.
    """
    model = copy.deepcopy(trained.model)
    parameters = dict(model.named_parameters())
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise bad("thinned", f"share of zeros of {name}", share, "0 or more, below 1")
        if name not in parameters or parameters[name].ndim < 2:
            raise bad("thinned", "matrix", name, "one of " + ", ".join(matrices_of(model)))
        values = parameters[name].data.view(-1)
        values[values.abs().argsort(stable=True)[: round(share * values.numel())]] = 0
    return replace(trained, model=model)


def layout_of(options: Mapping[str, Option]) -> Layout:
    """The layout of these options; other matrices are in single precision, and the embedding is dense."""
    return Layout(
        matrices=Encoding(bits=32),
        others={
            name: Encoding(
                bits=option.bits, store="sparse" if option.sparsity and name != EMBEDDING else "dense"
            )
            for name, option in options.items()
        },
    )


def try_each(
    trained: Trained, options: Sequence[Option], loss: Callable[[Path], float], scratch: Path
) -> Iterator[Tried]:
    """Every matrix alone at every option.

    Args:
        trained: the model.
        options: to try.
        loss: of a packed model.
        scratch: a folder for its file.
    """
    file = scratch / "one.edge"
    for name in matrices_of(trained.model):
        for option in options:
            changed = thinned(trained, {name: option.sparsity})
            layout = layout_of({name: option})
            pack(changed, layout, file)
            n_bytes = sum(sections(pack_tensors(changed.model, layout)[name]))
            yield Tried(name, option, n_bytes, loss(file))


def fit(tried: Sequence[Tried], budget: int) -> dict[str, Option]:
    """The option of each matrix that together fit a budget: greedy, assuming that losses add up.

    Every matrix begins at its largest option. Then the change with the least loss per byte saved is applied repeatedly,
    until the budget is met.

    Args:
        tried: from `try_each`.
        budget: bytes for all these matrices.

    Raises:
        EdgeSpeechError: not even the smallest options fit.
    """
    by_matrix: dict[str, list[Tried]] = {}
    for one in tried:
        by_matrix.setdefault(one.matrix, []).append(one)
    least = sum(min(one.n_bytes for one in ways) for ways in by_matrix.values())
    if least > budget:
        raise EdgeSpeechError(
            f"fit: budget is {budget} bytes, expected at least {least}, the smallest options"
        )
    chosen = {name: max(ways, key=lambda one: (one.n_bytes, -one.loss)) for name, ways in by_matrix.items()}
    while sum(one.n_bytes for one in chosen.values()) > budget:
        moves = [
            ((one.loss - chosen[name].loss) / (chosen[name].n_bytes - one.n_bytes), name, one)
            for name, ways in by_matrix.items()
            for one in ways
            if one.n_bytes < chosen[name].n_bytes
        ]
        _, name, one = min(moves, key=lambda move: move[:2])
        chosen[name] = one
    return {name: one.option for name, one in chosen.items()}
