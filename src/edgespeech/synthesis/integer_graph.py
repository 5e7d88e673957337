"""Rewriting integer products of an ONNX graph for the fast kernels of a processor.

onnxruntime computes `ConvInteger` of a dynamically quantised model column by column, and its products of unsigned by
unsigned bytes take 3.6 times as long as those of unsigned by signed ones (1.32, AVX-512 with VNNI). `fast` writes a
stride-1 convolution over time as one product of shifted copies, with weights moved from 0..255 to -128..127 together
with their zero point. All integer sums are unchanged, so the output is identical bit for bit. On x86 processors
without VNNI the weights stay unsigned: onnxruntime's products of unsigned by signed bytes cut off sums of two
products beyond 16 bits there, and speech became hard to understand.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_TO_THE_END = 2**31 - 1
_LSTM_BYTES = (1, 2, 9, 11)
"""Inputs of `DynamicQuantizeLSTM` that are bytes: weights of the input and of the output, and their zero points."""


def fast(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a model's `ConvInteger` and `MatMulInteger` nodes in place.

    Convolutions with a stride, groups, zero points per channel or more than one spatial axis are unchanged, as are
    products whose weights are not constant bytes.

    Args:
        model: with all its weights inside.

    Returns:
        The same object, for use in a call.
    """
    _Rewriter(model.graph).run()
    return model


@cache
def cuts_off() -> bool:
    """Whether this processor's products of unsigned by signed bytes cut off sums of pairs beyond 16 bits."""
    shapes = {
        "a": (TensorProto.UINT8, [1, 4]),
        "b": (TensorProto.INT8, [4, 1]),
        "y": (TensorProto.INT32, [1, 1]),
    }
    a, b, y = (helper.make_tensor_value_info(name, *shape) for name, shape in shapes.items())
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "probe", [a, b], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    largest = {"a": np.full((1, 4), 255, np.uint8), "b": np.full((4, 1), 127, np.int8)}
    return int(session.run(None, largest)[0][0, 0]) != 4 * 255 * 127


class _Rewriter:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._unsigned = cuts_off()
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._made: set[str] = set()

    def run(self) -> None:
        for node in self._graph.node:
            if node.op_type == "ConvInteger" and self._is_plain(node):
                self._product(node)
            else:
                if node.op_type == "MatMulInteger" and self._bytes(node.input[1]) is not None:
                    self._sign(node)
                if node.op_type == "DynamicQuantizeLSTM" and self._unsigned:
                    for place in _LSTM_BYTES:
                        node.input[place] = self._without_sign(node.input[place])
                self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(t for name, t in self._constants.items() if name in used)

    def _bytes(self, name: str) -> NDArray[np.uint8] | None:
        """A constant of unsigned bytes, or nothing."""
        tensor = self._constants.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.UINT8:
            return None
        return numpy_helper.to_array(tensor)

    def _is_plain(self, node: onnx.NodeProto) -> bool:
        if len(node.input) != 4:
            return False
        weights, zero = self._bytes(node.input[1]), self._bytes(node.input[3])
        return (
            weights is not None
            and weights.ndim == 3
            and zero is not None
            and zero.size == 1
            and _option(node, "strides", [1]) == [1]
            and _option(node, "group", 1) == 1
            and _option(node, "auto_pad", b"NOTSET") == b"NOTSET"
        )

    def _product(self, node: onnx.NodeProto) -> None:
        """Convolution over `(1, channels, time)` as a product with rows of `(time, taps x channels)`."""
        name, weights_name, zero, weights_zero = node.input
        weights = self._bytes(weights_name)
        assert weights is not None
        taps, (dilation,) = weights.shape[2], _option(node, "dilations", [1])
        before, after = _option(node, "pads", [0, 0])
        rows = self._once("Transpose", [name], f"{name}/rows", perm=[0, 2, 1])
        if before or after:
            sizes = self._indices(0, before, 0, 0, after, 0)
            rows = self._once("Pad", [rows, sizes, zero], f"{rows}/{before}_{after}")
        if taps > 1:
            shifted = [self._shifted(rows, tap, taps, dilation) for tap in range(taps)]
            rows = self._once("Concat", shifted, f"{rows}/{taps}x{dilation}", axis=2)
        matrix = np.ascontiguousarray(weights.transpose(2, 1, 0).reshape(-1, weights.shape[0]))
        inputs = [rows, self._fast(f"{weights_name}/matrix", matrix), zero, self._fast_of(weights_zero)]
        product = self._once("MatMulInteger", inputs, f"{node.output[0]}/rows")
        self._nodes.append(helper.make_node("Transpose", [product], [node.output[0]], perm=[0, 2, 1]))

    def _shifted(self, rows: str, tap: int, taps: int, dilation: int) -> str:
        left = (taps - 1 - tap) * dilation
        ends = [self._indices(tap * dilation), self._indices(-left if left else _TO_THE_END)]
        return self._once("Slice", [rows, *ends, self._indices(1)], f"{rows}/{taps}x{dilation}/{tap}")

    def _sign(self, node: onnx.NodeProto) -> None:
        """Signed weights for a product that has unsigned ones."""
        if len(node.input) != 4 or self._bytes(node.input[3]) is None:
            return
        node.input[1], node.input[3] = self._fast_of(node.input[1]), self._fast_of(node.input[3])

    def _without_sign(self, name: str) -> str:
        """Signed bytes, or their zero points, as unsigned ones."""
        values = numpy_helper.to_array(self._constants[name])
        if values.dtype != np.int8:
            return name
        return self._constant(f"{name}/unsigned", (values.astype(np.int16) + 128).astype(np.uint8))

    def _fast_of(self, name: str) -> str:
        values = self._bytes(name)
        assert values is not None
        return self._fast(f"{name}/fast", values)

    def _fast(self, name: str, values: NDArray[np.uint8]) -> str:
        """A constant of weights as this processor's exact kernel wants them."""
        signed = (values.astype(np.int16) - 128).astype(np.int8)
        return self._constant(name, values if self._unsigned else signed)

    def _indices(self, *values: int) -> str:
        return self._constant("indices/" + "_".join(map(str, values)), np.array(values, np.int64))

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(values, name)
        return name

    def _once(self, kind: str, inputs: list[str], output: str, **options: Any) -> str:
        """A node, unless one with this output is there: convolutions of one input share their rows."""
        if output not in self._made:
            self._made.add(output)
            self._nodes.append(helper.make_node(kind, inputs, [output], **options))
        return output


def _option(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default
