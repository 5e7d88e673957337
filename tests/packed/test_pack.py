"""From a model to a `.edge` file: names, shapes and values; layouts; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import ModelConfig
from edgespeech.packed.codes import Codes, dequantise
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.layout_search import Machine
from edgespeech.packed.pack import Encoding, Layout, pack, pack_tensors, weights_of
from helpers_packed import prune, tiny

H, J, V = 70, 66, 40
TRANSCRIBER = {
    "transcriber.mean": (1, 80),
    "transcriber.scale": (1, 80),
    "transcriber.enter.weight": (H, 320),
    "transcriber.enter.bias": (1, H),
    **{f"transcriber.norms.{i}.{part}": (1, H) for i in (0, 1) for part in ("weight", "bias")},
    **{f"transcriber.lstms.{i}.weight_{side}_l0": (4 * H, H) for i in (0, 1) for side in ("ih", "hh")},
    **{f"transcriber.lstms.{i}.bias": (1, 4 * H) for i in (0, 1)},
    "transcriber.leave.0.weight": (1, H),
    "transcriber.leave.0.bias": (1, H),
    "transcriber.leave.1.weight": (J, H),
    "transcriber.leave.1.bias": (1, J),
}
REST = {
    "predictor.embedding.weight": (V, J),
    "predictor.leave.weight": (J, J),
    "predictor.leave.bias": (1, J),
    "joiner.weight": (V, J),
    "joiner.bias": (1, V),
}
STATELESS = {"predictor.mix.weight": (J, 3 * J), "predictor.mix.bias": (1, J)}
LSTM = {
    "predictor.lstm.weight_ih_l0": (4 * J, J),
    "predictor.lstm.weight_hh_l0": (4 * J, J),
    "predictor.lstm.bias": (1, 4 * J),
}


@pytest.mark.parametrize(("predictor", "its"), [("stateless", STATELESS), ("lstm", LSTM)])
@pytest.mark.parametrize("encoding", [Encoding(), Encoding(bits=16)])
def test_the_file_holds_the_models_tensors(
    tmp_path: Path, predictor: Any, its: Any, encoding: Encoding
) -> None:
    trained = tiny(predictor)
    pack(trained, Layout(matrices=encoding), tmp_path / "m.edge")
    found = read_edge(tmp_path / "m.edge")
    shapes = {
        name: tensor.codes.shape if isinstance(tensor, Codes) else tensor.shape
        for name, tensor in found.tensors.items()
    }
    assert shapes == {**TRANSCRIBER, **REST, **its}
    for name, tensor in found.tensors.items():
        if shapes[name][0] == 1:
            assert isinstance(tensor, np.ndarray)
            assert tensor.dtype == np.float32
        else:
            assert isinstance(tensor, Codes) == (encoding.bits == 8)
    assert found.meta["format"] == "edgespeech-model-1"
    assert ModelConfig.from_mapping(found.meta["config"]) == trained.model.config
    assert found.meta["pieces"] == list(trained.tokeniser.pieces)
    assert found.meta["provenance"]["run"] == "trial"
    assert json.loads(found.meta["provenance"]["layout"])["matrices"]["bits"] == encoding.bits


def test_in_single_precision_no_weight_changes(tmp_path: Path) -> None:
    trained = tiny("lstm")
    pack(trained, Layout(matrices=Encoding(bits=32)), tmp_path / "m.edge")
    tensors = {n: t for n, t in read_edge(tmp_path / "m.edge").tensors.items() if isinstance(t, np.ndarray)}
    state = trained.model.state_dict()
    for name in (
        "transcriber.mean",
        "transcriber.enter.weight",
        "predictor.lstm.weight_hh_l0",
        "joiner.bias",
    ):
        assert np.array_equal(tensors[name], np.atleast_2d(state[name].numpy())), name
    for lstm in ("transcriber.lstms.1", "predictor.lstm"):
        both = state[f"{lstm}.bias_ih_l0"] + state[f"{lstm}.bias_hh_l0"]
        assert np.array_equal(tensors[f"{lstm}.bias"], both.numpy()[None])


def test_the_convolution_becomes_a_matrix_of_labels_in_order() -> None:
    model = tiny().model
    window = torch.randn(1, J, 3)
    convolved = model.predictor.get_submodule("mix")(window)[0, :, 0]
    weights = weights_of(model)
    one_after_the_other = np.concatenate([window[0, :, k].numpy() for k in range(3)])
    product = weights["predictor.mix.weight"] @ one_after_the_other + weights["predictor.mix.bias"]
    np.testing.assert_allclose(product, convolved.numpy(), rtol=1e-4, atol=1e-5)


def test_one_matrix_may_be_stored_otherwise() -> None:
    layout = Layout(
        matrices=Encoding(bits=4, group=64), others={"joiner.weight": Encoding(bits=6, codebook=True)}
    )
    tensors = pack_tensors(tiny().model, layout)
    joiner, enter = tensors["joiner.weight"], tensors["transcriber.enter.weight"]
    assert isinstance(joiner, Codes)
    assert isinstance(enter, Codes)
    assert (joiner.bits, joiner.group, joiner.codebook is None) == (6, 0, False)
    assert (enter.bits, enter.group, enter.codebook is None) == (4, 64, True)


@pytest.mark.parametrize(
    "encoding", [Encoding(bits=5, store="sparse"), Encoding(bits=4, codebook=True, store="sparse")]
)
def test_zeros_of_the_model_are_not_stored(encoding: Encoding) -> None:
    trained = tiny()
    prune(trained.model, 0.5)
    for name, tensor in pack_tensors(trained.model, Layout(matrices=encoding)).items():
        if isinstance(tensor, Codes):
            weights = weights_of(trained.model)[name]
            assert tensor.mask is not None
            assert not tensor.mask[weights == 0].any()
            assert tensor.non_zeros <= 0.51 * tensor.codes.size
            assert (dequantise(tensor)[weights == 0] == 0).all()


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_fewer_bits_take_fewer_bytes_and_lose_more(tmp_path: Path, bits: int) -> None:
    trained = tiny()
    weights = weights_of(trained.model)["transcriber.enter.weight"]
    packed = [
        pack(trained, Layout(matrices=Encoding(bits=b)), tmp_path / f"{b}.edge") for b in (bits - 1, bits)
    ]
    assert packed[0].file_bytes < packed[1].file_bytes
    assert packed[1].file_bytes == (tmp_path / f"{bits}.edge").stat().st_size
    errors = []
    for b in (bits - 1, bits):
        tensor = read_edge(tmp_path / f"{b}.edge").tensors["transcriber.enter.weight"]
        assert isinstance(tensor, Codes)
        errors.append(float(((dequantise(tensor) - weights) ** 2).mean()))
    assert errors[1] < 0.5 * errors[0]


def test_the_reported_size_is_that_of_the_tensors(tmp_path: Path) -> None:
    packed = pack(tiny(), Layout(matrices=Encoding(bits=32)), tmp_path / "m.edge")
    assert packed.bits_per_weight == 32
    assert packed.weights == sum(rows * cols for rows, cols in {**TRANSCRIBER, **REST, **STATELESS}.values())


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pack(tiny(), Layout(matrices=Encoding(bits=4, codebook=True)), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_auto_asks_the_machine_and_keeps_the_values() -> None:
    trained = tiny()
    prune(trained.model, 0.6)
    # From memory, and quick at everything: the fewest bytes win.
    machine = Machine(cache_bytes=0, bandwidth=1e9, seconds=lambda _: 0.0)
    auto = pack_tensors(trained.model, Layout(matrices=Encoding(bits=4, store="auto")), machine)
    sparse = pack_tensors(trained.model, Layout(matrices=Encoding(bits=4, store="sparse")))
    # In a cache that holds all, where sparse products are slow.
    machine = Machine(cache_bytes=1 << 30, bandwidth=1e9, seconds=lambda codes: float(codes.mask is not None))
    dense = pack_tensors(trained.model, Layout(matrices=Encoding(bits=4, store="auto")), machine)
    for name, tensor in sparse.items():
        if isinstance(tensor, Codes):
            a, d = auto[name], dense[name]
            assert isinstance(a, Codes)
            assert isinstance(d, Codes)
            assert a.mask is not None
            assert (d.mask is None) == (name != "predictor.embedding.weight")
            assert np.array_equal(dequantise(a), dequantise(tensor))
            assert np.array_equal(dequantise(d), dequantise(tensor))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1}, "bits is 1"),
        ({"bits": 9}, "bits is 9"),
        ({"bits": "8"}, "bits is '8'"),
        ({"group": 65}, "group is 65"),
        ({"group": -64}, "group is -64"),
        ({"codebook": 1}, "codebook is 1"),
        ({"store": "packed"}, "store is 'packed'"),
        ({"bits": 16, "store": "sparse"}, "bits is 16"),
        ({"bits": 32, "group": 64}, "bits is 32"),
        ({"bits": 7, "codebook": True}, "codebook is '7 bits, group 0'"),
        ({"bits": 4, "group": 64, "codebook": True}, "codebook is '4 bits, group 64'"),
    ],
)
def test_an_encoding_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=f"layout: {message}"):
        Encoding(**options)


@pytest.mark.parametrize("name", ["nothing.weight", "joiner.bias", "ctc.weight"])
def test_a_layout_names_matrices_of_the_model(name: str) -> None:
    with pytest.raises(EdgeSpeechError, match=f"layout: others is '{name}', expected one of .*joiner.weight"):
        pack_tensors(tiny().model, Layout(others={name: Encoding()}))


def test_auto_wants_a_machine() -> None:
    with pytest.raises(EdgeSpeechError, match="layout: store is 'auto'"):
        pack_tensors(tiny().model, Layout(matrices=Encoding(store="auto")))


@pytest.mark.parametrize("bits", [4, 16, 32])
@pytest.mark.parametrize("name", ["transcriber.enter.weight", "joiner.bias"])
def test_a_model_that_is_not_finite_is_refused(bits: int, name: str) -> None:
    model = tiny().model
    model.get_parameter(name).data.flatten()[7] = float("nan")
    with pytest.raises(EdgeSpeechError, match=f"tensor {name}: .*nan, expected .*finite"):
        pack_tensors(model, Layout(matrices=Encoding(bits=bits)))


def test_what_half_precision_cannot_hold_is_refused() -> None:
    model = tiny().model
    model.joiner.weight.data[3, 4] = 1e6
    with pytest.raises(EdgeSpeechError, match=r"tensor joiner.weight: value is inf, expected finite"):
        pack_tensors(model, Layout(matrices=Encoding(bits=16)))
