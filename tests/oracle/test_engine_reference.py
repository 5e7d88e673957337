"""Every native kernel equals its slow, obvious twin, bit for bit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgespeech.engine import native
from edgespeech.errors import EdgeSpeechError
from edgespeech.packed import reference

Pair = tuple[NDArray[np.int8], NDArray[np.int8]]


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    length = draw(st.integers(0, 300))
    vectors = arrays(np.int8, length, elements=st.integers(-128, 127))
    return draw(vectors), draw(vectors)


@given(pairs())
def test_native_equals_reference(pair: Pair) -> None:
    assert native().dot_int8(*pair) == reference.dot_int8(*pair)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, reference.MAX_ELEMENTS])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
def test_lengths_around_vector_widths_and_sparsities(length: int, sparsity: float) -> None:
    rng = np.random.default_rng(length)
    a, b = rng.integers(-128, 128, (2, length), dtype=np.int8)
    a[rng.random(length) < sparsity] = 0
    assert native().dot_int8(a, b) == reference.dot_int8(a, b)


@pytest.mark.parametrize(("left", "right"), [(-128, -128), (-128, 127), (127, 127)])
def test_extreme_values_do_not_overflow(left: int, right: int) -> None:
    a = np.full(reference.MAX_ELEMENTS, left, np.int8)
    b = np.full(reference.MAX_ELEMENTS, right, np.int8)
    assert native().dot_int8(a, b) == left * right * reference.MAX_ELEMENTS == reference.dot_int8(a, b)


@pytest.mark.parametrize(
    ("n", "m"), [(3, 4), (0, 1), (reference.MAX_ELEMENTS + 1, reference.MAX_ELEMENTS + 1)]
)
def test_both_refuse_lengths_alike(n: int, m: int) -> None:
    a, b = np.zeros(n, np.int8), np.zeros(m, np.int8)
    with pytest.raises(ValueError, match="dot_int8: ") as fast:
        native().dot_int8(a, b)
    with pytest.raises(ValueError, match="dot_int8: ") as slow:
        reference.dot_int8(a, b)
    assert str(fast.value) == str(slow.value)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(4, np.int16),
        np.zeros(4, np.float32),
        np.zeros((2, 2), np.int8),
        [0, 0, 0, 0],
        None,
    ],
    ids=["int16", "float32", "matrix", "list", "none"],
)
def test_the_native_kernel_refuses_other_types(wrong: object) -> None:
    with pytest.raises(TypeError):
        native().dot_int8(wrong, np.zeros(4, np.int8))


def test_a_view_with_gaps_is_refused() -> None:
    a = np.arange(16, dtype=np.int8)[::2]
    with pytest.raises(TypeError):
        native().dot_int8(a, a)
    dense = np.ascontiguousarray(a)
    assert native().dot_int8(dense, dense) == reference.dot_int8(a, a)


def test_without_the_binary_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import edgespeech.engine

    monkeypatch.delattr(edgespeech.engine, "_native", raising=False)
    monkeypatch.setitem(sys.modules, "edgespeech.engine._native", None)
    with pytest.raises(EdgeSpeechError, match="make env"):
        native()


def test_a_binary_of_older_sources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import edgespeech.engine

    monkeypatch.setattr(edgespeech.engine, "_NEWEST", "Unheard")
    with pytest.raises(EdgeSpeechError, match="older than this checkout: run `make env`"):
        native()


def test_importing_the_engine_is_light() -> None:
    code = "import sys, edgespeech.engine; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
