"""A matrix times a vector, from memory and from the caches: this project's kernels and those of peers; prints JSON.

python replication/az_execution/products.py PLAN   # PLAN: JSON with `shapes`, `layouts`, `rounds`, `evict_mib`, `seed`

One process on one thread; the peers take turns. Each has several copies of its matrix, so that between two
products with one copy more memory is read than the last-level cache holds; all copies are used once before.
A turn is three products: with one copy, so that the code is there; with the next, timed as cold; with that again, timed
as warm. Medians over the rounds.

Ours is the integer product of int8 activations, called from Python; the int8 peers also quantise the vector and scale
the result, a few microseconds of work that is done elsewhere in ours. A peer that is not installed is in
`skipped`, with the reason.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgespeech.packed.codes import quantise
from edgespeech.packed.edge_file import write_edge
from edgespeech.packed.loader import EdgeFile, chosen_isa

Floats = NDArray[np.float32]
Work = Callable[[], object]


class Product(NamedTuple):
    """A peer.

    Attributes:
        name: of the peer.
        kind: `fp32`, `int8` (dense), or other.
        n_bytes: of its weights.
        works: the product with each copy.
    """

    name: str
    kind: str
    n_bytes: int
    works: Sequence[Work]


def ours(
    weights: Floats, x: Floats, copies: int, layouts: Sequence[dict[str, Any]], folder: Path
) -> Iterator[Product]:
    """This project's kernels, with one file per layout."""
    q = np.rint(x / np.abs(x).max() * 127).astype(np.int8)[None]
    order = np.argsort(np.abs(weights), axis=1)
    for layout in layouts:
        mask = None
        if layout.get("zeros"):
            mask = np.ones(weights.shape, np.bool_)
            np.put_along_axis(mask, order[:, : round(layout["zeros"] * weights.shape[1])], False, axis=1)
        codes = quantise(weights, bits=layout["bits"], mask=mask)
        path = folder / f"{layout['name']}.edge"
        names = [str(copy) for copy in range(copies)]
        write_edge(path, dict.fromkeys(names, codes), {})
        file = EdgeFile(path)
        kind = "int8" if layout["bits"] == 8 and mask is None else "other"
        works = [partial(file.multiply, name, q) for name in names]
        yield Product(layout["name"], kind, file.packed_bytes // copies, works)


def numpy_peer(weights: Floats, x: Floats, copies: int) -> Iterator[Product]:
    """Numpy's own product."""
    works = [partial(np.matmul, weights.copy(), x) for _ in range(copies)]
    yield Product("numpy fp32", "fp32", weights.nbytes, works)


def torch_peers(weights: Floats, x: Floats, copies: int) -> Iterator[Product]:
    """Torch in fp32, and its dynamically quantised linear layer."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    vector = torch.from_numpy(x)
    works = [partial(torch.mv, torch.from_numpy(weights.copy()), vector) for _ in range(copies)]
    yield Product("torch fp32", "fp32", weights.nbytes, works)
    layer = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    layer.weight.data = torch.from_numpy(weights)
    quantised = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tool warns of its deprecation
        for _ in range(copies):
            model = torch.nn.Sequential(layer)
            tool: Any = torch.ao.quantization
            quantised.append(tool.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8))
    works = [partial(model, vector[None]) for model in quantised]
    yield Product("torch dynamic int8", "int8", weights.size, works)


def onnx_peers(weights: Floats, x: Floats, copies: int) -> Iterator[Product]:
    """ONNX Runtime in fp32 and with its dynamic quantisation."""
    onnx = import_module("onnx")
    runtime = import_module("onnxruntime")
    tool = import_module("onnxruntime.quantization")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", kind, (1, weights.shape[1]))],
        [helper.make_tensor_value_info("y", kind, (1, weights.shape[0]))],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(weights.T), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with TemporaryDirectory() as folder:
        single, eight = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, single)
        tool.quantize_dynamic(single, eight, per_channel=True, weight_type=tool.QuantType.QInt8)
        for name, path, n_bytes in (("fp32", single, weights.nbytes), ("int8", eight, weights.size)):
            works = [
                partial(
                    runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run,
                    None,
                    {"x": x[None]},
                )
                for _ in range(copies)
            ]
            yield Product(f"ONNX Runtime {name}", name, n_bytes, works)


def timed(work: Work) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(products: Sequence[Product], rounds: int) -> list[dict[str, Any]]:
    """Rows with `name`, `kind`, `bytes`, and the median seconds `cold_s` and `warm_s`."""
    cold: list[list[float]] = [[] for _ in products]
    warm: list[list[float]] = [[] for _ in products]
    for one in products:  # the first access to a memory page takes longer
        for work in one.works:
            work()
    for turn in range(rounds):
        for place in range(len(products)):
            index = (place + turn) % len(products)
            works = products[index].works
            works[2 * turn % len(works)]()
            work = works[(2 * turn + 1) % len(works)]
            cold[index].append(timed(work))
            warm[index].append(timed(work))
    return [
        {
            "name": one.name,
            "kind": one.kind,
            "bytes": one.n_bytes,
            "cold_s": statistics.median(cold[index]),
            "warm_s": statistics.median(warm[index]),
        }
        for index, one in enumerate(products)
    ]


def copies_for(rows: int, cols: int, layouts: int, evict_bytes: int) -> int:
    """The number of copies of each matrix: at least two, and enough that a round over all reads more than
    `evict_bytes`.

    A layout has at least about half a byte per weight; numpy, torch and ONNX Runtime have 4, 4, 4, 1 and 1.
    """
    return 2 * max(1, -(-evict_bytes // int(rows * cols * (14 + 0.5 * layouts))))


def compare(plan: dict[str, Any]) -> dict[str, Any]:
    """Run the command line; see the module's docstring."""
    evict_bytes = plan["evict_mib"] << 20
    rng = np.random.default_rng(plan["seed"])
    block = np.ones(evict_bytes // 8, np.int64)
    report: dict[str, Any] = {"isa": chosen_isa(), "rounds": plan["rounds"], "skipped": {}, "shapes": []}
    report["read_bytes_per_s"] = block.nbytes / statistics.median(timed(block.max) for _ in range(9))
    for rows, cols in plan["shapes"]:
        copies = copies_for(rows, cols, len(plan["layouts"]), evict_bytes)
        weights = rng.standard_normal((rows, cols), np.float32)
        x = rng.standard_normal(cols, np.float32)
        with TemporaryDirectory() as folder:
            products = list(ours(weights, x, copies, plan["layouts"], Path(folder)))
            for peers in (numpy_peer, torch_peers, onnx_peers):
                try:
                    products += peers(weights, x, copies)
                except ImportError as error:
                    report["skipped"][peers.__name__] = str(error)
            measured = measure(products, plan["rounds"])
        report["shapes"].append({"rows": rows, "cols": cols, "products": measured})
    return report


if __name__ == "__main__":
    print(json.dumps(compare(json.loads(sys.argv[1]))))
