"""Attention over phrases: without a list it is not there, and with one it depends on that list alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.biasing import ContextAttention, ContextBiasing
from edgespeech.model.checkpoint import WEIGHTS, load_model, save_model
from edgespeech.model.config import BiasingConfig, ModelConfig
from edgespeech.model.contextual import ContextualTransducer
from edgespeech.model.export_onnx import export_onnx
from edgespeech.model.transducer import Transducer
from helpers_biasing import PHRASES, attentive, of_wrong_lists
from helpers_packed import features, tiny

KINDS = [
    BiasingConfig(width=24, heads=4),
    BiasingConfig(width=24, heads=3, queries="audio_label"),
    BiasingConfig(width=24, heads=1, encoder="mean", queries="audio_label"),
]


def both(model: Transducer) -> tuple[Tensor, Tensor]:
    """The transcription of some frames, and the predictions after some labels."""
    x = torch.from_numpy(features(40))[None]
    return model.transcribe(x, torch.tensor([40]))[0], model.predict(torch.tensor([[5, 9, 12]]))


def layers(model: Transducer) -> ContextBiasing:
    assert model.biasing is not None
    return model.biasing


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_an_empty_list_changes_no_bit(kind: BiasingConfig, predictor: Any) -> None:
    model, base = attentive(kind, predictor).model, tiny(predictor).model
    listed = ContextualTransducer(model, [])
    for own, without, wanted in zip(both(listed), both(model), both(base), strict=True):
        assert torch.equal(own, wanted)
        assert torch.equal(without, wanted)


def test_attention_to_no_bias_alone_adds_nothing() -> None:
    biasing = layers(attentive().model)
    x = torch.randn(3, 5, 66)
    assert torch.equal(biasing.audio(x, biasing.remember([]).audio)[0], x)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_list_changes_what_its_queries_ask_for(kind: BiasingConfig) -> None:
    model = attentive(kind).model
    encoded, predicted = both(ContextualTransducer(model, PHRASES))
    without = both(model)
    assert not torch.allclose(encoded, without[0])
    assert torch.allclose(predicted, without[1]) is (kind.queries == "audio")


def test_the_order_of_a_list_changes_nothing_and_that_of_pieces_does() -> None:
    model = attentive().model
    wanted = both(ContextualTransducer(model, PHRASES))
    for own, other in zip(wanted, both(ContextualTransducer(model, PHRASES[::-1])), strict=True):
        torch.testing.assert_close(own, other)
    turned = both(ContextualTransducer(model, [phrase[::-1] for phrase in PHRASES]))
    assert not torch.allclose(wanted[0], turned[0])


def test_a_mean_of_embeddings_has_no_order() -> None:
    model = attentive(BiasingConfig(width=24, encoder="mean")).model
    one, two = (ContextualTransducer(model, phrases) for phrases in (PHRASES, [p[::-1] for p in PHRASES]))
    torch.testing.assert_close(both(one)[0], both(two)[0])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_phrase_is_encoded_alone(kind: BiasingConfig) -> None:
    """Padding to the longest phrase changes none."""
    encoder = layers(attentive(kind).model).encoder
    rows = [torch.tensor(phrase) for phrase in PHRASES]
    together = encoder(
        torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(p) for p in PHRASES])
    )
    for row, phrase in enumerate(PHRASES):
        alone = encoder(torch.tensor([phrase]), torch.tensor([len(phrase)]))[0]
        torch.testing.assert_close(together[row], alone)


def test_heads_attend_as_the_paper_has_it() -> None:
    """softmax(q k / sqrt(d)) v, head by head, by loops."""
    attention: ContextAttention = layers(attentive().model).audio
    encoded, x = torch.randn(3, 24), torch.randn(66)
    memory = attention.remember(encoded)
    found, scores = attention(x, memory)
    width = 24 // attention.heads
    query = attention.query(x)
    keys = torch.cat([attention.no_bias[None], attention.key(encoded)])
    values = torch.cat([torch.zeros(1, 24), attention.value(encoded)])
    mixed = []
    for head in range(attention.heads):
        own = slice(head * width, (head + 1) * width)
        logits = keys[:, own] @ query[own] / width**0.5
        torch.testing.assert_close(scores[head], logits)
        mixed.append(logits.softmax(0) @ values[:, own])
    torch.testing.assert_close(found, x + attention.out.weight @ torch.cat(mixed))


@pytest.mark.parametrize("pieces", [[4] * 12, [8, 4, 36], [20, 28]])
def test_a_stream_gives_what_the_whole_gives(pieces: list[int]) -> None:
    model = ContextualTransducer(attentive().model, PHRASES)
    x = torch.from_numpy(features(48))[None]
    whole = model.transcribe(x, torch.tensor([48]))[0]
    state, parts, start = None, [], 0
    for size in pieces:
        part, _, state = model.transcribe(x[:, start : start + size], torch.tensor([size]), state)
        parts.append(part)
        start += size
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)
    predicted, after = model.start(1)
    steps = [predicted]
    for label in (5, 9, 12):
        predicted, after = model.advance(torch.tensor([label]), after)
        steps.append(predicted)
    torch.testing.assert_close(torch.stack(steps, 1), model.predict(torch.tensor([[5, 9, 12]])))


def test_two_lists_on_one_model_do_not_know_of_each_other() -> None:
    model = attentive().model
    alone = both(ContextualTransducer(model, PHRASES))
    first, second = ContextualTransducer(model, PHRASES), ContextualTransducer(model, [[8, 8]])
    both(second)
    for own, wanted in zip(both(first), alone, strict=True):
        assert torch.equal(own, wanted)
    assert second.context_bytes == 2 * 2 * 2 * 24 * 4  # memories, keys and values, entries, numbers, bytes
    assert ContextualTransducer(model, []).context_bytes == 0


@of_wrong_lists
def test_a_list_that_cannot_be_taken_is_refused(phrases: list[list[int]], message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        ContextualTransducer(attentive().model, phrases)


def test_a_model_without_attention_takes_no_list() -> None:
    with pytest.raises(EdgeSpeechError, match="without attention"):
        ContextualTransducer(tiny().model, PHRASES)


def test_sherpa_onnx_is_not_given_such_a_model(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="biasing is 'audio_label'"):
        export_onnx(attentive(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 10, "heads": 4}, "width is 10, expected a multiple of the heads"),
        ({"heads": 0}, "heads is 0"),
        ({"width": "64"}, "width is '64'"),
        ({"encoder": "bert"}, "encoder is 'bert', expected one of blstm, mean"),
        ({"queries": "label"}, "queries is 'label'"),
        ({"depth": 2}, "key is 'depth'"),
        ([1], r"biasing is \[1\], expected a mapping"),
    ],
)
def test_a_wrong_shape_is_refused(values: object, message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        ModelConfig.from_mapping({"vocabulary": 40, "biasing": values})


def test_a_model_without_attention_is_described_as_before_there_was_any() -> None:
    assert "biasing" not in ModelConfig(vocabulary=40).to_mapping()
    with_attention = ModelConfig(vocabulary=40, biasing=BiasingConfig(queries="audio_label"))
    assert ModelConfig.from_mapping(json.loads(json.dumps(with_attention.to_mapping()))) == with_attention


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    trained = attentive()
    save_model(tmp_path / "m", trained.model, trained.tokeniser, trained.provenance)
    return tmp_path / "m"


def test_there_and_back(saved: Path) -> None:
    read = load_model(saved).model
    assert read.config == attentive().model.config
    for own, wanted in zip(
        both(ContextualTransducer(read, PHRASES)),
        both(ContextualTransducer(attentive().model, PHRASES)),
        strict=True,
    ):
        assert torch.equal(own, wanted)


NAME = "biasing.audio.query.weight"


def removed(tensors: dict[str, Tensor]) -> None:
    del tensors[NAME]


def cut(tensors: dict[str, Tensor]) -> None:
    tensors[NAME] = tensors[NAME][:-1].contiguous()


def spoiled(tensors: dict[str, Tensor]) -> None:
    tensors[NAME][0, 0] = torch.nan


def added(tensors: dict[str, Tensor]) -> None:
    tensors["biasing.audio.gate.weight"] = torch.ones(2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (removed, f"tensor {NAME} is None"),
        (cut, rf"tensor {NAME} is \(23, 66\), expected '?\(24, 66\)"),
        (spoiled, f"tensor {NAME} is 'a value that is not finite'"),
        (added, "tensor biasing.audio.gate.weight"),
    ],
)
def test_damaged_attention_is_an_error_that_names_the_tensor(
    saved: Path, damage: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    path = saved / WEIGHTS
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    damage(tensors)
    save_file(tensors, path, about)
    with pytest.raises(EdgeSpeechError, match=message) as raised:
        load_model(saved)
    assert str(path) in str(raised.value)
