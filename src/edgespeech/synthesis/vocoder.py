"""The vocoder of Kokoro-82M in int8 convolutions of oneDNN: the part of the model that takes most of the time.

onnxruntime computes the convolutions as products of copied columns, and every operation between them as a separate pass
through memory. Here they are int8 convolutions with the channels last, and the operations between two convolutions are
one compiled loop. The weights are the model's own, rounded to a grid of each output channel; activations are quantised
over their range at run time, as in the ONNX graph. The output is closer to that of the same weights in float than the
graph's is (`tests/synthesis/test_vocoder.py` compares a small one).

Source: the generator of iSTFTNet (T. Kaneko et al., ICASSP 2022) with the residual blocks of StyleTTS 2 (Y. A. Li et
al., NeurIPS 2023): instance normalisation whose gain and shift come from the style, and the Snake activation (L. Ziyin
et al., NeurIPS 2020).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edgespeech.contracts import Samples
from edgespeech.errors import EdgeSpeechError

VERSION = "int8-onednn-1"
"""Part of the cache key of synthesised speech; to be changed when the samples change."""
PATH = "/decoder/decoder/generator"
"""Prefix of the vocoder's nodes in the graph; `NAME` is the prefix of its parameters."""
NAME = "decoder.decoder.generator"
INPUTS = ("/decoder/decoder/decode.3/Div_4_output_0", "/decoder/Slice_output_0", f"{PATH}/Squeeze_output_0")
"""Inputs of the vocoder, by their names in the graph: features with shape `(1, 512, T)`, the acoustic half of the style
with
shape `(1, 128)`, and the harmonic source signal with shape `(1, 300 T)`."""

_WINDOW, _HOP = 20, 5
_EPSILON = 1e-5
_GAIN = 4.0
_DILATIONS = (1, 3, 5)
_STAGES = ((10, 6), (6, 1))
"""Strides of the upsampling, and of the convolution that brings the source to the same rate."""


def cut(model: Any, outputs: Sequence[str] = INPUTS) -> Any:
    """Reduce a graph in place to the nodes that some of its tensors need; these become its outputs."""
    import onnx

    producers = {name: node for node in model.graph.node for name in node.output}
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.output[0] not in needed:
            needed.add(node.output[0])
            waiting += node.input
    nodes = [node for node in model.graph.node if node.output[0] in needed]
    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.node[:], model.graph.output[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    found = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
    model.graph.output.extend(found)
    return model


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel; `x` with shape `(T, C)`."""
    mean = x.mean(0)
    return mean, (x * x).mean(0) - mean * mean


def _added(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    total = x + y
    return total, *_statistics(total)


def _snake(x: Tensor, gain: Tensor, shift: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`y + sin(alpha y)^2 / alpha` for `y = gain x + shift`, with its least and its greatest value."""
    y = x * gain + shift
    wave = torch.sin(alpha * y)
    y = y + wave * wave / alpha
    return y, y.amin(), y.amax()


def _quantised(x: Tensor, inverse: Tensor, zero: Tensor) -> Tensor:
    return torch.clamp(torch.round(x * inverse) + zero, 0, 255).to(torch.uint8)


@dataclass(frozen=True, slots=True)
class _Conv:
    """A convolution over time in int8, with a bias in float."""

    packed: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor
    pad: int
    dilation: int

    def __call__(self, x: Tensor, scale: float, zero: int) -> Tensor:
        """From bytes with shape `(T, C)` to floats with shape `(T, D)`."""
        out: Tensor = torch.ops.onednn.qconv2d_pointwise(
            x.t()[None, :, None, :], scale, zero, self.packed, self.scales, self.zeros, self.bias,
            [1, 1], [0, self.pad], [1, self.dilation], 1, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return out[0, :, 0, :].t()


@dataclass(frozen=True, slots=True)
class _Layer:
    """Normalisation, activation and convolution; `weight` and `bias` turn the style into gain and shift."""

    weight: Tensor
    bias: Tensor
    alpha: Tensor
    conv: _Conv


Blocks = Sequence[tuple[_Layer, _Layer]]


class Vocoder:
    """The vocoder, on as many threads as torch has.

    Args:
        constants: of the model's graph, by name.
        inputs: of the graph's nodes, by the node's name.
        compiled: whether loops between convolutions are compiled, which takes half a minute once for a machine and
            needs a C++ compiler; None: where there is one.

    Raises:
        EdgeSpeechError: the graph is not that of Kokoro-82M v1.0.
    """

    def __init__(
        self,
        constants: Mapping[str, NDArray[Any]],
        inputs: Mapping[str, Sequence[str]],
        *,
        compiled: bool | None = None,
    ) -> None:
        self._constants, self._inputs = constants, inputs
        try:
            self._noise = [self._blocks(f"noise_res.{i}") for i in range(len(_STAGES))]
            self._residuals = [
                [self._blocks(f"resblocks.{3 * i + j}") for j in range(3)] for i in range(len(_STAGES))
            ]
            self._sources = [
                (self._weight(f"noise_convs.{i}/Conv_quant"), self._array(f"{NAME}.noise_convs.{i}.bias"))
                for i in range(len(_STAGES))
            ]
            self._ups = [
                (self._array(f"{PATH}/{name}"), self._array(f"{NAME}.ups.{i}.bias"))
                for i, name in enumerate(("Mul_output_0", "Mul_1_output_0"))
            ]
            self._last = self._array(f"{PATH}/Mul_2_output_0"), self._array(f"{NAME}.conv_post.bias")
            self._basis = self._array(f"{NAME}.stft.istft.stft.inverse_basis")
            self._window = self._array(f"{PATH}/Constant_17_output_0")
        except KeyError as error:
            raise EdgeSpeechError(f"Kokoro: the graph has no {error}, expected that of v1.0") from error
        if compiled is None:
            compiled = shutil.which("g++") is not None

        def made(function: Callable[..., Any]) -> Callable[..., Any]:
            return torch.compile(function, dynamic=True) if compiled else function

        self._statistics, self._added = made(_statistics), made(_added)
        self._snake, self._quantised = made(_snake), made(_quantised)

    def _array(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(self._constants[name], dtype=np.float32))

    def _weight(self, node: str) -> Tensor:
        """The float weights of an integer product of the graph."""
        _, name, _, zero = self._inputs[f"{PATH}/{node}"]
        values = self._constants[name].astype(np.float32) - self._constants[zero].astype(np.float32)
        scale = self._constants[name.removesuffix("_quantized") + "_scale"]
        return torch.from_numpy(np.asarray(values * scale, dtype=np.float32))

    def _blocks(self, name: str) -> Blocks:
        return [
            (self._layer(name, 1, place, dilation), self._layer(name, 2, place, 1))
            for place, dilation in enumerate(_DILATIONS)
        ]

    def _layer(self, block: str, part: int, place: int, dilation: int) -> _Layer:
        norm, conv = f"adain{part}.{place}", f"convs{part}.{place}"
        return _Layer(
            self._weight(f"{block}/{norm}/fc/Gemm_MatMul_quant"),
            self._array(f"{NAME}.{block}.{norm}.fc.bias"),
            self._array(f"{NAME}.{block}.alpha{part}.{place}").ravel(),
            self._conv(
                self._weight(f"{block}/{conv}/Conv_quant"),
                self._array(f"{NAME}.{block}.{conv}.bias"),
                dilation,
            ),
        )

    def _conv(self, weight: Tensor, bias: Tensor, dilation: int) -> _Conv:
        pad = dilation * (weight.shape[2] - 1) // 2
        scales = (weight.abs().amax((1, 2)) / 127).clamp_min(1e-12)
        values = torch.round(weight / scales[:, None, None]).to(torch.int8)[:, :, None, :]
        packed = torch.ops.onednn.qconv_prepack(
            values, scales, 1.0, 1, [1, 1], [0, pad], [1, dilation], 1, [1, weight.shape[1], 1, 4096]
        )
        return _Conv(packed, scales, torch.zeros(len(scales), dtype=torch.int32), bias, pad, dilation)

    @torch.inference_mode()
    def __call__(self, features: Samples, style: Samples, source: Samples) -> Samples:
        """Speech of the graph's tensors `INPUTS`: samples at 24 kHz, with shape `(N,)`."""
        x, styled = torch.from_numpy(features), torch.from_numpy(style)
        found = torch.stft(torch.from_numpy(source), _WINDOW, _HOP, window=self._window, return_complex=True)
        harmonics = torch.cat([found.abs(), found.angle()], 1)
        for i, (stride, source_stride) in enumerate(_STAGES):
            weight, bias = self._sources[i]
            extra = functional.conv1d(harmonics, weight, bias, source_stride, padding=source_stride // 2)
            rows = extra[0].t().contiguous()
            rows = self._residual(self._noise[i], styled, rows, *self._statistics(rows))
            weight, bias = self._ups[i]
            x = functional.leaky_relu(x, 0.1)
            x = functional.conv_transpose1d(x, weight, bias, stride, padding=(weight.shape[2] - stride) // 2)
            if i == len(_STAGES) - 1:
                x = functional.pad(x, (1, 0), mode="reflect")
            start = self._added(x[0].t().contiguous(), rows)
            parts = [self._residual(blocks, styled, *start) for blocks in self._residuals[i]]
            x = ((parts[0] + parts[1] + parts[2]) / 3).t()[None]
        weight, bias = self._last
        magnitude, phase = functional.conv1d(functional.leaky_relu(x), weight, bias, padding=3).chunk(2, 1)
        magnitude, phase = torch.exp(magnitude), torch.sin(phase)
        parts = [magnitude * torch.cos(phase), magnitude * torch.sin(phase)]
        signal = functional.conv_transpose1d(torch.cat(parts, 1), self._basis, stride=_HOP)
        samples: Samples = (signal[0, 0, _WINDOW // 2 : -_WINDOW // 2] * _GAIN).numpy()
        return samples

    def _residual(self, blocks: Blocks, style: Tensor, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        for first, second in blocks:
            y = self._apply(first, style, x, mean, variance)
            y = self._apply(second, style, y, *self._statistics(y))
            x, mean, variance = self._added(y, x)
        return x

    def _apply(self, layer: _Layer, style: Tensor, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        gain, shift = (style @ layer.weight + layer.bias)[0].chunk(2)
        gain = (1 + gain) * torch.rsqrt(variance.clamp_min(0) + _EPSILON)
        y, low, high = self._snake(x, gain, shift - gain * mean, layer.alpha)
        least, most = min(float(low), 0.0), max(float(high), 0.0)
        scale = max((most - least) / 255, 1e-12)
        zero = round(-least / scale)
        return layer.conv(self._quantised(y, torch.tensor(1 / scale), torch.tensor(float(zero))), scale, zero)
