"""The exported model computes what the model computes, states and all; needs the packages of the `export` extra."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgespeech.core.exported import PARTS, onnx_file
from edgespeech.errors import EdgeSpeechError
from edgespeech.model import export_onnx as module
from edgespeech.model.checkpoint import Trained
from edgespeech.model.export_onnx import export_onnx, quantise_onnx
from edgespeech.search.settings import MAX_LABELS
from edgespeech.synthesis.integer_graph import cuts_off
from helpers_packed import features, tiny

STACK = 4


def sessions(folder: Path, *, int8: bool = False) -> list[Any]:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    if int8:
        quantise_onnx(folder)
    return [runtime.InferenceSession(onnx_file(folder, part, int8=int8)) for part in PARTS]


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Trained, Path]:
    pytest.importorskip("onnx")
    trained = tiny()
    export_onnx(trained, tmp_path)
    return trained, tmp_path


def streamed(encoder: Any, trained: Trained, x: np.ndarray, steps: list[int]) -> np.ndarray:
    """The encoder over pieces of so many transcriber frames, its states checked against the model's."""
    config = trained.model.config
    h = c = np.zeros((config.layers, len(x), config.hidden), np.float32)
    state, at, found = None, 0, []
    for count in steps:
        piece = x[:, at : at + count * STACK]
        out, h, c = encoder.run(None, {"x": piece, "h": h, "c": c})
        length = torch.full((len(x),), count * STACK)
        _, _, state = trained.model.transcribe(torch.from_numpy(piece), length, state)
        np.testing.assert_allclose(h, state.hidden.numpy(), atol=1e-4)
        np.testing.assert_allclose(c, state.cell.numpy(), atol=1e-4)
        found.append(out)
        at += count * STACK
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_encoder_equals_the_transcriber_state_by_state(tmp_path: Path, batch: int, layers: int) -> None:
    pytest.importorskip("onnx")
    trained = tiny(layers=layers)
    export_onnx(trained, tmp_path)
    x = np.stack([features(40, seed) for seed in range(batch)])
    found = streamed(sessions(tmp_path)[0], trained, x, [1, 3, 2, 4])
    wanted, _, _ = trained.model.transcribe(torch.from_numpy(x), torch.full((batch,), 40))
    assert found.shape == (batch, 10, trained.model.config.joiner)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)
    assert np.abs(wanted.numpy()).max() > 0.1


def test_the_decoder_equals_the_predictor_and_no_label_is_a_blank(exported: tuple[Trained, Path]) -> None:
    trained, folder = exported
    decoder = sessions(folder)[1]
    labels = np.array([[5, 6, 7], [0, 39, 1]])
    wanted = trained.model.predictor.read(torch.from_numpy(labels))  # type: ignore[arg-type]  # stateless
    np.testing.assert_allclose(decoder.run(None, {"y": labels})[0], wanted.numpy(), atol=1e-4)
    start, _ = trained.model.start(1)
    none_yet = np.array([[-1, -1, 0]])
    np.testing.assert_allclose(decoder.run(None, {"y": none_yet})[0], start.numpy(), atol=1e-4)


def test_the_joiner_equals_ours(exported: tuple[Trained, Path]) -> None:
    trained, folder = exported
    draw = np.random.default_rng(0)
    encoded, predicted = draw.standard_normal((2, 4, trained.model.config.joiner), np.float32)
    wanted = trained.model.join(torch.from_numpy(encoded), torch.from_numpy(predicted))
    (found,) = sessions(folder)[2].run(None, {"encoder_out": encoded, "decoder_out": predicted})
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)


def test_the_files_tell_sherpa_onnx_what_it_asks(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    trained = tiny()
    export_onnx(trained, tmp_path, chunk=5)
    encoder, decoder, joiner = (one.get_modelmeta().custom_metadata_map for one in sessions(tmp_path))
    assert encoder == {
        "model_type": "lstm", "num_encoder_layers": "2", "T": "20", "decode_chunk_len": "20",
        "rnn_hidden_size": "70", "d_model": "70", "stack": "4",
    }  # fmt: skip
    assert decoder == {"context_size": "3", "vocab_size": "40"}
    assert joiner == {"joiner_dim": "66"}
    lines = (tmp_path / "tokens.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [f"{piece} {label}" for label, piece in enumerate(trained.tokeniser.pieces)]
    assert lines[0] == "<blk> 0"


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    for name in "ab":
        export_onnx(tiny(), tmp_path / name)
    for part in PARTS:
        assert onnx_file(tmp_path / "a", part).read_bytes() == onnx_file(tmp_path / "b", part).read_bytes()


def test_every_frame_is_repeated_as_configured(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    trained = tiny()
    found = []
    for labels in (1, MAX_LABELS):
        export_onnx(trained, tmp_path, labels=labels)
        found.append(streamed(sessions(tmp_path)[0], trained, features(24)[None], [2, 4]))
    assert np.array_equal(np.repeat(found[0], MAX_LABELS, axis=1), found[1])


def test_int8_comes_near(exported: tuple[Trained, Path]) -> None:
    trained, folder = exported
    encoder, decoder, joiner = sessions(folder, int8=True)
    config = trained.model.config
    zeros = np.zeros((config.layers, 1, config.hidden), np.float32)
    x = features(40)[None]
    given = {"x": x, "h": zeros, "c": zeros}
    wanted, _, _ = trained.model.transcribe(torch.from_numpy(x), torch.tensor([40]))
    labels = np.array([[5, 6, 7]])
    predicted = trained.model.predictor.read(torch.from_numpy(labels))  # type: ignore[arg-type]  # stateless
    logits = trained.model.join(wanted[:, -1], predicted).numpy()
    both = {"encoder_out": wanted[:, -1].numpy(), "decoder_out": predicted.numpy()}
    for found, true in (
        (encoder.run(None, given)[0], wanted.numpy()),
        (decoder.run(None, {"y": labels})[0], predicted.numpy()),
        (joiner.run(None, both)[0], logits),
    ):
        error = float(((found - true) ** 2).mean())
        assert 0 < error < (0.1 if cuts_off() else 0.01) * float((true**2).mean())
    for part in PARTS:
        assert onnx_file(folder, part, int8=True).stat().st_size < onnx_file(folder, part).stat().st_size
    about = encoder.get_modelmeta().custom_metadata_map
    assert about["model_type"] == "lstm"


def test_a_predictor_that_remembers_everything_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match=r"predictor.*lstm.*stateless"):
        export_onnx(tiny("lstm"), tmp_path)


@pytest.mark.parametrize("name", ["chunk", "labels"])
def test_numbers_out_of_range_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EdgeSpeechError, match=name):
        partial(export_onnx, tiny(), tmp_path, **{name: 0})()
    assert not list(tmp_path.iterdir())


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Any:
        raise ImportError(f"No module named {name}")

    monkeypatch.setattr(module, "import_module", nothing)
    with pytest.raises(EdgeSpeechError, match=r"onnx is not installed.*edgespeech\[export\]"):
        export_onnx(tiny(), tmp_path)
    with pytest.raises(EdgeSpeechError, match=r"onnxruntime\.quantization is not installed"):
        quantise_onnx(tmp_path)


def test_there_must_be_something_to_quantise(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(EdgeSpeechError, match=r"encoder\.onnx.*what export_onnx writes"):
        quantise_onnx(tmp_path)
