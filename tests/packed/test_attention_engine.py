"""The engine attends as torch does: with its arithmetic bit for bit, and in each stream to that stream's list alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgespeech.biasing.phrases import PhraseBias
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import Trained
from edgespeech.model.config import BiasingConfig
from edgespeech.model.contextual import ContextualTransducer
from edgespeech.model.transducer import Transducer
from edgespeech.packed.edge_file import read_edge, write_edge
from edgespeech.packed.loader import isas
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel, PackedStream, accept_batch
from edgespeech.packed.simulate import simulate
from edgespeech.search.beam import BeamDecoder
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.hypothesis import Hypothesis
from helpers_biasing import PHRASES, attentive, of_wrong_lists
from helpers_packed import features, tiny, tokeniser

FRAMES = 60
KINDS = [
    BiasingConfig(width=24, heads=4),
    BiasingConfig(width=40, heads=2, queries="audio_label"),
    BiasingConfig(width=24, heads=1, encoder="mean", queries="audio_label"),
]
ENCODINGS = {
    "fp32": Encoding(bits=32),
    "fp16": Encoding(bits=16),
    "int8": Encoding(bits=8),
    "4 bits with zeros": Encoding(bits=4, group=64, store="sparse"),
}
OTHER = [[9, 9], [20, 21, 22]]


def packed(trained: Trained, path: Path, encoding: str = "int8") -> PackedModel:
    pack(trained, Layout(matrices=ENCODINGS[encoding]), path)
    return PackedModel(path)


def heard(stream: PackedStream, seed: int = 0) -> list[Hypothesis]:
    x = features(FRAMES, seed)
    for piece in np.split(x, (3, 30, 31)):
        stream.accept(piece)
    return stream.n_best


def by_torch(model: Transducer, beam: int, seed: int = 0) -> Hypothesis:
    x = torch.from_numpy(features(FRAMES, seed))[None]
    decoder = GreedyDecoder(model) if beam == 1 else BeamDecoder(model, beam)
    decoder.accept(model.transcribe(x, torch.tensor([FRAMES]))[0][0])
    return decoder.best


@pytest.mark.parametrize(
    ("kind", "encoding", "predictor", "beam"),
    [
        (0, "int8", "stateless", 1),
        (0, "fp32", "lstm", 2),
        (1, "int8", "lstm", 2),
        (1, "fp16", "stateless", 1),
        (1, "4 bits with zeros", "stateless", 2),
        (2, "int8", "stateless", 1),
    ],
)
def test_the_engine_attends_as_its_simulation(
    tmp_path: Path, kind: int, encoding: str, predictor: Any, beam: int
) -> None:
    trained = attentive(KINDS[kind], predictor)
    model = packed(trained, tmp_path / "m.edge", encoding)
    twin = simulate(trained.model.config, read_edge(model.path).tensors)
    found = heard(model.open(beam, context=model.attend(PHRASES)))[0]
    wanted = by_torch(ContextualTransducer(twin, PHRASES), beam)
    assert (found.labels, found.frames) == (wanted.labels, wanted.frames)
    assert found.score == pytest.approx(wanted.score, abs=1e-3)
    assert len(found.labels) > 1
    assert found.score != heard(model.open(beam))[0].score


@pytest.mark.parametrize("isa", isas())
def test_codes_give_the_same_bits_with_every_kernel(tmp_path: Path, isa: str) -> None:
    trained = attentive()
    path = packed(trained, tmp_path / "m.edge").path
    model = PackedModel(path, isa=isa)
    found = heard(model.open(3, context=model.attend(PHRASES)))
    first = PackedModel(path, isa=isas()[0])
    assert found == heard(first.open(3, context=first.attend(PHRASES)))


def test_fp32_is_near_torch(tmp_path: Path) -> None:
    trained = attentive()
    model = packed(trained, tmp_path / "m.edge", "fp32")
    found = heard(model.open(1, context=model.attend(PHRASES)))[0]
    wanted = by_torch(ContextualTransducer(trained.model, PHRASES), 1)
    assert (found.labels, found.frames) == (wanted.labels, wanted.frames)
    assert found.score == pytest.approx(wanted.score, abs=1e-2)


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_no_list_and_an_empty_one_are_the_model_without_attention(tmp_path: Path, predictor: Any) -> None:
    base = packed(tiny(predictor), tmp_path / "base.edge")
    model = packed(attentive(predictor=predictor), tmp_path / "m.edge")
    for beam in (1, 2):
        wanted = heard(base.open(beam))
        assert heard(model.open(beam)) == wanted
        assert heard(model.open(beam, context=model.attend([]))) == wanted


@pytest.mark.parametrize("beam", [1, 2])
def test_streams_that_run_together_attend_to_their_own_lists(tmp_path: Path, beam: int) -> None:
    model = packed(attentive(), tmp_path / "m.edge")
    lists: list[list[list[int]] | None] = [PHRASES, None, OTHER, PHRASES[:1]]

    def opened() -> list[PackedStream]:
        return [model.open(beam, context=None if own is None else model.attend(own)) for own in lists]

    alone = []
    for seed, stream in enumerate(opened()):
        stream.accept(features(FRAMES, seed))
        alone.append(stream.n_best)
    streams = opened()
    together = np.stack([features(FRAMES, seed) for seed in range(len(lists))])
    for piece in np.split(together, (10, 50), axis=1):
        accept_batch(streams, np.ascontiguousarray(piece))
    assert [stream.n_best for stream in streams] == alone
    assert len({str(found) for found in alone}) == len(lists)


def test_the_list_counts_as_state(tmp_path: Path) -> None:
    model = packed(attentive(), tmp_path / "m.edge")
    context = model.attend(PHRASES)
    assert context.nbytes == 2 * 2 * (len(PHRASES) + 1) * 24 * 4
    assert model.open(context=context).state_bytes == model.open().state_bytes + context.nbytes


def test_the_phrases_of_a_request_are_attended_to(tmp_path: Path) -> None:
    model = packed(attentive(), tmp_path / "m.edge")
    texts = ("the light", "music")
    bias = PhraseBias(model.pieces, texts, boost=0.0)
    wanted = heard(model.open(3, context=model.attend([tokeniser().encode(text) for text in texts])))
    assert heard(model.open(3, bias)) == wanted
    assert heard(model.open(3, bias, context=model.attending(bias))) == wanted
    assert model.attending(None) is None
    base = packed(tiny(), tmp_path / "base.edge")
    assert base.attending(PhraseBias(base.pieces, texts)) is None


@of_wrong_lists
def test_a_list_that_cannot_be_taken_is_refused(
    tmp_path: Path, phrases: list[list[int]], message: str
) -> None:
    model = packed(attentive(), tmp_path / "m.edge")
    with pytest.raises(EdgeSpeechError, match=message):
        model.attend(phrases)
    assert heard(model.open())  # and goes on


def test_a_list_of_another_model_is_refused(tmp_path: Path) -> None:
    one, two = (packed(attentive(), tmp_path / f"{name}.edge") for name in "ab")
    with pytest.raises(EdgeSpeechError, match="encoded by another model"):
        one.open(context=two.attend(PHRASES))
    with pytest.raises(EdgeSpeechError, match="no attention over phrases"):
        packed(tiny(), tmp_path / "base.edge").attend(PHRASES)


def test_damaged_attention_is_an_error_that_names_the_tensor(tmp_path: Path) -> None:
    trained = attentive()
    file = read_edge(packed(trained, tmp_path / "m.edge").path)
    bad_path = tmp_path / "bad.edge"
    for name in ("biasing.audio.key.weight", "biasing.label.no_bias", "biasing.encoder.back.bias"):
        write_edge(bad_path, {own: tensor for own, tensor in file.tensors.items() if own != name}, file.meta)
        with pytest.raises(EdgeSpeechError, match=f"there is no tensor {name}"):
            PackedModel(bad_path)
    cut = {**file.tensors, "biasing.audio.no_bias": np.zeros((1, 23), np.float32)}
    write_edge(bad_path, cut, file.meta)
    with pytest.raises(EdgeSpeechError, match=r"biasing\.audio\.no_bias: shape is 1 x 23, expected 1 x 24"):
        PackedModel(bad_path)


def test_a_shape_that_is_not_the_tensors_is_refused(tmp_path: Path) -> None:
    trained = attentive()
    file = read_edge(packed(trained, tmp_path / "m.edge").path)
    config = trained.model.config
    assert config.biasing is not None
    for biasing in (None, replace(config.biasing, queries="audio"), replace(config.biasing, width=48)):
        meta = {**file.meta, "config": replace(config, biasing=biasing).to_mapping()}
        write_edge(tmp_path / "bad.edge", file.tensors, meta)
        with pytest.raises(EdgeSpeechError, match=r"biasing is .*as in the tensors"):
            PackedModel(tmp_path / "bad.edge")
