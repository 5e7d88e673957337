"""The torch model of a packed one: its products are the engine's, its layers those of the model it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.transducer import Transducer
from edgespeech.packed.arithmetic import Norm, Product, exp, sigmoid, tanh
from edgespeech.packed.codes import quantise
from edgespeech.packed.edge_file import Tensor
from edgespeech.packed.pack import Encoding, Layout, pack_tensors
from edgespeech.packed.reference import product
from edgespeech.packed.simulate import simulate
from edgespeech.search.greedy import GreedyDecoder
from helpers_edge import random_codes
from helpers_packed import features, prune, tiny


def simulated(model: Transducer, **encoding: Any) -> Transducer:
    return simulate(model.config, pack_tensors(model, Layout(matrices=Encoding(**encoding))))


def transcribe(model: Transducer, frames: int = 80) -> torch.Tensor:
    encoded, _, _ = model.transcribe(torch.from_numpy(features(frames))[None], torch.tensor([frames]))
    return encoded[0]


def sqnr_db(right: torch.Tensor, found: torch.Tensor) -> float:
    return float(10 * torch.log10((right**2).sum() / ((right - found) ** 2).sum()))


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize(("cols", "group"), [(1, 0), (63, 0), (128, 64), (130, 64), (300, 128)])
@pytest.mark.parametrize("sparsity", [None, 0.5, 1.0])
def test_a_product_of_codes_is_the_engines(bits: int, cols: int, group: int, sparsity: float | None) -> None:
    rng = np.random.default_rng(bits * cols)
    codes = random_codes(rng, (7, cols), bits, group, sparsity=sparsity, codebook=bits == 5)
    x = rng.standard_normal((5, cols)).astype(np.float32)
    x[1] = 0
    x[2] *= 1e-44  # below the least scale
    x[3, 0] = 1e30
    assert np.array_equal(Product(codes)(torch.from_numpy(x)).numpy(), product(codes, x))


def test_sums_beyond_a_floats_integers_are_exact() -> None:
    codes = quantise(np.ones((1, 4097), np.float32), bits=8)
    x = np.ones((1, 4097), np.float32)
    x[0, 0] = -0.37
    assert np.array_equal(Product(codes)(torch.from_numpy(x)).numpy(), product(codes, x))


def test_a_bias_is_added_after_the_product() -> None:
    codes = quantise(np.eye(3, dtype=np.float32), bits=8)
    bias = torch.tensor([[1.0, -2.0, 0.0]])
    x = torch.tensor([[[127.0, 64.0, -3.0]]])
    assert Product(codes, bias)(x).tolist() == [[[128.0, 62.0, -3.0]]]


def test_gates_are_what_they_are_called() -> None:
    x = torch.cat(
        [torch.linspace(-20, 20, 4001), torch.tensor([-1e30, -200.0, -61.0, 0.0, 61.0, 200.0, 1e30])]
    )
    torch.testing.assert_close(sigmoid(x), torch.sigmoid(x), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(tanh(x), torch.tanh(x), rtol=1e-6, atol=2e-7)
    torch.testing.assert_close(exp(x.clamp(-60, 60)), torch.exp(x.clamp(-60, 60)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("width", [1, 15, 16, 17, 70])
def test_a_norm_is_torchs_up_to_rounding(width: int) -> None:
    torch.manual_seed(width)
    x, weight, bias = torch.randn(3, 2, width), torch.randn(1, width), torch.randn(1, width)
    wanted = torch.nn.functional.layer_norm(x, (width,), weight[0], bias[0])
    torch.testing.assert_close(Norm(weight, bias)(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_without_codes_it_is_the_model(predictor: Any) -> None:
    model = tiny(predictor).model
    twin = simulated(model, bits=32)
    torch.testing.assert_close(transcribe(twin), transcribe(model), rtol=1e-4, atol=1e-4)
    labels = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    torch.testing.assert_close(twin.predict(labels), model.predict(labels), rtol=1e-4, atol=1e-4)
    a, b = torch.randn(2, 66), torch.randn(2, 66)
    torch.testing.assert_close(twin.join(a, b), model.join(a, b), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
@pytest.mark.parametrize(("bits", "floor_db"), [(8, 25.0), (16, 50.0)])
def test_codes_come_near_to_the_model(predictor: Any, bits: int, floor_db: float) -> None:
    model = tiny(predictor).model
    twin = simulated(model, bits=bits)
    assert sqnr_db(transcribe(model), transcribe(twin)) > floor_db
    labels = torch.tensor([[3, 1, 4, 1, 5]])
    assert sqnr_db(model.predict(labels), twin.predict(labels)) > floor_db


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_label_by_label_is_all_labels_at_once(predictor: Any) -> None:
    twin = simulated(tiny(predictor).model, bits=4)
    labels = torch.tensor([[3, 1, 4], [9, 2, 6]])
    predicted, state = twin.start(2)
    steps = [predicted]
    for label in labels.T:
        predicted, state = twin.advance(label, state)
        steps.append(predicted)
    assert torch.equal(torch.stack(steps, dim=1), twin.predict(labels))


def test_the_state_goes_on_from_piece_to_piece() -> None:
    twin = simulated(tiny().model, bits=8)
    x = torch.from_numpy(features(48))[None]
    whole, _, _ = twin.transcribe(x, torch.tensor([48]))
    first, _, state = twin.transcribe(x[:, :16], torch.tensor([16]))
    second, _, _ = twin.transcribe(x[:, 16:], torch.tensor([32]), state)
    assert torch.equal(torch.cat([first, second], dim=1), whole)


def test_it_says_something() -> None:
    decoder = GreedyDecoder(simulated(tiny().model, bits=8))
    decoder.accept(transcribe(tiny().model))
    assert len(set(decoder.best.labels)) > 3


def test_zeros_stay_zeros() -> None:
    model = tiny().model
    prune(model, 0.5)
    dense, sparse = (transcribe(simulated(model, bits=8, store=store)) for store in ("dense", "sparse"))
    assert torch.equal(dense, sparse)


def test_tensors_of_another_model_are_refused() -> None:
    model = tiny().model
    tensors: dict[str, Tensor] = pack_tensors(model, Layout())
    joiner = tensors.pop("joiner.weight")
    with pytest.raises(EdgeSpeechError, match=r"tensor joiner.weight is None, expected \(40, 66\)"):
        simulate(model.config, tensors)
    with pytest.raises(EdgeSpeechError, match=r"tensor ctc.weight is \(40, 66\), expected None"):
        simulate(model.config, {**tensors, "joiner.weight": joiner, "ctc.weight": joiner})
    with pytest.raises(EdgeSpeechError, match=r"tensor joiner.weight is \(1, 40\), expected \(40, 66\)"):
        simulate(model.config, {**tensors, "joiner.weight": tensors["joiner.bias"]})
