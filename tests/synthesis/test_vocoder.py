"""The int8 vocoder beside the same network in float, on a small one with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from edgespeech.errors import EdgeSpeechError
from edgespeech.synthesis.integer_graph import cuts_off
from edgespeech.synthesis.vocoder import INPUTS, NAME, PATH, Vocoder, cut

FEATURES, STYLE, WIDTHS, FRAMES = 32, 8, (16, 8), 12
KERNELS = {"noise_res.0": 7, "noise_res.1": 11} | {f"resblocks.{i}": (3, 7, 11)[i % 3] for i in range(6)}


class Network:
    """Constants and node inputs as the graph names them, and what they stand for in float."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(7)
        self.constants: dict[str, NDArray[Any]] = {}
        self.inputs: dict[str, list[str]] = {}
        self.weights: dict[str, Tensor] = {}
        for block, kernel in KERNELS.items():
            width = WIDTHS[(int(block[-1]) // 3) if block.startswith("res") else int(block[-1])]
            for part in (1, 2):
                for place in range(3):
                    self.integers(f"{block}/adain{part}.{place}/fc/Gemm_MatMul_quant", (STYLE, 2 * width))
                    self.floats(f"{NAME}.{block}.adain{part}.{place}.fc.bias", (2 * width,))
                    self.integers(f"{block}/convs{part}.{place}/Conv_quant", (width, width, kernel))
                    self.floats(f"{NAME}.{block}.convs{part}.{place}.bias", (width,))
                    alpha = self._rng.uniform(0.5, 2, (1, width, 1)).astype(np.float32)
                    self.constants[f"{NAME}.{block}.alpha{part}.{place}"] = alpha
        for i, (width, kernel) in enumerate(zip(WIDTHS, (12, 1), strict=True)):
            self.integers(f"noise_convs.{i}/Conv_quant", (width, 22, kernel))
            self.floats(f"{NAME}.noise_convs.{i}.bias", (width,))
            self.floats(f"{NAME}.ups.{i}.bias", (width,))
        self.floats(f"{PATH}/Mul_output_0", (FEATURES, WIDTHS[0], 20))
        self.floats(f"{PATH}/Mul_1_output_0", (*WIDTHS, 12))
        self.floats(f"{PATH}/Mul_2_output_0", (22, WIDTHS[1], 7))
        self.floats(f"{NAME}.conv_post.bias", (22,))
        self.floats(f"{NAME}.stft.istft.stft.inverse_basis", (22, 1, 20))
        self.constants[f"{PATH}/Constant_17_output_0"] = np.hanning(21)[:-1].astype(np.float32)

    def floats(self, name: str, shape: tuple[int, ...]) -> None:
        self.constants[name] = (0.05 * self._rng.standard_normal(shape)).astype(np.float32)

    def integers(self, node: str, shape: tuple[int, ...]) -> None:
        values = self._rng.integers(0, 256, shape, dtype=np.uint8)
        scale = np.float32(0.3 / 128 / np.sqrt(np.prod(shape[1:])))
        self.constants |= {f"{node}_quantized": values, f"{node}_zero": np.array(120, np.uint8)}
        self.constants[f"{node}_scale"] = np.array(scale)
        self.inputs[f"{PATH}/{node}"] = ["x", f"{node}_quantized", "xz", f"{node}_zero"]
        self.weights[node] = torch.from_numpy((values.astype(np.float32) - 120) * scale)

    def constant(self, name: str) -> Tensor:
        return torch.from_numpy(self.constants[name])

    def residual(self, block: str, x: Tensor, style: Tensor) -> Tensor:
        for place, dilation in enumerate((1, 3, 5)):
            y = x
            for part, step in ((1, dilation), (2, 1)):
                norm, conv = f"adain{part}.{place}", f"convs{part}.{place}"
                bias = self.constant(f"{NAME}.{block}.{norm}.fc.bias")
                gain, shift = (style @ self.weights[f"{block}/{norm}/fc/Gemm_MatMul_quant"] + bias).chunk(
                    2, 1
                )
                y = functional.instance_norm(y) * (1 + gain[:, :, None]) + shift[:, :, None]
                alpha = self.constant(f"{NAME}.{block}.alpha{part}.{place}")
                y = y + torch.sin(alpha * y) ** 2 / alpha
                weight = self.weights[f"{block}/{conv}/Conv_quant"]
                bias = self.constant(f"{NAME}.{block}.{conv}.bias")
                y = functional.conv1d(y, weight, bias, padding="same", dilation=step)
            x = x + y
        return x

    def __call__(self, x: Tensor, style: Tensor, source: Tensor) -> Tensor:
        window = self.constant(f"{PATH}/Constant_17_output_0")
        found = torch.stft(source, 20, 5, window=window, return_complex=True)
        harmonics = torch.cat([found.abs(), found.angle()], 1)
        for i, (stride, other) in enumerate(((10, 6), (6, 1))):
            weight, bias = (
                self.weights[f"noise_convs.{i}/Conv_quant"],
                self.constant(f"{NAME}.noise_convs.{i}.bias"),
            )
            extra = functional.conv1d(
                harmonics, weight, bias, stride=other, padding=(weight.shape[2] - other) // 2
            )
            extra = self.residual(f"noise_res.{i}", extra, style)
            weight = self.constant(f"{PATH}/{('Mul_output_0', 'Mul_1_output_0')[i]}")
            bias = self.constant(f"{NAME}.ups.{i}.bias")
            x = functional.conv_transpose1d(
                functional.leaky_relu(x, 0.1), weight, bias, stride=stride, padding=stride // 2
            )
            x = functional.pad(x, (i, 0), mode="reflect") + extra
            x = sum(self.residual(f"resblocks.{3 * i + j}", x, style) for j in range(3)) / 3  # type: ignore[assignment]
        x = functional.leaky_relu(x, 0.01)
        x = functional.conv1d(
            x, self.constant(f"{PATH}/Mul_2_output_0"), self.constant(f"{NAME}.conv_post.bias"), padding=3
        )
        size, angle = torch.exp(x[:, :11]), torch.sin(x[:, 11:])
        both = torch.cat([size * torch.cos(angle), size * torch.sin(angle)], 1)
        basis = self.constant(f"{NAME}.stft.istft.stft.inverse_basis")
        return 4 * functional.conv_transpose1d(both, basis, stride=5)[0, 0, 10:-10]


@pytest.fixture(scope="module")
def network() -> Network:
    return Network()


def test_the_vocoder_gives_nearly_what_the_network_gives_in_float(network: Network) -> None:
    rng = np.random.default_rng(3)
    features = rng.standard_normal((1, FEATURES, FRAMES)).astype(np.float32)
    style = rng.standard_normal((1, STYLE)).astype(np.float32)
    source = rng.standard_normal((1, 300 * FRAMES)).astype(np.float32)
    found = Vocoder(network.constants, network.inputs, compiled=False)(features, style, source)
    expected = network(*(torch.from_numpy(x) for x in (features, style, source))).numpy()
    assert found.shape == expected.shape == (300 * FRAMES,)
    error = np.sqrt(np.mean((found - expected) ** 2) / np.var(expected))
    assert error < (0.06 if cuts_off() else 0.05)
    # The style is heard: another one is further away than the rounding.
    other = network(torch.from_numpy(features), torch.from_numpy(-style), torch.from_numpy(source)).numpy()
    assert np.sqrt(np.mean((other - expected) ** 2) / np.var(expected)) > 2 * error


def test_another_graph_is_refused(network: Network) -> None:
    without = {name: value for name, value in network.constants.items() if "conv_post" not in name}
    with pytest.raises(EdgeSpeechError, match=r"has no .*conv_post\.bias.*expected that of v1\.0"):
        Vocoder(without, network.inputs, compiled=False)


def test_a_graph_is_cut_to_what_the_vocoder_needs() -> None:
    weights = [numpy_helper.from_array(np.ones(2, np.float32), name) for name in ("w", "unused")]
    nodes = [helper.make_node("Mul", ["x", "w"], [name]) for name in INPUTS]
    nodes.append(helper.make_node("Add", [INPUTS[0], "unused"], ["audio"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "audio")]
    graph = helper.make_graph(nodes, "test", values[:1], values[1:], weights)
    model = cut(helper.make_model(graph))
    assert [node.output[0] for node in model.graph.node] == list(INPUTS)
    assert [value.name for value in model.graph.output] == list(INPUTS)
    assert [tensor.name for tensor in model.graph.initializer] == ["w"]
