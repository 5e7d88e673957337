from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from replication.az_execution.accelerator_trace import VECTORS, listen

from edgespeech.arms.accelerator import NUMBERS, load_numbers, multiply
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.config import PredictorKind
from edgespeech.model.transducer import Transducer
from edgespeech.packed.codes import Codes
from edgespeech.packed.pack import EMBEDDING, Encoding, Layout, pack_tensors, weights_of
from edgespeech.search.greedy import GreedyDecoder
from helpers_packed import features, tiny

KINDS = get_args(PredictorKind)
UTTERANCES = [features(40), features(27, seed=1)]
FRAMES = 10 + 6  # transcriber frames; a rest of 3 feature frames is dropped


def labels(model: Transducer) -> int:
    total = 0
    for utterance in UTTERANCES:
        encoded, _, _ = model.transcribe(torch.from_numpy(utterance[None]), torch.tensor([len(utterance)]))
        decoder = GreedyDecoder(model)
        decoder.accept(encoded[0])
        total += len(decoder.best.labels)
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_counted(kind: PredictorKind) -> None:
    model = tiny(kind).model
    said = labels(model)
    assert said > 0
    found = listen(model, UTTERANCES)
    predictions = said + len(UTTERANCES)  # one before the first label of each
    assert found.audio_s == pytest.approx(FRAMES * 0.04)
    assert found.calls["transcriber"] == FRAMES
    assert found.calls["predictor"] == predictions
    # A frame of the most labels ends with a blank that the joiner is asked for all the same.
    assert found.calls["joiner"] == FRAMES + said
    assert found.lookups == predictions * (model.config.context if kind == "stateless" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_packed_matrix_has_its_inputs(kind: PredictorKind) -> None:
    model = tiny(kind).model
    found = listen(model, UTTERANCES)
    matrices = {
        name: w.shape[1] for name, w in weights_of(model).items() if w.ndim == 2 and name != EMBEDDING
    }
    assert {name: x.shape[1] for name, x in found.inputs.items()} == matrices
    one = load_numbers(NUMBERS).processors[0]
    tensors = pack_tensors(model, Layout(matrices=Encoding(bits=5)))
    for name, x in found.inputs.items():
        codes = tensors[name]
        assert isinstance(codes, Codes)
        assert 0 < multiply(codes, one, x).macs <= multiply(codes, one).macs


def test_the_inputs_are_those_that_the_packed_matrices_are_multiplied_with() -> None:
    model = tiny("stateless").model
    found = listen(model, UTTERANCES).inputs
    weights = weights_of(model)
    mixed = found["predictor.mix.weight"] @ weights["predictor.mix.weight"].T + weights["predictor.mix.bias"]
    np.testing.assert_allclose(np.maximum(mixed, 0), found["predictor.leave.weight"], atol=1e-5)
    # The gates of each LSTM, from its two inputs: its output is the next frame's recurrent input.
    name = "transcriber.lstms.1"
    gates = (
        found[f"{name}.weight_ih_l0"] @ weights[f"{name}.weight_ih_l0"].T
        + found[f"{name}.weight_hh_l0"] @ weights[f"{name}.weight_hh_l0"].T
        + weights[f"{name}.bias"]
    )
    i, f, g, o = np.split(gates, 4, axis=1)
    first = slice(0, 10)  # of the first utterance
    cell = np.zeros_like(i[0])
    before = np.zeros_like(i[0])
    for frame in range(first.stop):
        np.testing.assert_allclose(found[f"{name}.weight_hh_l0"][frame], before, atol=1e-5)
        cell = cell / (1 + np.exp(-f[frame])) + np.tanh(g[frame]) / (1 + np.exp(-i[frame]))
        before = np.tanh(cell) / (1 + np.exp(-o[frame]))
    assert not found[f"{name}.weight_hh_l0"][10].any()  # the second utterance starts afresh


def test_long_speech_is_sampled_from_start_to_end() -> None:
    model = tiny(layers=1, hidden=4).model
    found = listen(model, [features(4 * (VECTORS + 50))])
    assert found.calls["transcriber"] == VECTORS + 50
    kept = found.inputs["transcriber.enter.weight"]
    assert len(kept) == VECTORS
    every = listen(model, [features(4 * (VECTORS + 50))[:4]]).inputs["transcriber.enter.weight"]
    assert (kept[0] == every[0]).all()
    assert len(np.unique(kept, axis=0)) == VECTORS


def test_the_model_is_left_as_it_was() -> None:
    model = tiny().model
    listen(model, UTTERANCES)
    with pytest.raises(EdgeSpeechError):
        listen(model, [np.zeros((8, 7), np.float32)])
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("utterances", [[], [features(3)]])
def test_no_speech_is_refused(utterances: list[np.ndarray[tuple[int, int], np.dtype[np.float32]]]) -> None:
    with pytest.raises(EdgeSpeechError, match="no speech"):
        listen(tiny().model, utterances)
