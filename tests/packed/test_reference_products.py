"""The numpy twin of the native products, held against the format's text, floats and hand-worked values."""

from __future__ import annotations

from itertools import product as product_of

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.codes import Codes, dequantise, lloyd_max, quantise
from edgespeech.packed.edge_file import pack_masks, pack_values
from edgespeech.packed.reference import multiply, product, quantise_activations, unpack_row

SHAPES = [(1, 1), (1, 63), (3, 64), (5, 65), (7, 200)]


def matrix(
    shape: tuple[int, int], bits: int, *, group: int = 0, sparsity: float | None = None, learned: bool = False
) -> Codes:
    rng = np.random.default_rng(bits)
    weights = rng.standard_normal(shape, np.float32)
    mask = None if sparsity is None else rng.random(shape) >= sparsity
    if learned:
        return lloyd_max(weights, bits=bits, mask=mask)
    return quantise(weights, bits=bits, group=group, mask=mask)


class TestUnpackRow:
    def test_worked_example(self) -> None:
        # 3-bit codes 5, 2, 7 from the lowest bit up: 101, 010, 111 -> byte 0 = 11 010 101, byte 1 = 0000000 1.
        values = bytes([0b11010101, 0b00000001])
        assert unpack_row(values, 0, None, 3, 3) == ([5, 2, 7], 2)
        assert unpack_row(b"\xff" + values, 1, None, 3, 3) == ([5, 2, 7], 3)

    def test_a_mask_says_which_columns_the_codes_belong_to(self) -> None:
        mask = np.array([1 << 1 | 1 << 63, 1 << 1], np.uint64)  # columns 1, 63 and 65
        codes, end = unpack_row(bytes([0b11010101, 0b00000001]), 0, mask, 66, 3)
        assert end == 2
        assert {column: code for column, code in enumerate(codes) if code is not None} == {1: 5, 63: 2, 65: 7}

    @pytest.mark.parametrize("bits", range(2, 9))
    @pytest.mark.parametrize("sparsity", [None, 0.0, 0.5, 1.0])
    def test_it_reads_what_the_packer_wrote(self, bits: int, sparsity: float | None) -> None:
        for shape in SHAPES:
            codes = matrix(shape, bits, sparsity=sparsity)
            values = pack_values(codes)
            masks = None if codes.mask is None else pack_masks(codes.mask)
            start = 0
            for row in range(codes.rows):
                words = None if masks is None else masks[row]
                found, start = unpack_row(values, start, words, codes.cols, bits)
                stored = np.ones(codes.cols, bool) if codes.mask is None else codes.mask[row]
                assert found == [int(c) if s else None for c, s in zip(codes.codes[row], stored, strict=True)]
            assert start == len(values), shape


class TestActivations:
    def test_worked_example(self) -> None:
        q, scale = quantise_activations(np.array([[127, -63.5, 0.5, 1.5], [0, 0, 0, 0]], np.float32))
        assert q.tolist() == [[127, -64, 0, 2], [0, 0, 0, 0]]  # half to even
        assert scale.tolist() == [1, 0]
        assert q.dtype == np.int8
        assert scale.dtype == np.float32

    @given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
    def test_every_finite_vector(self, values: list[float]) -> None:
        x = np.array([values], np.float32)
        q, scale = quantise_activations(x)
        assert q.min() >= -127
        assert q.max() <= 127
        normal = float(scale[0]) >= np.finfo(np.float32).tiny
        if normal:  # else the scale itself is rounded by up to half of it
            assert np.abs(q.astype(int)).max() == 127
            assert (np.abs(x - q * scale.astype(float)[:, None]) <= scale[0] * 0.5001).all()

    def test_the_least_scale_does_not_wrap_around(self) -> None:
        least = np.float32(2.0**-149)
        q, scale = quantise_activations(np.array([[190, -190, 1]], np.float32) * least)
        assert scale[0] == least  # 190 / 127, rounded to the floats there are
        assert q.tolist() == [[127, -127, 1]]

    def test_vectors_do_not_share_a_scale(self) -> None:
        x = np.random.default_rng(0).standard_normal((3, 9), np.float32)
        x *= np.array([[1], [100], [0.01]], np.float32)
        q, scale = quantise_activations(x)
        for n in range(3):
            alone = quantise_activations(x[n : n + 1])
            assert (q[n] == alone[0][0]).all()
            assert scale[n] == alone[1][0]

    def test_no_vectors(self) -> None:
        q, scale = quantise_activations(np.zeros((0, 5), np.float32))
        assert (q.shape, scale.shape) == ((0, 5), (0,))

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.array([[1, np.nan]], np.float32), "x is nan, expected finite"),
            (np.array([[np.inf]], np.float32), "x is inf, expected finite"),
            (np.zeros(3, np.float32), r"x is 'float32 \(3,\)'"),
            (np.zeros((1, 3)), "x is 'float64"),
        ],
    )
    def test_what_is_refused(self, x: NDArray[np.float32], message: str) -> None:
        with pytest.raises(EdgeSpeechError, match=message):
            quantise_activations(x)


class TestProducts:
    def test_worked_example(self) -> None:
        codes = Codes(
            codes=np.array([[1, 0, 7]], np.uint8),
            mask=np.array([[1, 0, 1]], bool),
            scales=np.array([[0.5]], np.float32),
            bits=3,
            group=0,
            codebook=None,
        )
        q = np.array([[10, 99, -20], [1, 1, 1]], np.int8)
        assert multiply(codes, q).tolist() == [[[-3 * 10 + 3 * -20]], [[0]]]
        x = np.array([[127, 127, -127]], np.float32)
        assert product(codes, x).tolist() == [[0.5 * (-3 * 127 - 3 * 127)]]

    @pytest.mark.parametrize("bits", range(2, 9))
    @pytest.mark.parametrize("sparsity", [None, 0.0, 0.5, 1.0])
    def test_integer_sums_by_group(self, bits: int, sparsity: float | None) -> None:
        for shape, group in product_of(SHAPES, [0, 64, 128]):
            codes = matrix(shape, bits, group=group, sparsity=sparsity)
            q = np.random.default_rng(1).integers(-127, 128, (3, shape[1]), dtype=np.int8)
            terms = q.astype(np.int64)[:, None, :] * codes.int8()
            out = multiply(codes, q)
            assert out.shape == (3, codes.rows, codes.groups), (shape, group)
            assert out.dtype == np.int32
            for g in range(codes.groups):
                width = group or shape[1]
                sums = terms[:, :, g * width : (g + 1) * width].sum(axis=2)
                assert (out[:, :, g] == sums).all(), (shape, group)
            assert (out.sum(axis=2) == terms.sum(axis=2)).all(), (shape, group)

    @pytest.mark.parametrize("learned", [False, True])
    @pytest.mark.parametrize("group", [0, 64])
    def test_floats_are_near_those_of_the_dequantised_matrix(self, learned: bool, group: int) -> None:
        codes = matrix((7, 200), 6, group=0 if learned else group, sparsity=0.5, learned=learned)
        x = np.random.default_rng(1).standard_normal((4, 200), np.float32)
        q, scale = quantise_activations(x)
        wanted = (q * scale.astype(float)[:, None]) @ dequantise(codes).astype(float).T
        y = product(codes, x)
        assert y.dtype == np.float32
        assert np.allclose(y, wanted, rtol=1e-5, atol=1e-5)
        exact = x.astype(float) @ dequantise(codes).astype(float).T
        assert np.square(y - exact).mean() < 1e-3 * np.square(exact).mean()

    def test_groups_are_summed_in_order_in_float32(self) -> None:
        codes = np.zeros((1, 192), np.uint8)
        codes[0, [0, 64, 128]] = 3, 3, 1  # 1, 1, -1
        signs = Codes(
            codes=codes,
            mask=codes > 0,
            scales=np.array([[1, 2.0**24, 2.0**24]], np.float32),
            bits=2,
            group=64,
            codebook=None,
        )
        x = np.full((1, 192), 1, np.float32)
        # 127 (1 + 2^24 - 2^24): in float32 the first sum already loses most of the 127.
        assert multiply(signs, quantise_activations(x)[0]).tolist() == [[[127, 127, -127]]]
        total = (np.float32(127) + np.float32(127 * 2.0**24)) - np.float32(127 * 2.0**24)
        assert total != 127
        assert product(signs, x)[0, 0] == total * (np.float32(1) / np.float32(127))

    @pytest.mark.parametrize("value", [-128, 127])
    def test_extremes_stay_in_int32(self, value: int) -> None:
        codes = Codes(
            codes=np.full((1, 65536), value + 128, np.uint8),
            mask=None,
            scales=np.ones((1, 1), np.float32),
            bits=8,
            group=0,
            codebook=None,
        )
        q = np.full((1, 65536), -127, np.int8)
        assert multiply(codes, q).tolist() == [[[value * -127 * 65536]]]

    @pytest.mark.parametrize(
        "q", [np.zeros((1, 4), np.int8), np.zeros(5, np.int8), np.zeros((1, 5), np.int16)]
    )
    def test_other_activations_are_refused(self, q: NDArray[np.int8]) -> None:
        with pytest.raises(EdgeSpeechError, match=r"q is .*, expected int8 \(N, 5\)"):
            multiply(matrix((2, 5), 4), q)
