"""Making updates: lossless, or the best delta of one kind within a budget of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lm.fusion import TENSORS
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import EdgeFile, Tensor, read_edge, write_edge
from edgespeech.updates.budget import candidates_of, vector_delta, within
from edgespeech.updates.deltas import Delta, added
from edgespeech.updates.exact import form_of, values_of
from edgespeech.updates.selfcheck import heard
from edgespeech.updates.update_file import (
    Header,
    Kind,
    body,
    parse_update,
    sealed,
    write_new,
)

Values = dict[str, NDArray[np.float32]]


class Wanted(NamedTuple):
    """What the new model shall be: decoded weights by tensor, the language models' tensors, and metadata."""

    values: Values
    exact: dict[str, Tensor]
    meta: dict[str, Any]


class Made(NamedTuple):
    """An update that was made.

    Attributes:
        header: of the update.
        error: what is left of the change of weights: the root of the summed squared differences between the model that
            the update makes and the wanted one, over those between the old and the wanted one; 0 if exact.
    """

    header: Header
    error: float


def make_exact(old: Path, new: Path, out: Path) -> Made:
    """Write the update that makes one packed model from another, bit for bit.

    Args:
        old: the packed model that devices have.
        new: the packed model that they shall have.
        out: the update.

    Raises:
        EdgeSpeechError: a file is no packed model, or the new one is not stored as `edgespeech pack` stores it; or the
            two are the same file.
    """
    before, after = read_edge(old), read_edge(new)
    said: dict[str, Delta | None] = {
        name: None
        for name, tensor in after.tensors.items()
        if name not in before.tensors or not same(tensor, before.tensors[name])
    }
    return Made(_write(Kind.EXACT, before, after, said, old=old, new=new, out=out), 0.0)


def make_within(
    old: Path, new: Path, out: Path, kind: Kind, budget: int, *, start: Path | None = None
) -> Made:
    """Write the update of one kind that comes nearest to a model within a number of bytes.

    The new model keeps the old one's layout, scales and word pieces; language models are never approximated.

    Args:
        old: the packed model that devices have.
        new: a packed model, or the folder of a trained one whose weights need not be on any levels.
        out: the update.
        kind: of the deltas; not `EXACT`.
        budget: bytes of the whole update file.
        start: the trained model that the training of `new` went on from: what is sent is then the change between these
            two, without what rounding changed when the old model was packed; so a change that was trained to be small
            stays small. None: all that separates `new` from the old model.

    Raises:
        EdgeSpeechError: a file is no packed model; the models differ in shape or word pieces; or what cannot be
            approximated takes more than the budget.
    """
    before = read_edge(old)
    wanted = _wanted(new, before)
    if start is not None:
        wanted = wanted._replace(values=_moved(before, wanted.values, _wanted(start, before).values))
    said: dict[str, Delta | None] = {}
    matrices: Values = {}
    for name, tensor in before.tensors.items():
        if name in TENSORS:
            if name in wanted.exact and not same(wanted.exact[name], tensor):
                said[name] = None
        elif form_of(tensor).rows > 1:
            matrices[name] = wanted.values[name]
        elif (change := vector_delta(tensor, wanted.values[name])) is not None:
            said[name] = change
    tensors = before.tensors | wanted.exact
    meta = wanted.meta | {"provenance": wanted.meta["provenance"] | {"update": kind.name.lower()}}
    candidates = candidates_of(kind, {name: (before.tensors[name], matrices[name]) for name in matrices})

    def content(some: Mapping[str, Delta | None]) -> bytes:
        return body(before, tensors, meta, {**said, **some})

    chosen = {**said, **within(candidates, lambda some: len(content(some)), budget, str(out))}
    for name, delta in chosen.items():
        if delta is not None:
            tensors[name] = added(before.tensors[name], delta)
    with TemporaryDirectory() as folder:
        made = Path(folder) / "new.edge"
        write_edge(made, tensors, meta)
        header = _write(kind, before, EdgeFile(meta, tensors), chosen, old=old, new=made, out=out)
    left = _distance(tensors, wanted.values) / max(_distance(before.tensors, wanted.values), 1e-30)
    return Made(header, left)


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are stored alike, bit for bit."""
    if form_of(a) != form_of(b):
        return False
    return all(x.tobytes() == y.tobytes() for x, y in zip(_arrays(a), _arrays(b), strict=True))


def _arrays(tensor: Tensor) -> list[NDArray[Any]]:
    if not isinstance(tensor, Codes):
        return [tensor]
    parts = (tensor.codes, tensor.scales, tensor.mask, tensor.codebook)
    return [part for part in parts if part is not None]


def _write(
    kind: Kind,
    before: EdgeFile,
    after: EdgeFile,
    said: Mapping[str, Delta | None],
    *,
    old: Path,
    new: Path,
    out: Path,
) -> Header:
    """Write an update after having applied it."""
    content = body(before, after.tensors, after.meta, said)
    header, file = sealed(kind, len(after.tensors), content, old=old, new=new, said=heard(new)[1])
    if header.old_sha256 == header.new_sha256:
        raise bad(str(out), "new model", str(new), "another model than the old one: nothing changes")
    with TemporaryDirectory() as folder:
        try:
            write_new(parse_update(file, str(out)), before, Path(folder) / "again.edge")
        except EdgeSpeechError as error:
            raise EdgeSpeechError(
                f"{new}: not stored as `edgespeech pack` stores a model ({error})"
            ) from error
    write_atomic(out, file)
    return header


def _wanted(new: Path, old: EdgeFile) -> Wanted:
    """The new model, in the shape of the old one."""
    if new.is_dir():
        values, exact, meta = _trained(new)
    else:
        file = read_edge(new)
        values = {name: values_of(tensor) for name, tensor in file.tensors.items() if name not in TENSORS}
        exact = {name: tensor for name, tensor in file.tensors.items() if name in TENSORS}
        meta = file.meta
    for key in ("format", "config", "pieces"):
        if key not in meta or meta[key] != old.meta.get(key):
            raise bad(str(new), key, meta.get(key), f"{old.meta.get(key)}, as in the old model")
    for name, tensor in old.tensors.items():
        shape = tuple(form_of(tensor)[-2:])
        if name not in TENSORS and (name not in values or values[name].shape != shape):
            found = values[name].shape if name in values else None
            raise bad(f"{new}: tensor {name!r}", "shape", found, f"{shape}, as in the old model")
    for name in exact:
        if name not in old.tensors:
            raise bad(str(new), "tensor", name, "one that the old model has; an exact update brings others")
    layout = old.meta.get("provenance", {}).get("layout", "")
    return Wanted(values, exact, meta | {"provenance": {**meta["provenance"], "layout": layout}})


def _trained(folder: Path) -> tuple[Values, dict[str, Tensor], dict[str, Any]]:
    """A trained model's weights as in a packed file, its language models, and its metadata."""
    from edgespeech.model.checkpoint import load_model
    from edgespeech.packed.pack import fusion_tensors, weights_of
    from edgespeech.packed.runtime import FORMAT

    trained = load_model(folder)
    weights = weights_of(trained.model)
    values = {name: each if each.ndim == 2 else each[None] for name, each in weights.items()}
    exact = {} if trained.fusion is None else fusion_tensors(trained.fusion)
    config, pieces = trained.model.config.to_mapping(), list(trained.tokeniser.pieces)
    return (
        values,
        exact,
        {
            "format": FORMAT,
            "config": config,
            "pieces": pieces,
            "provenance": dict(trained.provenance),
        },
    )


def _moved(old: EdgeFile, new: Values, start: Values) -> Values:
    """The old model's weights plus the change of training."""
    changes = {name: new[name].astype(np.float64) - start[name] for name in new}
    return {
        name: (values_of(old.tensors[name]) + change).astype(np.float32) for name, change in changes.items()
    }


def _distance(tensors: Mapping[str, Tensor], wanted: Values) -> float:
    squares = (
        float(((values_of(tensors[name]).astype(np.float64) - values) ** 2).sum())
        for name, values in wanted.items()
        if name in tensors
    )
    return float(np.sqrt(sum(squares)))
