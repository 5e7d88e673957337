"""Models in folders."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import TOKENS, WEIGHTS, load_model, model_bytes, save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer

PIECES = Tokeniser.train(["turn on the light", "play some music"] * 3, 40)
CONFIG = ModelConfig(vocabulary=40, layers=1, hidden=8, joiner=8, context=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path / "m", Transducer(CONFIG), PIECES, {"run": "trial"})
    return tmp_path / "m"


def test_there_and_back(folder: Path) -> None:
    torch.manual_seed(0)
    original = Transducer(CONFIG)
    read = load_model(folder)
    assert read.model.config == CONFIG
    assert read.tokeniser.pieces == PIECES.pieces
    assert read.provenance == {"run": "trial"}
    assert not read.model.training
    for name, tensor in original.state_dict().items():
        if not name.startswith("ctc."):
            assert torch.equal(read.model.state_dict()[name], tensor)
    assert model_bytes(folder) == sum(file.stat().st_size for file in folder.iterdir())


def test_the_same_model_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = load_model(folder)
    for _ in range(5):
        save_model(tmp_path / "again", again.model, again.tokeniser, again.provenance)
        assert (tmp_path / "again" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def test_half_precision_is_half_the_bytes_and_nearly_the_same(folder: Path, tmp_path: Path) -> None:
    full = load_model(folder).model
    save_model(tmp_path / "h", full, PIECES, {}, half=True)
    half = load_model(tmp_path / "h").model
    assert (tmp_path / "h" / WEIGHTS).stat().st_size < 0.6 * (folder / WEIGHTS).stat().st_size
    for name, tensor in full.state_dict().items():
        if not name.startswith("ctc."):
            torch.testing.assert_close(half.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def test_pieces_of_another_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="vocabulary is 40"):
        save_model(tmp_path, Transducer(CONFIG), Tokeniser.train(["play some music"], 33), {})


def test_damage_is_reported(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(EdgeSpeechError, match="not a readable model"):
        load_model(folder)


def test_missing_files_are_reported(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="nothing"):
        load_model(tmp_path / "nothing")
    (folder / TOKENS).unlink()
    with pytest.raises(EdgeSpeechError, match=TOKENS):
        load_model(folder)


def test_another_format_is_refused(folder: Path) -> None:
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, {"edgespeech": '{"format": "other"}'})
    with pytest.raises(EdgeSpeechError, match=r"format is .*other"):
        load_model(folder)


def test_another_tensor_is_refused(folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(folder / WEIGHTS)
    tensors["joiner.bias"] = torch.zeros(7)
    save_file(tensors, folder / WEIGHTS, header)
    with pytest.raises(EdgeSpeechError, match=r"tensor joiner\.bias is \(7,\)"):
        load_model(folder)
