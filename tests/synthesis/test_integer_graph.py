"""The rewritten graph gives the bits of the graph that it was made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgespeech.synthesis import integer_graph
from edgespeech.synthesis.integer_graph import cuts_off, fast

CHANNELS, FRAMES = 6, 17
RNG = np.random.default_rng(0)


def some_bytes(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def model(nodes: list[Any], weights: NDArray[np.uint8], zero: int, out: list[str]) -> ModelProto:
    """Quantises `x`, with shape `(1, channels, frames)`, and does what the nodes say."""
    quantise = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"])
    graph = helper.make_graph(
        [quantise, *nodes],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, None])],
        [helper.make_tensor_value_info(name, TensorProto.INT32, None) for name in out],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array(zero, np.uint8), "wz")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def convolution(out: str, **options: Any) -> Any:
    return helper.make_node("ConvInteger", ["q", "w", "zero", "wz"], [out], name=out, **options)


def results(graph: ModelProto, frames: int) -> list[NDArray[np.int32]]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(frames).standard_normal((1, CHANNELS, frames)).astype(np.float32)
    found: list[NDArray[np.int32]] = session.run(None, {"x": x})
    return found


def kinds(graph: ModelProto) -> set[str]:
    return {node.op_type for node in graph.graph.node}


def agree(graph: ModelProto, frames: int) -> ModelProto:
    """The rewritten graph, which gives what the graph gave."""
    before = results(graph, frames)
    after = fast(graph)
    for one, other in zip(before, results(after, frames), strict=True):
        np.testing.assert_array_equal(one, other)
    return after


@pytest.mark.parametrize("frames", [FRAMES, 40])
@pytest.mark.parametrize(
    ("taps", "options"),
    [
        (1, {}),
        (3, {}),
        (3, {"pads": [1, 1]}),
        (5, {"pads": [4, 4], "dilations": [2]}),
        (4, {"pads": [0, 3]}),
        (7, {"pads": [9, 9], "dilations": [3], "strides": [1], "group": 1}),
    ],
)
def test_a_convolution_over_time_becomes_a_product(taps: int, options: dict[str, Any], frames: int) -> None:
    graph = model([convolution("y", **options)], some_bytes(8, CHANNELS, taps), 131, ["y"])
    assert kinds(agree(graph, frames)) >= {"MatMulInteger", "Transpose"}
    assert "ConvInteger" not in kinds(graph)


def test_convolutions_of_one_input_share_its_rows() -> None:
    nodes = [convolution("y", pads=[1, 1]), convolution("z", pads=[1, 1])]
    found = agree(model(nodes, some_bytes(4, CHANNELS, 3), 7, ["y", "z"]), FRAMES)
    assert sum(node.op_type == "Concat" for node in found.graph.node) == 1


@pytest.mark.parametrize(
    ("shape", "zero", "options"),
    [
        ((8, CHANNELS, 3), 9, {"strides": [2]}),
        ((6, 2, 3), 9, {"group": 3}),
        ((8, CHANNELS, 3), 9, {"auto_pad": "SAME_UPPER"}),
    ],
)
def test_what_is_no_plain_product_stays(
    shape: tuple[int, int, int], zero: int, options: dict[str, Any]
) -> None:
    assert "ConvInteger" in kinds(
        agree(model([convolution("y", **options)], some_bytes(*shape), zero, ["y"]), 20)
    )


def test_a_product_gets_signed_weights_where_they_are_exact() -> None:
    nodes = [helper.make_node("MatMulInteger", ["q", "w", "zero", "wz"], ["y"])]
    found = agree(model(nodes, some_bytes(FRAMES, 9), 200, ["y"]), FRAMES)
    types = {tensor.name: tensor.data_type for tensor in found.graph.initializer}
    assert set(types.values()) == {TensorProto.UINT8 if cuts_off() else TensorProto.INT8}


@pytest.mark.parametrize("signed", [True, False])
def test_a_recurrent_layer_is_exact_on_every_processor(signed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are signed in the model, and become unsigned where sums of signed ones are cut off."""
    monkeypatch.setattr(integer_graph, "cuts_off", lambda: not signed)
    weights = {
        name: RNG.integers(-128, 128, (1, rows, 16)).astype(np.int8) for name, rows in (("W", 3), ("R", 4))
    }
    zeros = {name: np.array([5], np.int8) for name in weights}
    scales = {name: np.array([0.01], np.float32) for name in weights}
    made = [
        numpy_helper.from_array(values, f"{name}{kind}")
        for kind, told in (("", weights), ("zero", zeros), ("scale", scales))
        for name, values in told.items()
    ]
    inputs = ["x", "W", "R", "", "", "", "", "", "Wscale", "Wzero", "Rscale", "Rzero"]
    graph = helper.make_graph(
        [helper.make_node("DynamicQuantizeLSTM", inputs, ["y"], domain="com.microsoft", hidden_size=4)],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [20, 1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        made,
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    found = fast(helper.make_model(graph, opset_imports=domains, ir_version=9))
    types = {t.data_type for t in found.graph.initializer if not t.name.endswith("scale")}
    assert types == {TensorProto.INT8 if signed else TensorProto.UINT8}
    if signed and cuts_off():
        return  # that is what must not happen here
    session = onnxruntime.InferenceSession(found.SerializeToString(), providers=["CPUExecutionProvider"])
    x = RNG.standard_normal((20, 1, 3)).astype(np.float32)
    matrices = [scales[n] * (weights[n].astype(np.float32) - 5) for n in ("W", "R")]
    expected = by_hand(x, *(matrix[0] for matrix in matrices))
    assert np.abs(session.run(None, {"x": x})[0][:, 0, 0] - expected).max() < 0.03


def by_hand(x: NDArray[np.float32], of_input: NDArray[np.float32], of_output: NDArray[np.float32]) -> Any:
    """The outputs of a layer in float, with shape `(T, H)`; its gates are in the order i, o, f, c."""
    hidden = cell = np.zeros((1, of_output.shape[0]), np.float32)
    outputs = []
    for frame in x:
        i, o, f, c = np.split(frame @ of_input + hidden @ of_output, 4, axis=1)
        cell = cell / (1 + np.exp(-f)) + np.tanh(c) / (1 + np.exp(-i))
        hidden = np.tanh(cell) / (1 + np.exp(-o))
        outputs.append(hidden[0])
    return np.stack(outputs)
