"""Simulated equals deployed: the engine gives what the torch model that simulates it gives, in any layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgespeech.model.transducer import Transducer
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.loader import isas
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel
from edgespeech.packed.simulate import simulate, transcriptions
from edgespeech.search.beam import BeamDecoder
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.hypothesis import Hypothesis
from helpers_packed import features, prune, tiny

Frames = NDArray[np.float32]

FRAMES = 120
SQNR_FLOOR_DB = 100.0
"""Of matrices of floats, whose products add up in different orders."""
ENCODINGS = [
    Encoding(bits=32),
    Encoding(bits=16),
    Encoding(bits=8),
    Encoding(bits=8, store="sparse"),
    Encoding(bits=6, group=64),
    Encoding(bits=5, codebook=True, store="sparse"),
    Encoding(bits=4, group=64, store="sparse"),
    Encoding(bits=3, codebook=True),
    Encoding(bits=2, store="sparse"),
]


def simulated_hypothesis(twin: Transducer, beam: int, seed: int) -> Hypothesis:
    x = torch.from_numpy(features(FRAMES, seed))[None]
    encoded, _, _ = twin.transcribe(x, torch.tensor([FRAMES]))
    decoder = GreedyDecoder(twin) if beam == 1 else BeamDecoder(twin, beam)
    decoder.accept(encoded[0])
    return decoder.best


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_tokens_are_identical(tmp_path: Path, predictor: Any, encoding: Encoding) -> None:
    said: set[int] = set()
    for seed in range(2):
        trained = tiny(predictor, seed=seed)
        prune(trained.model, 0.4)
        path = tmp_path / f"{seed}.edge"
        pack(trained, Layout(matrices=encoding), path)
        twin = simulate(trained.model.config, read_edge(path).tensors)
        packed = PackedModel(path)
        for beam in (1, 4):
            stream = packed.open(beam)
            for start in range(0, FRAMES, 50):
                stream.accept(features(FRAMES, seed)[start : start + 50])
            wanted = simulated_hypothesis(twin, beam, seed)
            assert (stream.best.labels, stream.best.frames) == (wanted.labels, wanted.frames)
            assert stream.best.score == pytest.approx(wanted.score, rel=1e-5, abs=1e-4)
            said.update(wanted.labels)
            stream.close()
        packed.close()
    assert len(said) > 3, "models that say nothing prove nothing"


def both_transcriptions(folder: Path, layers: int, encoding: Encoding) -> tuple[list[Frames], Frames]:
    """The engine's, by every kernel that runs here, and the simulated one."""
    trained = tiny(layers=layers)
    prune(trained.model, 0.4)
    path = folder / "m.edge"
    pack(trained, Layout(matrices=encoding), path)
    twin = simulate(trained.model.config, read_edge(path).tensors)
    x = features(FRAMES)
    found = []
    for isa in isas():
        with PackedModel(path, isa=isa) as packed:
            found.append(packed.transcribe(x))
    wanted, _, _ = twin.transcribe(torch.from_numpy(x)[None], torch.tensor([FRAMES]))
    return found, wanted[0].numpy()


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("encoding", [one for one in ENCODINGS if not one.floats], ids=str)
def test_every_layer_is_identical_in_codes(tmp_path: Path, layers: int, encoding: Encoding) -> None:
    found, wanted = both_transcriptions(tmp_path, layers, encoding)
    assert all(np.array_equal(each, wanted) for each in found)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bits", [16, 32])
def test_every_layer_comes_near_in_floats(tmp_path: Path, layers: int, bits: int) -> None:
    found, wanted = both_transcriptions(tmp_path, layers, Encoding(bits=bits))
    for each in found:
        error = ((each.astype(np.float64) - wanted) ** 2).sum()
        assert 10 * np.log10((wanted.astype(np.float64) ** 2).sum() / max(error, 1e-30)) > SQNR_FLOOR_DB


def test_batched_utterances_give_the_same_results(tmp_path: Path) -> None:
    trained = tiny()
    path = tmp_path / "m.edge"
    pack(trained, Layout(matrices=Encoding(bits=8)), path)
    twin = simulate(trained.model.config, read_edge(path).tensors)
    utterances = [features(frames, seed) for seed, frames in enumerate((FRAMES, 40, 7, 77))]
    alone = [twin.transcribe(torch.from_numpy(x)[None], torch.tensor([len(x)]))[0][0] for x in utterances]
    found = list(transcriptions(twin, utterances, together=3))
    assert len(found) == len(alone)
    assert all(torch.equal(one, other) for one, other in zip(found, alone, strict=True))
