"""What this processor's integer kernels do."""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def saturates() -> bool:
    """Whether products of unsigned by signed bytes cut off sums of pairs, as those of x86 without VNNI do."""
    import onnxruntime
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "probe",
        [
            helper.make_tensor_value_info("a", TensorProto.UINT8, [1, 4]),
            helper.make_tensor_value_info("b", TensorProto.INT8, [4, 1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    a, b = np.full((1, 4), 255, np.uint8), np.full((4, 1), 127, np.int8)
    return int(session.run(None, {"a": a, "b": b})[0][0, 0]) != 4 * 255 * 127
