from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.codes import Codes, dequantise, lloyd_max, quantise

SHAPES = [(1, 1), (1, 63), (3, 64), (5, 65), (7, 200)]
Floats = NDArray[np.float32]


def normal(shape: tuple[int, int], seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def mean_square(weights: Floats, codes: Codes) -> float:
    return float(np.square(weights - dequantise(codes)).mean())


def valid(**changes: Any) -> Codes:
    """Two rows of three 3-bit codes, with what is to be changed."""
    fields: dict[str, Any] = {
        "codes": np.array([[1, 2, 0], [7, 0, 3]], np.uint8),
        "mask": np.array([[1, 1, 0], [1, 0, 1]], bool),
        "scales": np.array([[0.5], [2.0]], np.float32),
        "bits": 3,
        "group": 0,
        "codebook": None,
    }
    return Codes(**(fields | changes))


class TestCodes:
    def test_worked_example(self) -> None:
        codes = valid()
        assert (codes.rows, codes.cols, codes.groups, codes.non_zeros) == (2, 3, 1, 4)
        assert codes.int8().tolist() == [[-3, -2, 0], [3, 0, -1]]
        assert codes.int8().dtype == np.int8
        assert dequantise(codes).tolist() == [[-1.5, -1.0, 0.0], [6.0, 0.0, -2.0]]
        assert dequantise(codes).dtype == np.float32

    def test_a_code_that_is_not_stored_is_zero_whatever_code_0_stands_for(self) -> None:
        codebook = np.array([-128, -4, -1, 0, 1, 4, 9, 127], np.int8)
        assert valid(codebook=codebook).int8().tolist() == [[-4, -1, 0], [127, 0, 0]]
        assert valid(mask=None).int8().tolist() == [[-3, -2, -4], [3, -4, -1]]

    def test_all_eight_bit_codes(self) -> None:
        every = np.arange(256, dtype=np.uint8)[None]
        codes = Codes(codes=every, mask=None, scales=np.ones((1, 4), "f"), bits=8, group=64, codebook=None)
        assert codes.int8()[0].tolist() == list(range(-128, 128))

    @pytest.mark.parametrize(
        ("group", "groups"), [(0, 1), (64, 4), (128, 2), (192, 2), (256, 1), ((1 << 32) - 64, 1)]
    )
    def test_each_group_has_its_scale(self, group: int, groups: int) -> None:
        scales = np.arange(1, groups + 1, dtype=np.float32)[None]
        ones = np.full((1, 200), 5, np.uint8)
        codes = Codes(codes=ones, mask=None, scales=scales, bits=3, group=group, codebook=None)
        assert dequantise(codes)[0].tolist() == [1 + (c // group if group else 0) for c in range(200)]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"bits": 1}, "bits is 1, expected 2 to 8"),
            ({"bits": 9}, "bits is 9, expected 2 to 8"),
            ({"bits": 2}, "codes is 7, expected at most 3 at 2 bits"),
            ({"group": 32}, "group is 32, expected 0 or a multiple of 64"),
            ({"group": -64}, "group is -64, expected 0 or"),
            ({"group": 1 << 32}, "group is 4294967296, expected 0 or .* below"),
            ({"codes": np.zeros((2, 3), np.int8)}, r"codes is dtype\('int8'\), expected an array of uint8"),
            ({"codes": [[0]]}, "codes is <class 'list'>, expected an array of uint8"),
            ({"codes": np.zeros(3, np.uint8)}, r"shape is \(3,\), expected \(rows, cols\)"),
            ({"codes": np.zeros((0, 3), np.uint8)}, r"shape is \(0, 3\), expected"),
            ({"codes": np.zeros((1, 65537), np.uint8)}, r"shape is \(1, 65537\), expected"),
            ({"mask": np.ones((2, 4), bool)}, r"mask' shape is \(2, 4\), expected \(2, 3\)"),
            ({"mask": np.ones((2, 3), np.uint8)}, "expected an array of bool"),
            ({"mask": np.zeros((2, 3), bool)}, "codes is 7, expected 0 where no code is stored"),
            ({"scales": np.ones((2, 2), np.float32)}, r"scales' shape is \(2, 2\), expected \(2, 1\)"),
            ({"scales": np.ones((2, 1))}, "expected an array of float32"),
            (
                {"scales": np.array([[1], [np.nan]], np.float32)},
                "scales is nan, expected values that are finite",
            ),
            (
                {"scales": np.array([[1], [np.inf]], np.float32)},
                "scales is inf, expected values that are finite",
            ),
            ({"scales": np.array([[1], [-1]], np.float32)}, r"scales is -1\.0, expected .* not negative"),
            ({"codebook": np.zeros(4, np.int8)}, r"codebook' shape is \(4,\), expected \(8,\)"),
            ({"codebook": np.zeros(8, np.uint8)}, "codebook is .*, expected an array of int8"),
            (
                {"bits": 7, "codebook": np.zeros(128, np.int8)},
                "bits is 7, expected at most 6 with a codebook",
            ),
        ],
    )
    def test_what_cannot_be_is_refused(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(EdgeSpeechError, match=message):
            valid(**changes)


class TestQuantise:
    def test_worked_example(self) -> None:
        weights = np.array([[3.5, -7.0, 2.5, 1.5, 0.4]], np.float32)
        codes = quantise(weights, bits=4)
        assert codes.scales.tolist() == [[1.0]]
        assert codes.int8().tolist() == [[4, -7, 2, 2, 0]]  # half to even
        assert (codes.codes == codes.int8() + 8).all()

    @pytest.mark.parametrize("bits", range(2, 9))
    @pytest.mark.parametrize("group", [0, 64, 128])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_error_is_at_most_half_a_step(self, bits: int, group: int, shape: tuple[int, int]) -> None:
        weights = normal(shape)
        codes = quantise(weights, bits=bits, group=group)
        width = group or shape[1]
        for first in range(0, shape[1], width):
            part = weights[:, first : first + width]
            scale = np.abs(part).max(axis=1) / (2 ** (bits - 1) - 1)
            assert np.allclose(codes.scales[:, first // width], scale, rtol=1e-6)
            error = np.abs(part - dequantise(codes)[:, first : first + width]).max(axis=1)
            assert (error <= 0.5 * scale * (1 + 1e-5)).all()
        assert np.abs(codes.int8()).max() == 2 ** (bits - 1) - 1

    def test_a_mask_changes_the_scale_and_drops_what_rounds_to_zero(self) -> None:
        weights = np.array([[9.0, 7.0, 0.4, -0.6], [5.0, 5.0, 5.0, 5.0]], np.float32)
        mask = np.array([[0, 1, 1, 1], [0, 0, 0, 0]], bool)
        codes = quantise(weights, bits=4, mask=mask)
        assert codes.mask is not None
        assert codes.mask.tolist() == [[False, True, False, True], [False] * 4]
        assert codes.int8().tolist() == [[0, 7, 0, -1], [0] * 4]
        assert codes.scales.tolist() == [[1.0], [0.0]]
        assert codes.codes[~codes.mask].max() == 0
        assert mask.tolist() == [[False, True, True, True], [False] * 4]  # the caller's is not touched

    @pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("group", [0, 64])
    def test_a_mask_equals_zeros_in_a_dense_matrix(self, sparsity: float, group: int) -> None:
        weights = normal((7, 200))
        mask = np.random.default_rng(1).random(weights.shape) >= sparsity
        sparse = quantise(weights, bits=5, mask=mask, group=group)
        dense = quantise(np.where(mask, weights, np.float32(0)), bits=5, group=group)
        assert (dequantise(sparse) == dequantise(dense)).all()
        assert sparse.non_zeros == np.count_nonzero(dense.int8())

    @pytest.mark.parametrize("bits", range(2, 9))
    def test_the_least_error_is_no_worse_for_any_group(self, bits: int) -> None:
        weights = normal((7, 200))
        kwargs: dict[str, Any] = {"bits": bits, "group": 64}
        full, best = quantise(weights, **kwargs), quantise(weights, **kwargs, clip="mse")
        for first in range(0, 200, 64):
            part = np.s_[:, first : first + 64]
            error = [np.square(weights - dequantise(c), dtype=float)[part].sum(axis=1) for c in (full, best)]
            assert (error[1] <= error[0] * (1 + 1e-6)).all()
        assert (best.scales <= full.scales).all()

    def test_the_least_error_clips_few_bits_hard_and_many_hardly(self) -> None:
        weights = normal((4, 4096))
        gain = {b: mean_square(weights, quantise(weights, bits=b, clip="mse")) for b in (2, 8)}
        # A symmetric ternary quantiser of a Gaussian: 0.1902 at best (Max 1960, table I, N = 3).
        assert gain[2] == pytest.approx(0.1902, rel=0.02)
        assert gain[8] == pytest.approx(mean_square(weights, quantise(weights, bits=8)), rel=0.05)

    @pytest.mark.parametrize("clip", ["max", "mse"])
    @pytest.mark.parametrize("bits", [2, 8])
    @pytest.mark.parametrize("size", [1e-45, 3e-44, 1e-38, 1.0, 1e30])
    def test_tiny_and_large_weights(self, clip: Any, bits: int, size: float) -> None:
        weights = np.array([[size, -size, 0, size / 2], [0, 0, 0, 0]], np.float32)
        codes = quantise(weights, bits=bits, clip=clip)
        assert np.abs(codes.int8().astype(int)).max() <= 2 ** (bits - 1) - 1
        assert (codes.int8()[1] == 0).all()
        if clip == "max" and size >= 1e-38:
            assert np.allclose(dequantise(codes)[:, :3], weights[:, :3], rtol=1e-5, atol=0)

    @given(st.integers(2, 8), st.integers(0, 2**32 - 1))
    def test_quantising_again_changes_nothing(self, bits: int, seed: int) -> None:
        once = quantise(normal((3, 70), seed), bits=bits, group=64)
        again = quantise(dequantise(once), bits=bits, group=64)
        assert (again.codes == once.codes).all()
        assert np.allclose(again.scales, once.scales, rtol=1e-6)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"bits": 1}, "bits is 1"),
            ({"group": 100}, "group is 100"),
            ({"clip": "best"}, "clip is 'best', expected max or mse"),
            ({"mask": np.ones((2, 2), bool)}, r"mask' shape is \(2, 2\)"),
            ({"weights": np.ones((2, 3))}, "weights is .*float64.*, expected an array of float32"),
            ({"weights": np.ones(3, np.float32)}, r"shape is \(3,\)"),
            (
                {"weights": np.array([[1, np.nan]], np.float32)},
                "weights is nan, expected values that are finite",
            ),
            (
                {"weights": np.array([[1, -np.inf]], np.float32)},
                "weights is -inf, expected values that are finite",
            ),
        ],
    )
    def test_what_cannot_be_quantised_is_refused(self, changes: dict[str, Any], message: str) -> None:
        given_: dict[str, Any] = {"weights": np.ones((2, 3), np.float32), "bits": 4} | changes
        with pytest.raises(EdgeSpeechError, match=message):
            quantise(given_.pop("weights"), **given_)


class TestLloydMax:
    @pytest.mark.parametrize(("bits", "least"), [(2, 0.1175), (3, 0.03454), (4, 0.009497), (5, 0.002499)])
    def test_known_values_of_a_gaussian(self, bits: int, least: float) -> None:
        """Max, Quantizing for minimum distortion (1960), table I: N = 4, 8, 16 and 32 levels."""
        weights = normal((1, 1 << 16))
        assert mean_square(weights, lloyd_max(weights, bits=bits)) == pytest.approx(least, rel=0.06)

    @pytest.mark.parametrize("bits", range(2, 7))
    def test_a_codebook_beats_uniform_codes(self, bits: int) -> None:
        weights = normal((16, 512))
        learned, uniform = lloyd_max(weights, bits=bits), quantise(weights, bits=bits, clip="mse")
        assert mean_square(weights, learned) < mean_square(weights, uniform)

    def test_iterations_help(self) -> None:
        weights = normal((16, 512))
        errors = [mean_square(weights, lloyd_max(weights, bits=3, iterations=n)) for n in (0, 1, 5, 100)]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.8 * errors[0]

    def test_each_weight_has_the_nearest_level(self) -> None:
        weights = normal((5, 65))
        codes = lloyd_max(weights, bits=4)
        assert codes.codebook is not None
        levels = codes.scales[:, :, None] * codes.codebook.astype(np.float32)
        nearest = np.abs(weights[:, :, None] - levels).min(axis=2)
        assert np.allclose(np.abs(weights - dequantise(codes)), nearest, atol=1e-6)

    def test_few_values_are_exact(self) -> None:
        weights = np.array([[127, -127, 40, 40], [254, 80, -254, 254]], np.float32)
        codes = lloyd_max(weights, bits=2)
        assert (dequantise(codes) == weights).all()
        assert (dequantise(lloyd_max(weights, bits=6)) == weights).all()  # more levels than values

    @pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
    def test_only_unmasked_weights_are_learned_and_stored(self, sparsity: float) -> None:
        weights = normal((7, 200))
        mask = np.random.default_rng(1).random(weights.shape) >= sparsity
        codes = lloyd_max(weights, bits=4, mask=mask)
        assert codes.mask is not None
        assert not (codes.mask & ~mask).any()
        assert (codes.int8()[codes.mask] != 0).all()
        assert (dequantise(codes)[~mask] == 0).all()
        if sparsity < 1:
            assert np.square(weights - dequantise(codes))[mask].mean() < 0.02

    def test_the_same_seed_gives_the_same_codes_and_another_another_start(self) -> None:
        weights = normal((3, 64))
        first, same, other = (lloyd_max(weights, bits=3, iterations=0, seed=seed) for seed in (0, 0, 1))
        assert first.codebook is not None
        assert (first.codes == same.codes).all()
        assert (first.codebook == same.codebook).all()
        assert (first.codebook != other.codebook).any()

    def test_rows_of_zeros(self) -> None:
        weights = np.zeros((2, 5), np.float32)
        assert (dequantise(lloyd_max(weights, bits=2)) == weights).all()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"bits": 7}, "bits is 7, expected at most 6"),
            ({"bits": 1}, "bits is 1"),
            ({"iterations": -1}, "iterations is -1"),
        ],
    )
    def test_bad_options(self, changes: dict[str, int], message: str) -> None:
        options: dict[str, Any] = {"bits": 4} | changes
        with pytest.raises(EdgeSpeechError, match=message):
            lloyd_max(normal((2, 3)), **options)
