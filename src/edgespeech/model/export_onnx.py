"""Export of a transducer to ONNX files for sherpa-onnx's online recogniser of type `lstm`, in fp32 and in int8.

`encoder.onnx`, `decoder.onnx` and `joiner.onnx` are the transcriber, predictor and joiner under sherpa-onnx's names,
with the metadata that k2-fsa/sherpa-onnx reads in `sherpa-onnx/csrc/online-lstm-transducer-model.cc`; `tokens.txt`
has one word piece with its label per line. The graphs are written node by node from the weights, so nothing is traced.

Letters: N batch, F feature frames, T transcriber frames, L layers, H hidden width, J joiner width, V word pieces,
C the predictor's context.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgespeech.core.exported import PARTS, TOKENS, onnx_file
from edgespeech.core.files import write_atomic
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.checkpoint import Trained
from edgespeech.model.config import ModelConfig

_OPSET = 17
"""The first with LayerNormalization."""
_IR_VERSION = 8
"""The IR version released with opset 17, so that older runtimes read the files too."""
_QUANTISED = ["MatMul", "LSTM", "Gather"]

Weights = dict[str, NDArray[np.float32]]


def export_onnx(trained: Trained, folder: Path, *, chunk: int = 3, labels: int = 1) -> None:
    """Write `encoder.onnx`, `decoder.onnx`, `joiner.onnx` and `tokens.txt`.

    Any number of streams and any whole number of transcriber frames may be run at once:

    - encoder: `x` with shape `(N, F, 80)`, `h` and `c` with shape `(L, N, H)` to `encoder_out` `(N, T, J)`, `next_h`
      and `next_c`; F a multiple of the model's stack, T = F / stack * labels; the states start as zeros.
    - decoder: `y`, int64 `(N, C)`, the last labels, to `decoder_out` `(N, J)`; -1 means no label yet.
    - joiner: `encoder_out` and `decoder_out`, each `(N, J)`, to `logit` `(N, V)`.

    Args:
        trained: a model with the stateless predictor, the only kind that sherpa-onnx runs.
        folder: created if missing.
        chunk: transcriber frames that sherpa-onnx runs at a time.
        labels: how often each transcriber frame is repeated. sherpa-onnx's greedy search emits at most one label per
            frame, so with `search.greedy.MAX_LABELS` its output equals that of `search.greedy`; its times are stretched
            by the same factor.

    Raises:
        EdgeSpeechError: the predictor is another, the model has attention over phrases, `chunk` or `labels` is not at
            least 1, a file cannot be written, or the package `onnx` is not installed.
    """
    config = trained.model.config
    if config.predictor != "stateless":
        raise bad("export", "predictor", config.predictor, "stateless, the kind that sherpa-onnx runs")
    if config.biasing is not None:
        raise bad(
            "export", "biasing", config.biasing.queries, "none: sherpa-onnx runs no attention over phrases"
        )
    for name, value in (("chunk", chunk), ("labels", labels)):
        if value < 1:
            raise bad("export", name, value, "at least 1")
    weights = {name: _array(tensor) for name, tensor in trained.model.state_dict().items()}
    models = (_encoder(config, weights, chunk, labels), _decoder(config, weights), _joiner(config, weights))
    for part, model in zip(PARTS, models, strict=True):
        write_atomic(onnx_file(folder, part), model)
    lines = (f"{piece} {label}\n" for label, piece in enumerate(trained.tokeniser.pieces))
    write_atomic(folder / TOKENS, "".join(lines))


def quantise_onnx(folder: Path) -> None:
    """Write `encoder.int8.onnx`, `decoder.int8.onnx` and `joiner.int8.onnx` beside the files of `export_onnx`.

    Dynamic quantisation by ONNX Runtime's own tool: weights in int8 with one scale per column, activations quantised at
    run time.

    Raises:
        EdgeSpeechError: a file is missing or cannot be written, or `onnx` or `onnxruntime` is not installed.
    """
    tool = _package("onnxruntime.quantization")
    for part in PARTS:
        source = onnx_file(folder, part)
        if not source.is_file():
            raise bad("export", "file", str(source), "what export_onnx writes")
        with TemporaryDirectory() as scratch:
            made = Path(scratch) / "model.onnx"
            tool.quantize_dynamic(
                source,
                made,
                op_types_to_quantize=_QUANTISED,
                per_channel=True,
                weight_type=tool.QuantType.QInt8,
            )
            write_atomic(onnx_file(folder, part, int8=True), made.read_bytes())


class _Graph:
    """The nodes and weights of a graph under construction; outputs are named by the node's index."""

    def __init__(self, weights: Weights) -> None:
        self._onnx = _package("onnx")
        self._given = weights
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant."""
        self._weights[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def nodes(self, op: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs. An empty input name is an omitted input."""
        names = [f"{op}_{len(self._nodes)}_{index}" for index in range(outputs)]
        return self._add(op, inputs, names, attributes)

    def node(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add a node with one output and return its name, `to` if given."""
        return self._add(op, inputs, [to or f"{op}_{len(self._nodes)}"], attributes)[0]

    def _add(self, op: str, inputs: Sequence[str], names: list[str], attributes: dict[str, Any]) -> list[str]:
        self._nodes.append(self._onnx.helper.make_node(op, inputs, names, name=names[0], **attributes))
        return names

    def linear(self, x: str, layer: str, *, to: str | None = None, weight: NDArray[Any] | None = None) -> str:
        """A linear layer of the state dict; `weight`, with shape `(in, out)`, overrides its own."""
        matrix = self._given[f"{layer}.weight"].T if weight is None else weight
        product = self.node("MatMul", x, self.constant(f"{layer}.weight", matrix))
        bias = self.constant(f"{layer}.bias", self._given[f"{layer}.bias"])
        return self.node("Add", product, bias, to=to)

    def norm(self, x: str, layer: str) -> str:
        """A LayerNorm of the state dict."""
        scale, bias = (
            self.constant(f"{layer}.{end}", self._given[f"{layer}.{end}"]) for end in ("weight", "bias")
        )
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)

    def serialise(
        self,
        inputs: dict[str, tuple[Any, ...]],
        outputs: dict[str, tuple[Any, ...]],
        metadata: dict[str, int | str],
        *,
        integers: bool = False,
    ) -> bytes:
        """The checked model as bytes; shapes may have symbolic dimensions, and inputs may be integers."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        kind = types.INT64 if integers else types.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "edgespeech",
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, types.FLOAT, shape) for name, shape in outputs.items()],
            list(self._weights.values()),
        )
        model = helper.make_model(
            graph,
            producer_name="edgespeech",
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
        )
        helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        self._onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def _encoder(config: ModelConfig, weights: Weights, chunk: int, labels: int) -> bytes:
    graph = _Graph(weights)
    mean, scale = (graph.constant(name, weights[f"transcriber.{name}"]) for name in ("mean", "scale"))
    stacked = np.array([0, -1, config.stack * config.features])
    normal = graph.node("Mul", graph.node("Sub", "x", mean), scale)
    frames = graph.node("Reshape", normal, graph.constant("stacked", stacked))
    x = graph.node("Transpose", graph.linear(frames, "transcriber.enter"), perm=[1, 0, 2])  # (T, N, H)
    one = graph.constant("direction", np.array([1]))
    before = [graph.nodes("Split", state, outputs=config.layers, axis=0) for state in "hc"]
    after: list[list[str]] = [[], []]
    for layer in range(config.layers):
        name = f"transcriber.lstms.{layer}"
        gates = [
            graph.constant(f"{name}.{which}", _gates(weights[f"{name}.{which}_l0"])[None])
            for which in ("weight_ih", "weight_hh")
        ]
        biases = np.concatenate([_gates(weights[f"{name}.{which}_l0"]) for which in ("bias_ih", "bias_hh")])
        y, *states = graph.nodes(
            "LSTM",
            graph.norm(x, f"transcriber.norms.{layer}"),
            *gates,
            graph.constant(f"{name}.bias", biases[None]),
            "",  # all sequences are of one length
            *(states[layer] for states in before),
            outputs=3,
            hidden_size=config.hidden,
        )
        x = graph.node("Add", x, graph.node("Squeeze", y, one))
        for kept, state in zip(after, states, strict=True):
            kept.append(state)
    left = graph.linear(graph.norm(x, "transcriber.leave.0"), "transcriber.leave.1")
    frames = graph.node("Transpose", left, perm=[1, 0, 2], to="encoder_out" if labels == 1 else None)
    if labels > 1:
        copies = graph.node("Tile", frames, graph.constant("copies", np.array([1, 1, labels])))
        flat = graph.constant("flat", np.array([0, -1, config.joiner]))
        graph.node("Reshape", copies, flat, to="encoder_out")
    for kept, name in zip(after, ("next_h", "next_c"), strict=True):
        graph.node("Concat", *kept, axis=0, to=name)
    memory = (config.layers, "N", config.hidden)
    return graph.serialise(
        {"x": ("N", "F", config.features), "h": memory, "c": memory},
        {"encoder_out": ("N", "T", config.joiner), "next_h": memory, "next_c": memory},
        {
            "model_type": "lstm",
            "num_encoder_layers": config.layers,
            "T": chunk * config.stack,
            "decode_chunk_len": chunk * config.stack,
            "stack": config.stack,
            "rnn_hidden_size": config.hidden,
            "d_model": config.hidden,
        },
    )


def _decoder(config: ModelConfig, weights: Weights) -> bytes:
    graph = _Graph(weights)
    labels = graph.node("Max", "y", graph.constant("blank", np.array([0])))  # no label yet counts as a blank
    rows = graph.constant("embedding", weights["predictor.embedding.weight"])
    seen = graph.node("Gather", rows, labels)
    shape = graph.constant("flat", np.array([0, config.context * config.joiner]))
    kernel = weights["predictor.mix.weight"].transpose(2, 1, 0).reshape(-1, config.joiner)
    mixed = graph.linear(graph.node("Reshape", seen, shape), "predictor.mix", weight=kernel)
    graph.linear(graph.node("Relu", mixed), "predictor.leave", to="decoder_out")
    return graph.serialise(
        {"y": ("N", config.context)},
        {"decoder_out": ("N", config.joiner)},
        {"context_size": config.context, "vocab_size": config.vocabulary},
        integers=True,
    )


def _joiner(config: ModelConfig, weights: Weights) -> bytes:
    graph = _Graph(weights)
    both = graph.node("Tanh", graph.node("Add", "encoder_out", "decoder_out"))
    graph.linear(both, "joiner", to="logit")
    shape = ("N", config.joiner)
    return graph.serialise(
        {"encoder_out": shape, "decoder_out": shape},
        {"logit": ("N", config.vocabulary)},
        {"joiner_dim": config.joiner},
    )


def _gates(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """From torch's order of the gates (input, forget, cell, output) to that of ONNX (input, output, forget, cell)."""
    i, f, g, o = np.split(rows, 4)
    return np.concatenate([i, o, f, g])


def _array(tensor: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = tensor.detach().cpu().float().numpy()
    return found


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise EdgeSpeechError(
            f"{name} is not installed ({error}): pip install 'edgespeech[export]'"
        ) from error
