"""`auto`: the quickest of the ways of storing the same values, by stated costs."""

from __future__ import annotations

import numpy as np
import pytest

from edgespeech.packed.codes import Codes, dequantise, lloyd_max, quantise
from edgespeech.packed.edge_file import bits_per_weight
from edgespeech.packed.layout_search import Machine, product_seconds, search_layouts, this_machine

SHAPE = (64, 256)
KEPT = 0.4


def matrix(bits: int, *, codebook: bool = False) -> Codes:
    rng = np.random.default_rng(bits)
    weights = rng.standard_normal(SHAPE).astype(np.float32)
    mask = rng.random(SHAPE) < KEPT
    return lloyd_max(weights, bits=bits, mask=mask) if codebook else quantise(weights, bits=bits, mask=mask)


def n_bytes(codes: Codes) -> float:
    return bits_per_weight(codes) * codes.codes.size / 8


def seconds(codes: Codes) -> float:
    """In the cache: the wider, the quicker, and zeros cost time."""
    return (10 - codes.bits) * 1e-6 + (5e-6 if codes.mask is not None else 0)


def chosen(codes: Codes, cache_bytes: float, *, bandwidth: float) -> Codes:
    machine = Machine(cache_bytes=round(cache_bytes), bandwidth=bandwidth, seconds=seconds)
    return search_layouts({"w": codes}, machine)["w"]


def test_in_the_cache_the_quickest_wins() -> None:
    found = chosen(matrix(4), 1e9, bandwidth=1e3)
    assert (found.bits, found.mask) == (8, None)


def test_from_memory_the_fewest_bytes_win() -> None:
    codes = matrix(4)
    found = chosen(codes, 0, bandwidth=1e3)
    assert found.bits == 4
    assert found.mask is not None
    assert n_bytes(found) == n_bytes(codes)


def test_from_a_memory_that_is_quick_enough_products_decide() -> None:
    found = chosen(matrix(4), 0, bandwidth=1e15)
    assert (found.bits, found.mask) == (8, None)


def test_the_quickest_in_the_cache_must_fit_in_it() -> None:
    codes = matrix(4)
    int8 = SHAPE[0] * SHAPE[1] + 4 * SHAPE[0]  # codes and scales
    assert chosen(codes, int8, bandwidth=1e8).bits == 8
    assert chosen(codes, int8 - 1, bandwidth=1e8).bits == 4


def test_what_else_the_model_holds_takes_its_place_in_the_cache() -> None:
    codes = matrix(4)
    machine = Machine(cache_bytes=2 * SHAPE[0] * SHAPE[1], bandwidth=1e8, seconds=seconds)
    assert search_layouts({"w": codes}, machine, fixed_bytes=1000)["w"].bits == 8
    assert search_layouts({"w": codes}, machine, fixed_bytes=20_000)["w"].bits == 4


def test_a_matrix_of_which_rows_are_looked_up_is_small() -> None:
    machine = Machine(cache_bytes=1 << 30, bandwidth=1e9, seconds=seconds)
    found = search_layouts({"w": matrix(4), "e": matrix(4)}, machine, looked_up={"e"})
    assert (found["w"].bits, found["w"].mask) == (8, None)
    assert found["e"].bits == 4
    assert found["e"].mask is not None


@pytest.mark.parametrize("codes", [matrix(2), matrix(5), matrix(8), matrix(3, codebook=True)])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
@pytest.mark.parametrize("cost", [seconds, lambda codes: 1.0 / codes.bits, lambda codes: float(codes.bits)])
def test_no_choice_changes_a_value(codes: Codes, cache_bytes: int, cost: object) -> None:
    machine = Machine(cache_bytes=cache_bytes, bandwidth=1e9, seconds=cost)  # type: ignore[arg-type]
    found = search_layouts({"w": codes}, machine)["w"]
    assert np.array_equal(dequantise(found), dequantise(codes))


def test_a_codebook_may_stay() -> None:
    codes = matrix(3, codebook=True)
    machine = Machine(cache_bytes=0, bandwidth=1e3, seconds=lambda _: 0.0)
    assert search_layouts({"w": codes}, machine)["w"] is codes


def test_this_machine_is_measured() -> None:
    machine = this_machine(123)
    assert machine.cache_bytes == 123
    assert 1e8 < machine.bandwidth < 1e13
    assert machine.seconds is product_seconds
    assert 0 < product_seconds(matrix(4)) < 1
