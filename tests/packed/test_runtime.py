"""The native runtime against numpy and torch on the same tensors, and against itself in other pieces and batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import PredictorKind
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import Tensor, read_edge
from edgespeech.packed.loader import EdgeFile, isas
from edgespeech.packed.pack import Layout, pack
from edgespeech.packed.reference import product
from edgespeech.packed.runtime import PackedModel, accept_batch
from edgespeech.packed.simulate import simulate
from edgespeech.search.beam import BeamDecoder
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.hypothesis import Changes, Hypothesis
from helpers_fusion import fusion_of
from helpers_packed import ENCODINGS, VOCABULARY, Make, decoded, features, tiny

FRAMES = 150
KINDS: tuple[PredictorKind, ...] = ("stateless", "lstm")
Floats = NDArray[np.float32]


def times(matrix: Tensor, x: Floats) -> Floats:
    """The matrix times each vector, as the format's text has it."""
    if isinstance(matrix, Codes):
        return product(matrix, x)
    return (x.astype(np.float64) @ matrix.astype(np.float64).T).astype(np.float32)


def norm(tensors: Mapping[str, Any], name: str, x: Floats) -> Floats:
    wide = x.astype(np.float64)
    spread = np.sqrt(wide.var(axis=1, keepdims=True) + 1e-5)
    normal = (wide - wide.mean(axis=1, keepdims=True)) / spread
    scaled: Floats = (normal * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]).astype(np.float32)
    return scaled


def transcription(tensors: Mapping[str, Any], layers: int, x: Floats) -> Floats:
    """The transcriber, one step after the other, in numpy."""
    normal = (x - tensors["transcriber.mean"]) * tensors["transcriber.scale"]
    enter = tensors["transcriber.enter.weight"]
    stack = (enter.codes if isinstance(enter, Codes) else enter).shape[1] // x.shape[1]
    stacked = normal[: len(x) // stack * stack].reshape(-1, stack * x.shape[1])
    y = times(enter, stacked) + tensors["transcriber.enter.bias"]
    for layer in range(layers):
        lstm = f"transcriber.lstms.{layer}"
        driven = times(tensors[f"{lstm}.weight_ih_l0"], norm(tensors, f"transcriber.norms.{layer}", y))
        hidden = np.zeros((1, y.shape[1]), np.float32)
        cell = hidden.copy()
        for step, inputs in enumerate(driven):
            gates = inputs + times(tensors[f"{lstm}.weight_hh_l0"], hidden) + tensors[f"{lstm}.bias"]
            i, f, g, o = np.split(gates.astype(np.float64), 4, axis=1)
            wide = cell / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            cell = wide.astype(np.float32)
            hidden = (np.tanh(wide) / (1 + np.exp(-o))).astype(np.float32)
            y[step] += hidden[0]
    left = norm(tensors, "transcriber.leave.0", y)
    last: Floats = times(tensors["transcriber.leave.1.weight"], left) + tensors["transcriber.leave.1.bias"]
    return last


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_transcription_is_that_of_numpy(make: Make, encoding: str) -> None:
    x = features(51)
    with PackedModel(make(encoding, "stateless")) as model:
        found = model.transcribe(x)
        expected = transcription(read_edge(model.path).tensors, model.config.layers, x)
    assert found.shape == expected.shape == (12, 66)
    # A value that is on the edge between two int8 may be rounded to either.
    tolerance = 1e-4 if ENCODINGS[encoding].floats else 0.02
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoding", ["fp32", "int8", "4 bits with zeros"])
@pytest.mark.parametrize("beam", [1, 4, 30])
def test_the_search_is_that_of_torch(make: Make, encoding: str, kind: PredictorKind, beam: int) -> None:
    x = features(80)
    with PackedModel(make(encoding, kind)) as model:
        found = decoded(model, x, beam)
        twin = simulate(model.config, read_edge(model.path).tensors)
        encoded = torch.from_numpy(model.transcribe(x))  # so that nothing but the search is compared
    decoder = GreedyDecoder(twin) if beam == 1 else BeamDecoder(twin, beam)
    decoder.accept(encoded)
    expected = [decoder.best] if isinstance(decoder, GreedyDecoder) else decoder.n_best
    assert expected[0].labels
    assert len(found) == len(expected)
    assert (found[0].labels, found[0].frames) == (expected[0].labels, expected[0].frames)
    assert [each.score for each in found] == pytest.approx([each.score for each in expected], abs=0.05)
    if encoding == "fp32":
        assert [(each.labels, each.frames) for each in found] == [
            (each.labels, each.frames) for each in expected
        ]
        assert [each.score for each in found] == pytest.approx([each.score for each in expected], abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoding", ["fp32", "int8", "4 bits with zeros"])
@pytest.mark.parametrize("beam", [1, 4])
def test_pieces_change_nothing(make: Make, encoding: str, kind: PredictorKind, beam: int) -> None:
    x = features(FRAMES)
    with PackedModel(make(encoding, kind)) as model:
        whole = decoded(model, x, beam)
        assert whole[0].labels
        for ends in (tuple(range(1, FRAMES)), (0, 3, 3, 50), tuple(range(12, FRAMES, 12)), (149,)):
            assert decoded(model, x, beam, ends) == whole


@pytest.mark.parametrize("beam", [1, 8])
def test_changes_add_up_to_the_best_hypothesis_of_long_audio(make: Make, beam: int) -> None:
    x = features(4800)  # the labels of paths that were dropped are forgotten several times meanwhile
    labels: list[int] = []
    frames: list[int] = []
    shortened = 0
    with PackedModel(make("int8", "stateless")) as model:
        stream = model.open(beam)
        for start in range(0, len(x), 12):
            stream.accept(x[start : start + 12])
            changes = stream.changes()
            shortened += changes.kept < len(labels)
            labels[changes.kept :], frames[changes.kept :] = changes.labels, changes.frames
            if start % 600 == 0:
                assert (tuple(labels), tuple(frames)) == (stream.best.labels, stream.best.frames)
            assert stream.changes() == Changes(len(labels), [], [])
        assert [(tuple(labels), tuple(frames))] == [(h.labels, h.frames) for h in decoded(model, x, beam)[:1]]
        found = decoded(model, x, beam)
        twin = simulate(model.config, read_edge(model.path).tensors)
        encoded = torch.from_numpy(model.transcribe(x))
        stream.close()
    assert len(labels) > 200
    assert (shortened > 0) == (beam > 1)
    decoder = GreedyDecoder(twin) if beam == 1 else BeamDecoder(twin, beam)
    # A greedy search drops no path, and what it has said stays as it is: its first part stands for all of it.
    decoder.accept(encoded[:300] if beam == 1 else encoded)
    count = len(decoder.best.labels)
    assert count == len(labels) if beam > 1 else count > 200
    assert (found[0].labels[:count], found[0].frames[:count]) == (decoder.best.labels, decoder.best.frames)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoding", ["fp32", "fp16", "int8", "4 bits with zeros"])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_batch_equals_its_streams_alone(make: Make, encoding: str, kind: PredictorKind, count: int) -> None:
    batch = np.stack([features(FRAMES, seed) for seed in range(count)])
    beams = [1 + n % 3 for n in range(count)]
    with PackedModel(make(encoding, kind)) as model:
        alone = [decoded(model, x, beam) for x, beam in zip(batch, beams, strict=True)]
        streams = [model.open(beam) for beam in beams]
        for start, end in ((0, 2), (2, 2), (2, 14), (14, 90), (90, FRAMES)):
            accept_batch(streams, batch[:, start:end])
        assert [stream.n_best for stream in streams] == alone
    assert len({found[0].labels for found in alone}) == count


def test_a_batch_of_streams_that_wait_for_different_numbers_of_frames(path: Path) -> None:
    with PackedModel(path) as model:
        streams = [model.open() for _ in range(3)]
        for lead, stream in enumerate(streams):
            stream.accept(features(lead, seed=lead))
        accept_batch(streams, np.stack([features(60)] * 3))
        for lead, stream in enumerate(streams):
            assert stream.n_best == decoded(model, np.concatenate([features(lead, seed=lead), features(60)]))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_isa_gives_the_same_bits(make: Make, encoding: str) -> None:
    x = features(FRAMES)
    found = []
    for isa in isas():
        with PackedModel(make(encoding, "lstm"), isa=isa) as model:
            assert model.isa == isa
            found.append((model.transcribe(x).tobytes(), decoded(model, x, 3)))
    assert found == [found[0]] * len(found)


@pytest.mark.parametrize("isa", isas())
def test_copies_are_made_by_the_first_products_where_decoding_takes_long(make: Make, isa: str) -> None:
    sizes = {}
    for encoding in ("fp32", "int8", "4 bits with zeros", "codebook"):
        with PackedModel(make(encoding, "stateless"), isa=isa) as model:
            assert model.copied_bytes == 0
            decoded(model, features(40))
            sizes[encoding] = model.copied_bytes
            decoded(model, features(40))
            assert model.copied_bytes == sizes[encoding]
    tensors = read_edge(make("codebook", "stateless")).tensors.values()
    weights = sum(tensor.codes.size for tensor in tensors if isinstance(tensor, Codes))
    assert sizes["fp32"] == sizes["int8"] == 0
    if isa == "avx2":
        assert sizes["codebook"] > weights / 2
        assert 0 < sizes["4 bits with zeros"] < sizes["codebook"]
    else:
        assert set(sizes.values()) == {0}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beam", [1, 4, 30])
def test_what_was_searched_before_changes_no_bit(tmp_path: Path, kind: PredictorKind, beam: int) -> None:
    """A model remembers predictions and language-model scores by the last labels; a new one has none to remember."""
    path = tmp_path / "fused.edge"
    trained = replace(tiny(kind), fusion=fusion_of(VOCABULARY, label=3))
    pack(trained, Layout(matrices=ENCODINGS["4 bits with zeros"]), path)
    utterances = [features(FRAMES, seed) for seed in range(4)]
    with PackedModel(path) as model:
        found = [decoded(model, x, beam) for x in (*utterances, *utterances)]
    expected = []
    for x in utterances:
        with PackedModel(path) as model:
            expected.append(decoded(model, x, beam))
    assert found == expected * 2
    assert len({each[0].score for each in expected}) == len(utterances)
    assert all(len(set(each[0].labels)) > 2 for each in expected)


def test_threads_share_a_model(path: Path) -> None:
    with PackedModel(path) as model:
        alone = [decoded(model, features(FRAMES, seed), 2) for seed in range(4)]
        found: dict[int, list[Hypothesis]] = {}

        def work(seed: int) -> None:
            for _ in range(5):
                found[seed] = decoded(model, features(FRAMES, seed), 2, tuple(range(12, FRAMES, 12)))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[seed] for seed in range(4)] == alone


def test_two_threads_in_one_stream_are_refused(path: Path) -> None:
    with PackedModel(path) as model:
        stream = model.open()
        refused: list[str] = []

        def accept(x: Floats) -> None:
            try:
                stream.accept(x)
            except EdgeSpeechError as error:
                refused.append(str(error))

        for _ in range(20):  # one may be through before the other begins
            thread = threading.Thread(target=accept, args=(features(40_000),))
            thread.start()
            while thread.is_alive() and not refused:
                accept(features(4))
            thread.join()
            if refused:
                break
        assert set(refused) == {f"{path}: the stream is in use by another call"}
        stream.accept(features(4))


def test_use_after_close(path: Path) -> None:
    model = PackedModel(path)
    kept, closed = model.open(), model.open()
    expected = decoded(model, features(40))
    closed.close()
    closed.close()
    uses: list[Callable[[], object]] = [
        lambda: closed.accept(features(4)),
        lambda: closed.best,
        lambda: closed.n_best,
        lambda: closed.state_bytes,
        lambda: accept_batch([kept, closed], np.zeros((2, 4, 80), np.float32)),
    ]
    for use in uses:
        with pytest.raises(EdgeSpeechError, match="the stream is closed"):
            use()
    model.close()
    model.close()
    for use in (model.open, lambda: model.transcribe(features(4)), lambda: model.packed_bytes):
        with pytest.raises(EdgeSpeechError, match="the model is closed"):
            use()
    kept.accept(features(40))  # untouched by the batch that failed, and by the closed model
    assert kept.n_best == expected


def test_without_audio(path: Path) -> None:
    with PackedModel(path) as model:
        assert decoded(model, features(0)) == decoded(model, features(3)) == [Hypothesis()]
        assert decoded(model, features(0), 4) == [Hypothesis()]
        assert model.transcribe(features(3)).shape == (0, 66)


@pytest.mark.parametrize("kind", KINDS)
def test_state_is_counted(make: Make, kind: PredictorKind) -> None:
    with PackedModel(make("int8", kind)) as model:
        transcriber = 2 * 2 * 70 * 4  # output and cell of two layers
        path_bytes = 66 * 4 + (3 * 4 if kind == "stateless" else 2 * 66 * 4)
        stream = model.open()
        assert stream.state_bytes == transcriber + path_bytes
        stream.accept(features(7))
        assert stream.state_bytes == transcriber + path_bytes + 3 * 80 * 4
        wide = model.open(3)
        wide.accept(features(40))
        assert wide.state_bytes == transcriber + 3 * path_bytes


def test_what_a_model_tells(path: Path) -> None:
    trained = tiny()
    with PackedModel(path) as model, EdgeFile(path) as file:
        assert model.config == trained.model.config
        assert model.pieces == trained.tokeniser.pieces
        assert model.provenance["run"] == "trial"
        assert model.packed_bytes == file.packed_bytes
