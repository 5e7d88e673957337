"""Lossless coding of a packed tensor, predicted from the old model's tensor of the same name where shapes agree.

The prediction is the old weight at the nearest of the new levels, so that it also helps where bits, scales or zeros
changed; what is coded is the difference of symbols, modulo their number. Floats are compared as whole numbers in the
order of their values. All of it is elementwise arithmetic in IEEE single precision, rounded to nearest even: every
machine predicts the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.packed.codes import MAX_COLS, MAX_ROWS, Codes, dequantise, encode, group_count
from edgespeech.packed.edge_file import Tensor
from edgespeech.updates.entropy import WHERE, Reader, Symbols, Writer, unzigzag, zigzag

_FLOATS = (np.dtype("<f4"), np.dtype("<f2"))
_CODES = 2
Floats = NDArray[np.floating[Any]]
_MAX_GROUP = 1 << 16


class Form(NamedTuple):
    """How a tensor is stored, and its shape: what `edgespeech.packed.edge_file` has in its table."""

    encoding: int
    bits: int
    group: int
    sparse: int
    codebook: int
    rows: int
    cols: int

    @property
    def symbols(self) -> int:
        """Different symbols of a matrix of codes; 0 is "not stored" in a sparse one."""
        return (1 << self.bits) + self.sparse


def form_of(tensor: Tensor) -> Form:
    """The form of a tensor."""
    if isinstance(tensor, Codes):
        sparse, codebook = int(tensor.mask is not None), int(tensor.codebook is not None)
        return Form(_CODES, tensor.bits, tensor.group, sparse, codebook, tensor.rows, tensor.cols)
    rows, cols = tensor.shape
    return Form(_FLOATS.index(tensor.dtype.newbyteorder("<")), 0, 0, 0, 0, rows, cols)


def values_of(tensor: Tensor) -> NDArray[np.float32]:
    """The decoded weights, with shape `(rows, cols)`."""
    return dequantise(tensor) if isinstance(tensor, Codes) else tensor.astype(np.float32)


def put_tensor(out: Writer, new: Tensor, old: Tensor | None) -> None:
    """Write a tensor, predicted from another one; None: from nothing."""
    form = form_of(new)
    for value in form:
        out.number(value)
    if not isinstance(new, Codes):
        _put_words(out, new, _like(old, form))
        return
    if new.codebook is not None:
        out.raw(new.codebook.tobytes())
    _put_words(out, new.scales, _scales(old, form))
    wanted, expected = symbols_of(new), predicted(form, new.scales, new.codebook, old)
    differences = (wanted - expected) % form.symbols
    for chosen in _contexts(form, expected):
        out.symbols(differences[chosen], form.symbols)


def get_tensor(reader: Reader, old: Tensor | None, most: int) -> Tensor:
    """Read a tensor.

    Args:
        reader: at its beginning.
        old: what it was predicted from.
        most: weights that it may have.

    Raises:
        EdgeSpeechError: a value out of range, or as `Reader`.
    """
    form = _get_form(reader, most)
    if form.encoding != _CODES:
        words = _get_words(reader, (form.rows, form.cols), _FLOATS[form.encoding], _like(old, form))
        return words.astype(np.float16) if form.encoding else words.astype(np.float32)
    codebook = np.frombuffer(reader.raw(1 << form.bits), np.int8) if form.codebook else None
    shape = (form.rows, group_count(form.cols, form.group))
    scales = _get_words(reader, shape, _FLOATS[0], _scales(old, form)).astype(np.float32)
    _check_scales(scales)
    expected = predicted(form, scales, codebook, old)
    found = np.zeros_like(expected)
    for chosen in _contexts(form, expected):
        found[chosen] = reader.symbols(int(chosen.sum()), form.symbols)
    return codes_of((found + expected) % form.symbols, form, scales, codebook)


def symbols_of(codes: Codes) -> Symbols:
    """Codes as symbols, with shape `(rows, cols)`: of a sparse matrix 0 where none is stored, else one more."""
    wide = codes.codes.astype(np.int64)
    return wide if codes.mask is None else np.asarray(np.where(codes.mask, wide + 1, 0), np.int64)


def codes_of(
    symbols: Symbols, form: Form, scales: NDArray[np.float32], codebook: NDArray[np.int8] | None
) -> Codes:
    """The reverse of `symbols_of`."""
    mask = symbols > 0 if form.sparse else None
    values = np.maximum(symbols - 1, 0) if form.sparse else symbols
    return Codes(
        codes=values.astype(np.uint8),
        mask=mask,
        scales=scales,
        bits=form.bits,
        group=form.group,
        codebook=codebook,
    )


def predicted(
    form: Form, scales: NDArray[np.float32], codebook: NDArray[np.int8] | None, old: Tensor | None
) -> Symbols:
    """The symbols that the old tensor lets expect; zeros where it says nothing."""
    nothing = np.zeros((form.rows, form.cols), np.int64)
    its = _form(old)
    if old is None or its is None or its[-2:] != form[-2:]:
        return nothing
    if codebook is not None:  # levels in any order: only the same codes help
        return symbols_of(old) if isinstance(old, Codes) and its == form else nothing
    values = values_of(old)
    if not np.isfinite(values).all():
        return nothing
    stored = values != 0 if form.sparse else None
    with np.errstate(over="ignore"):
        return symbols_of(encode(values, scales=scales, bits=form.bits, group=form.group, mask=stored))


def _form(tensor: Tensor | None) -> Form | None:
    return None if tensor is None else form_of(tensor)


def _like(old: Tensor | None, form: Form) -> Floats | None:
    """The old tensor, if it is one of floats of the same form."""
    return old if not isinstance(old, Codes) and _form(old) == form else None


def _contexts(form: Form, expected: Symbols) -> list[NDArray[np.bool_]]:
    """Places with a table of their own: a weight that was not stored rarely becomes one."""
    return [expected > 0, expected == 0] if form.sparse else [np.ones(expected.shape, np.bool_)]


def _scales(old: Tensor | None, form: Form) -> NDArray[np.float32] | None:
    """The old scales, where there are as many."""
    if isinstance(old, Codes) and old.scales.shape == (form.rows, group_count(form.cols, form.group)):
        return old.scales
    return None


def _put_words(out: Writer, new: Floats, old: Floats | None) -> None:
    differences = _ordered(new) - (0 if old is None else _ordered(old))
    bits = 8 * new.itemsize
    folded = zigzag((differences + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)).reshape(-1)
    for place in range(new.itemsize):
        out.symbols(folded >> 8 * place & 255, 256)


def _get_words(reader: Reader, shape: tuple[int, int], dtype: np.dtype[Any], old: Floats | None) -> Floats:
    count = shape[0] * shape[1]
    folded = np.zeros(count, np.int64)
    for place in range(dtype.itemsize):
        folded |= reader.symbols(count, 256) << 8 * place
    ordered = unzigzag(folded).reshape(shape) + (0 if old is None else _ordered(old))
    bits = 8 * dtype.itemsize
    ordered %= 1 << bits
    half = 1 << bits - 1
    words = np.where(ordered >= half, ordered - half, (1 << bits) - 1 - ordered)
    found: Floats = words.astype(f"<u{dtype.itemsize}").view(dtype)
    return found


def _ordered(values: Floats) -> Symbols:
    """Floats as whole numbers of at least 0 in the order of the values."""
    bits = 8 * values.itemsize
    words = np.ascontiguousarray(values).view(f"u{values.itemsize}").astype(np.int64)
    half = 1 << bits - 1
    return np.asarray(np.where(words < half, words + half, (1 << bits) - 1 - words), np.int64)


def _get_form(reader: Reader, most: int) -> Form:
    limits = (_CODES, 8, _MAX_GROUP, 1, 1, MAX_ROWS, MAX_COLS)
    form = Form(*(reader.number(limit, name) for limit, name in zip(limits, Form._fields, strict=True)))
    if form.rows < 1 or form.cols < 1 or form.rows * form.cols > most:
        raise bad(WHERE, "shape of a tensor", (form.rows, form.cols), f"1 to {most} weights")
    codes = form.encoding == _CODES
    if codes != (form.bits >= 2) or (not codes and any(form[1:5])):
        raise bad(WHERE, "bits", form.bits, "2 to 8 of codes, 0 of floats, which have no group or zeros")
    if form.codebook and form.bits > 6:
        raise bad(WHERE, "bits", form.bits, "at most 6 with a codebook")
    return form


def _check_scales(scales: NDArray[np.float32]) -> None:
    if not (np.isfinite(scales) & (scales >= 0)).all():
        raise EdgeSpeechError(f"{WHERE}: a scale that is not finite or is negative")
