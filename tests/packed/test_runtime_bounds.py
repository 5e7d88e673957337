"""What the native runtime refuses, and where it stops: wrong features, batches, beams, tensors and meta."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgespeech.engine import native
from edgespeech.errors import EdgeSpeechError
from edgespeech.packed.edge_file import Tensor, read_edge, write_edge
from edgespeech.packed.runtime import PackedModel, PackedStream, accept_batch
from edgespeech.search.settings import MAX_LABELS
from helpers_packed import Make, decoded, features, tiny

FRAMES = 150
VECTOR = np.zeros((1, 70), np.float32)

Floats = NDArray[np.float32]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((4, 80)), "features is 'float64 (4, 80)', expected float32 (F, bands)"),
        (np.zeros(80, np.float32), "features is 'float32 (80,)'"),
        (np.zeros((4, 40), np.float32), "features have 40 bands, expected 80"),
        (np.full((4, 80), np.nan, np.float32), "not finite"),
        (np.full((4, 80), -np.inf, np.float32), "not finite"),
        ([[0.0] * 80] * 4, "features is <class 'list'>"),
    ],
)
def test_wrong_features(path: Path, wrong: Any, message: str) -> None:
    with PackedModel(path) as model:
        stream = model.open()
        for take in (stream.accept, model.transcribe):
            with pytest.raises(EdgeSpeechError) as caught:
                take(wrong)
            assert message in str(caught.value)
            assert "\n" not in str(caught.value)
        stream.accept(features(FRAMES))
        assert stream.n_best == decoded(model, features(FRAMES))


def test_wrong_batches(path: Path, make: Make) -> None:
    def zeros(*shape: int) -> Floats:
        return np.zeros(shape, np.float32)

    with PackedModel(path) as model, PackedModel(make("int8", "stateless")) as other:
        streams = [model.open() for _ in range(9)]
        wrong: list[tuple[list[PackedStream], Floats, str]] = [
            ([], zeros(0, 4, 80), "got 0 streams, expected 1 to 8"),
            (streams, zeros(9, 4, 80), "got 9 streams, expected 1 to 8"),
            (streams[:2], zeros(3, 4, 80), "got features of 3 streams, expected 2"),
            (streams[:2], zeros(2, 4, 79), "79 bands, expected 80"),
            (streams[:2], zeros(2, 320), "expected float32 (N, F, bands)"),
            ([streams[0], streams[0]], zeros(2, 4, 80), "expected different ones"),
            ([streams[0], other.open()], zeros(2, 4, 80), "the streams are of two models"),
        ]
        for taken, x, message in wrong:
            with pytest.raises(EdgeSpeechError) as caught:
                accept_batch(taken, x)
            assert message in str(caught.value)
        accept_batch(streams[:8], zeros(8, 4, 80))


@pytest.mark.parametrize("beam", [0, -1, 1.5])
def test_wrong_beams(path: Path, beam: Any) -> None:
    with (
        PackedModel(path) as model,
        pytest.raises(EdgeSpeechError, match=r"beam is .*, expected a whole number"),
    ):
        model.open(beam)


def changed(path: Path, out: Path, meta: Mapping[str, Any], tensors: Mapping[str, Tensor | None]) -> Path:
    """A file with other meta and tensors; those that are None are left out."""
    file = read_edge(path)
    kept = {name: tensor for name, tensor in {**file.tensors, **tensors}.items() if tensor is not None}
    write_edge(out, kept, {**file.meta, **meta})
    return out


def test_a_frame_has_no_more_labels_than_allowed(make: Make, tmp_path: Path) -> None:
    assert native().MAX_LABELS == MAX_LABELS
    bias = np.full((1, 40), -100, np.float32)
    bias[0, 7] = 100
    talkative = changed(make("int8", "lstm"), tmp_path / "t.edge", {}, {"joiner.bias": bias})
    with PackedModel(talkative) as model:
        (best,) = decoded(model, features(8))
        assert best.labels == (7,) * 2 * MAX_LABELS
        assert best.frames == (0,) * MAX_LABELS + (1,) * MAX_LABELS
        wide = decoded(model, features(8), 30)
        assert max(each.frames.count(0) for each in wide) == MAX_LABELS


def test_a_stream_that_fails_half_way_is_closed(make: Make, tmp_path: Path) -> None:
    scale = np.full((1, 80), 3e38, np.float32)
    loud = changed(make("int8", "stateless"), tmp_path / "l.edge", {}, {"transcriber.scale": scale})
    with PackedModel(loud) as model:
        stream, other = model.open(), model.open()
        with pytest.raises(EdgeSpeechError, match="overflowed"):
            accept_batch([stream, other], np.full((2, 4, 80), 100, np.float32))
        for each in (stream, other):
            with pytest.raises(EdgeSpeechError, match="the stream is closed"):
                each.accept(features(4))


def test_a_model_that_overflows_before_any_frame_opens_no_stream(make: Make, tmp_path: Path) -> None:
    bias = np.full((1, 66), np.inf, np.float32)
    loud = changed(make("int8", "stateless"), tmp_path / "l.edge", {}, {"predictor.mix.bias": bias})
    with PackedModel(loud) as model, pytest.raises(EdgeSpeechError, match="overflowed"):
        model.open()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"joiner.weight": None}, "there is no tensor joiner.weight"),
        ({"predictor.mix.weight": None}, "there is no tensor predictor.lstm.bias"),
        ({"transcriber.lstms.1.bias": None}, "there is no tensor transcriber.lstms.1.bias"),
        ({"extra": VECTOR}, "tensor extra is not one of this model's"),
        ({"joiner.bias": VECTOR}, "tensor joiner.bias: shape is 1 x 70, expected 1 x 40"),
        (
            {"transcriber.mean": VECTOR},
            "tensor transcriber.enter.weight: cols is 320, expected a multiple of 70",
        ),
        ({"transcriber.leave.0.bias": VECTOR.astype(np.float16)}, "encoding is 1, expected 0 (fp32)"),
        ({"joiner.weight": np.zeros((1, 66), np.float32)}, "rows is 1, expected at least 2"),
        ({"predictor.mix.weight": np.zeros((66, 65), np.float32)}, "cols is 65, expected a multiple of 66"),
        (
            {"transcriber.lstms.0.weight_hh_l0": np.zeros((280, 71), np.float32)},
            "shape is 280 x 71, expected 280 x 70",
        ),
    ],
)
def test_wrong_tensors(path: Path, tmp_path: Path, tensors: Any, message: str) -> None:
    wrong = changed(path, tmp_path / "w.edge", {}, tensors)
    with pytest.raises(EdgeSpeechError) as caught:
        PackedModel(wrong)
    assert message in str(caught.value)
    assert str(wrong) in str(caught.value)


def test_wrong_meta(path: Path, tmp_path: Path) -> None:
    config = tiny().model.config
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"format": "edgespeech-model-2"}, "format is 'edgespeech-model-2', expected edgespeech-model-1"),
        ({"config": None}, "config is None, expected a mapping"),
        ({"config": {"vocabulary": 40, "depth": 3}}, "key is 'depth'"),
        ({"config": config.to_mapping() | {"dropout": "some"}}, "expected numbers where they belong"),
        ({"config": replace(config, layers=3).to_mapping()}, "layers is 3, expected 2, as in the tensors"),
        ({"config": replace(config, context=2).to_mapping()}, "context is 2, expected 3"),
        (
            {"config": replace(config, predictor="lstm").to_mapping()},
            "predictor is 'lstm', expected stateless",
        ),
        ({"pieces": ["a"]}, "pieces is 1, expected 40 of them"),
        ({"pieces": [1] * 40}, "expected a list of word pieces"),
        ({"provenance": {"run": 1}}, "expected a mapping to texts"),
    ]
    for meta, message in wrong:
        file = changed(path, tmp_path / "w.edge", meta, {})
        with pytest.raises(EdgeSpeechError) as caught:
            PackedModel(file)
        assert message in str(caught.value)
        assert str(file) in str(caught.value)


def test_not_a_packed_model(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="No such file"):
        PackedModel(tmp_path / "none.edge")
    write_edge(tmp_path / "e.edge", {"w": VECTOR}, {})
    with pytest.raises(EdgeSpeechError, match=r"there is no tensor transcriber\.mean"):
        PackedModel(tmp_path / "e.edge")


def test_an_isa_of_no_processor(path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="mmx"):
        PackedModel(path, isa="mmx")
