"""Quantisers: the forward pass sees what ships, regularisers pull as their formulas say, zeros stay zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgespeech.compressors._quantiser import Quantiser
from edgespeech.compressors.acosr import Acosr
from edgespeech.compressors.general_quantizer import GeneralQuantizer
from edgespeech.compressors.mracos import Mracos
from edgespeech.compressors.stack import Stack
from edgespeech.compressors.straight_through import StraightThrough
from edgespeech.packed.codes import Codes, dequantise, lloyd_max, quantise
from edgespeech.training.compressor import Compressor, Moment

UNIFORM: list[type[Quantiser]] = [StraightThrough, Acosr]
CODEBOOK: list[type[Quantiser]] = [Mracos, GeneralQuantizer]


def matrix(rows: int = 5, cols: int = 130, *, seed: int = 0, zeros: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    weights = 0.2 * torch.randn(rows, cols, generator=generator)
    return torch.where(torch.rand(rows, cols, generator=generator) < zeros, 0.0, weights)


def begun(technique: type[Compressor], weights: Tensor, **options: Any) -> Quantiser:
    quantiser = technique.begin(weights, technique.parse(options))
    assert isinstance(quantiser, Quantiser)
    return quantiser


def shipped(quantiser: Quantiser, weights: Tensor) -> Tensor:
    codes = quantiser.finish(weights)
    assert isinstance(codes, Codes)
    return torch.from_numpy(dequantise(codes))


def pulled_from(
    quantiser: Quantiser, weights: Tensor, *, rate: float, step: int = 99, steps: int = 100
) -> Tensor:
    return quantiser.after(weights, Moment(step, steps, rate))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.sampled_from([0, 64]), st.sampled_from([0.0, 0.7, 0.99]), st.integers(0, 2**31))
def test_the_forward_pass_sees_what_ships(bits: int, group: int, zeros: float, seed: int) -> None:
    start = matrix(seed=seed, zeros=zeros)
    options = {"quantiser": "straight_through", "bits": bits, "group": group}
    quantiser = begun(Stack, start, **options)
    later = torch.where(start != 0, start + 0.05 * matrix(seed=seed + 1), 0.0)
    assert torch.equal(quantiser.seen(later), shipped(quantiser, later))
    assert not shipped(quantiser, later)[start == 0].any()


@pytest.mark.parametrize("technique", UNIFORM)
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_uniform_levels_start_as_packing_puts_them(technique: type[Quantiser], bits: int) -> None:
    weights = matrix()
    packed = quantise(weights.numpy(), bits=bits, group=64, clip="mse")
    found = begun(technique, weights, bits=bits, group=64).finish(weights)
    assert isinstance(found, Codes)
    np.testing.assert_array_equal(found.codes, packed.codes)
    np.testing.assert_array_equal(found.scales, packed.scales)


def test_the_percentile_leaves_out_the_largest() -> None:
    weights = torch.arange(1.0, 1002.0).repeat(2, 1)
    weights[1] = -weights[1]
    quantiser = begun(StraightThrough, weights, bits=4, range="p99.9")
    torch.testing.assert_close(quantiser.seen(weights)[:, -1], torch.tensor([1000.0, -1000.0]))
    halved = begun(
        Stack,
        torch.where(weights % 2 == 0, weights, 0.0),
        quantiser="straight_through",
        bits=4,
        range="p99.9",
    )
    assert halved.seen(weights)[0, 999] == pytest.approx(999.0, abs=1)


def test_gradients_pass_straight_through_within_the_range_and_the_mask() -> None:
    start = matrix(zeros=0.3)
    quantiser = begun(Stack, start, quantiser="straight_through", bits=3)
    weights = start.clone()
    weights[0, 0] = 50.0
    (gradient,) = torch.autograd.grad(quantiser.seen(weights.requires_grad_()).sum(), weights)
    assert quantiser.mask is not None
    assert gradient[0, 0] == 0
    assert not gradient[start == 0].any()
    assert (gradient[start != 0] == 1).float().mean() > 0.8


def gradient_of(formula: Tensor, weights: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(formula.sum(), weights)
    return gradient


def test_acosr_steps_along_the_gradient_of_its_formula() -> None:
    start = matrix()
    quantiser = begun(Acosr, start, bits=4, free=0.0, first=1.0, last=1.0)
    scales = torch.from_numpy(quantise(start.numpy(), bits=4, clip="mse").scales)
    weights = (torch.rand(5, 130) * 12 - 6) * scales  # inside the outermost levels, +-7
    weights.requires_grad_()
    loss = torch.cos(torch.pi * (weights / scales - 0.5)).abs() * scales / torch.pi
    expected = weights - 1e-4 * gradient_of(loss, weights)
    distance = (weights / scales - (weights / scales).round()).abs() * scales
    some = distance > 2e-4
    torch.testing.assert_close(
        pulled_from(quantiser, weights, rate=1e-4)[some], expected[some], rtol=0, atol=3e-7
    )


def test_mracos_steps_along_the_gradient_of_its_formula() -> None:
    start = matrix(rows=1)
    quantiser = begun(Mracos, start, bits=3, free=0.0, first=1.0, last=1.0)
    codes = lloyd_max(start.numpy(), bits=3)
    assert codes.codebook is not None
    levels = torch.from_numpy(np.unique(codes.codebook)) * float(codes.scales[0, 0])
    weights = (levels[0] + torch.rand(1, 130) * (levels[-1] - levels[0])).requires_grad_()
    above = torch.searchsorted(levels, weights.detach()).clamp(min=1)
    low, high = levels[above - 1], levels[above]
    loss = torch.cos(torch.pi * (weights - (low + high) / 2) / (high - low)).abs() * (high - low) / torch.pi
    expected = weights - 1e-4 * gradient_of(loss, weights)
    some = torch.minimum(weights - low, high - weights) > 2e-4
    torch.testing.assert_close(
        pulled_from(quantiser, weights, rate=1e-4)[some], expected[some], rtol=0, atol=3e-7
    )


@pytest.mark.parametrize("technique", [Acosr, Mracos])
def test_a_pull_ends_at_the_level_and_comes_from_beyond_the_outermost(technique: type[Quantiser]) -> None:
    start = matrix()
    quantiser = begun(technique, start, bits=4, free=0.0, last=1.0)
    ends = shipped(quantiser, torch.full_like(start, 9.0))
    outside = ends + 0.5
    torch.testing.assert_close(
        pulled_from(quantiser, outside, rate=0.01), outside - 0.01 * 0.99, atol=6e-4, rtol=0
    )
    near = shipped(quantiser, start) + 1e-3
    torch.testing.assert_close(
        pulled_from(quantiser, near, rate=0.5), shipped(quantiser, start), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("technique", [Acosr, Mracos])
def test_the_regulariser_waits_and_then_grows(technique: type[Quantiser]) -> None:
    start = matrix()
    quantiser = begun(technique, start, bits=8 if technique is Acosr else 6, free=0.5, first=0.01, last=1.0)
    outside = shipped(quantiser, torch.full_like(start, 9.0)) + 0.5
    assert torch.equal(pulled_from(quantiser, outside, rate=0.01, step=49), outside)
    moved = [
        float((outside - pulled_from(quantiser, outside, rate=0.01, step=s)).mean()) for s in (50, 75, 100)
    ]
    assert moved == pytest.approx([1e-4, 1e-3, 1e-2], rel=1e-2)


def test_the_hard_compressor_comes_back_every_so_many_steps() -> None:
    start = matrix(zeros=0.4)
    quantiser = begun(Stack, start, quantiser="mracos", bits=4, free=0.1, every=20)
    weights = torch.where(start != 0, start + 0.01, 0.0)
    hard = shipped(quantiser, weights)
    for step in range(100):
        found = quantiser.before(weights, Moment(step, 100, 0.1))
        assert torch.equal(found, hard if step in (10, 30, 50, 70, 90) else weights), step


@pytest.mark.parametrize("technique", CODEBOOK)
@pytest.mark.parametrize("bits", [2, 6])
def test_a_matrix_has_at_most_so_many_levels(technique: type[Quantiser], bits: int) -> None:
    weights = matrix()
    codes = begun(technique, weights, bits=bits).finish(weights)
    assert isinstance(codes, Codes)
    assert codes.codebook is not None
    assert 2**bits / 2 < len(np.unique(codes.int8())) <= 2**bits
    assert (np.diff(codes.codebook.astype(int)) >= 0).all()


def test_lloyd_max_levels_are_those_that_packing_learns() -> None:
    weights = matrix()
    codes = begun(Mracos, weights, bits=4).finish(weights)
    packed = lloyd_max(weights.numpy(), bits=4)
    assert isinstance(codes, Codes)
    np.testing.assert_array_equal(dequantise(codes), dequantise(packed))


def test_soft_levels_harden_to_what_ships() -> None:
    weights = matrix(zeros=0.3)
    quantiser = begun(Stack, weights, quantiser="general_quantizer", bits=4, first=4.0, last=1e4)
    final = shipped(quantiser, weights)
    errors = []
    for step in (0, 50, 100):
        assert torch.equal(quantiser.before(weights, Moment(step, 100, 0.1)), weights)
        errors.append(float((quantiser.seen(weights).detach() - final).abs().mean()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 1e-4
    assert not final[weights == 0].any()


def test_soft_levels_are_the_softmax_over_all_of_them() -> None:
    weights = matrix(rows=3)
    quantiser = begun(GeneralQuantizer, weights, bits=4)
    assert isinstance(quantiser, GeneralQuantizer)
    codes = quantiser.finish(weights)
    assert codes.codebook is not None
    mu, size = quantiser.log_mu.exp(), quantiser.log_size.exp()
    share = (weights / (weights.abs().amax(dim=1, keepdim=True) * size)).clamp(-1, 1)
    place = (share.sign() * torch.log1p(mu * share.abs()) / torch.log1p(mu) + 1) * 7.5
    scores = -4.0 * (place[..., None] - torch.arange(16)).abs()
    levels = torch.from_numpy(codes.codebook.astype(np.float32)) * torch.from_numpy(codes.scales)[..., None]
    full = (scores.softmax(dim=-1) * levels).sum(dim=-1)
    torch.testing.assert_close(quantiser.seen(weights), full, rtol=0, atol=0.005 * float(weights.abs().max()))


def test_soft_levels_learn() -> None:
    weights = matrix()
    quantiser = begun(GeneralQuantizer, weights, bits=3)
    latent = weights.clone().requires_grad_()
    parameters = [latent, *quantiser.parameters()]
    target = 0.8 * weights
    gradients = torch.autograd.grad((quantiser.seen(latent) - target).square().sum(), parameters)
    assert len(gradients) == 3
    assert all(torch.isfinite(g).all() and g.any() for g in gradients)
    with torch.no_grad():
        before = float((quantiser.seen(weights) - target).square().sum())
        for parameter, gradient in zip(parameters[1:], gradients[1:], strict=True):
            parameter -= 0.01 * gradient.sign()
        assert float((quantiser.seen(weights) - target).square().sum()) < before


def test_a_matrix_without_zeros_is_stacked_dense() -> None:
    weights = matrix()
    codes = begun(Stack, weights, quantiser="acosr", bits=4).finish(weights)
    assert isinstance(codes, Codes)
    assert codes.mask is None
    sparse = begun(Stack, matrix(zeros=0.5), quantiser="acosr", bits=4).finish(matrix(zeros=0.5))
    assert isinstance(sparse, Codes)
    assert sparse.mask is not None
    assert sparse.non_zeros < 0.55 * sparse.codes.size


@pytest.mark.parametrize("quantiser", ["acosr", "mracos"])
def test_no_regulariser_moves_a_zero_under_the_mask(quantiser: str) -> None:
    start = matrix(zeros=0.5)
    compressor = begun(Stack, start, quantiser=quantiser, bits=4, free=0.0)
    moved = pulled_from(compressor, start, rate=0.01)
    assert not moved[start == 0].any()
    assert not torch.equal(moved, start)
    (gradient,) = torch.autograd.grad(compressor.seen(start.requires_grad_()).sum(), start)
    assert torch.equal(gradient, (start != 0).float())
