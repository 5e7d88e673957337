"""Phrases in every search: torch and native alike, no unfinished phrase, and nothing where there are none."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
import torch

from edgespeech.biasing.phrases import PhraseBias
from edgespeech.contracts import SAMPLE_RATE
from edgespeech.core.labels import BLANK
from edgespeech.corpora.phrases import load_phrases
from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import paths
from edgespeech.lattice.phrases import add_phrases
from edgespeech.lattice.search import LatticeDecoder
from edgespeech.lm.fusion import Fusion
from edgespeech.model.config import ModelConfig
from edgespeech.model.transducer import Transducer
from edgespeech.packed.edge_file import read_edge
from edgespeech.packed.log_mel import NativeLogMel
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel, accept_batch
from edgespeech.packed.simulate import simulate
from edgespeech.search.beam import BeamDecoder
from edgespeech.search.constraint import GrammarScores
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.hypothesis import Hypothesis
from edgespeech.systems.edge_packed import EdgePacked
from edgespeech.text.grammar import load_grammar
from helpers_bias import biased, score, written
from helpers_fusion import fusion_of
from helpers_packed import VOCABULARY, features, tiny

PIECES = tiny().tokeniser.pieces
PHRASES = ("some light", "on", "turn", "play the music", "the", *"lmopst")
BOOST = 15.0
"""So that it outweighs a random model, which is sure of what it says."""


def bias_of(*phrases: str, boost: float = BOOST) -> PhraseBias:
    return PhraseBias(PIECES, phrases or PHRASES, boost=boost)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "model.edge"
    pack(tiny(), Layout(matrices=Encoding(bits=32)), path)
    return path


def decoded(
    packed: Path, beam: int, bias: PhraseBias | None, fusion: Fusion | None = None, seed: int = 0
) -> list[Hypothesis]:
    """By torch."""
    with PackedModel(packed) as model:
        encoded = torch.from_numpy(model.transcribe(features(120, seed)))
        twin = simulate(model.config, read_edge(packed).tensors)
    if beam == 1:
        greedy = GreedyDecoder(twin, bias=bias)
        greedy.accept(encoded)
        return [greedy.best]
    decoder = BeamDecoder(twin, beam, fusion=fusion, bias=bias)
    decoder.accept(encoded)
    assert decoder.best == decoder.n_best[0]
    return decoder.n_best


def native_of(packed: Path, beam: int, bias: PhraseBias | None, seed: int = 0) -> list[Hypothesis]:
    with PackedModel(packed) as model, closing(model.open(beam, bias)) as stream:
        stream.accept(features(120, seed))
        assert stream.best == stream.n_best[0]
        return stream.n_best


@pytest.mark.parametrize("beam", [1, 4, 16])
@pytest.mark.parametrize("seed", range(3))
def test_torch_and_the_engine_say_the_same(packed: Path, beam: int, seed: int) -> None:
    bias = bias_of()
    ours, native = decoded(packed, beam, bias, seed=seed), native_of(packed, beam, bias, seed)
    assert [(one.labels, one.frames) for one in native] == [(one.labels, one.frames) for one in ours]
    assert [one.score for one in native] == pytest.approx([one.score for one in ours], abs=1e-3)
    assert ours[0].labels != decoded(packed, beam, None, seed=seed)[0].labels


@pytest.mark.parametrize("beam", [4])
def test_torch_and_the_engine_say_the_same_with_a_language_model(
    packed: Path, tmp_path: Path, beam: int
) -> None:
    fusion = fusion_of(VOCABULARY)
    trained = tiny()
    path = tmp_path / "fused.edge"
    pack(replace(trained, fusion=fusion), Layout(matrices=Encoding(bits=32)), path)
    bias = bias_of()
    ours, native = decoded(packed, beam, bias, fusion), native_of(path, beam, bias)
    assert [(one.labels, one.frames) for one in native] == [(one.labels, one.frames) for one in ours]


@pytest.mark.parametrize("beam", [1, 4])
def test_no_phrases_are_bit_identical_to_none(packed: Path, beam: int) -> None:
    for phrases in ((), ("", "東京")):
        empty = PhraseBias(PIECES, phrases)
        assert decoded(packed, beam, empty) == decoded(packed, beam, None)
        assert native_of(packed, beam, empty) == native_of(packed, beam, None)


def wide() -> tuple[Transducer, torch.Tensor, tuple[str, ...]]:
    """A small model whose beam loses nothing, its frames, and its pieces."""
    torch.manual_seed(0)
    model = Transducer(ModelConfig(vocabulary=5, layers=1, hidden=8, joiner=8, context=2, dropout=0)).eval()
    model.requires_grad_(False)
    model.joiner.weight *= 8
    model.joiner.bias[BLANK] += 1
    encoded = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    return model, encoded, ("<blk>", "▁a", "b", "▁b", "a")


def every_alignment(
    model: Transducer, encoded: torch.Tensor, pieces: tuple[str, ...], boosts: dict[str, float], most: int
) -> dict[tuple[int, ...], float]:
    """The probability of every label sequence, the bonus of an unfinished phrase taken back: all alignments, one by
    one.
    """
    found: dict[tuple[int, ...], float] = {}

    def go(labels: tuple[int, ...], frame: int, spent: int, total: float) -> None:
        if frame == len(encoded):
            found[labels] = found.get(labels, 0.0) + exp(total)
            return
        predicted = model.predict(torch.tensor([labels], dtype=torch.int64))[:, -1]
        plain = model.join(encoded[frame : frame + 1], predicted)[0].double().log_softmax(dim=0).tolist()
        scores = biased(plain, labels, pieces, boosts)
        go(labels, frame + 1, 0, total + scores[BLANK])
        if spent < most:
            for label in range(1, len(pieces)):
                go((*labels, label), frame, spent + 1, total + scores[label])

    go((), 0, 0, 0.0)

    def taken_back(labels: tuple[int, ...]) -> float:
        text = written(labels, pieces)
        return score(text, boosts, ended=True) - score(text, boosts, ended=False)

    return {labels: log(value) + taken_back(labels) for labels, value in found.items()}


def test_a_beam_that_loses_nothing_finds_what_the_obvious_search_finds() -> None:
    model, encoded, pieces = wide()
    encoded = encoded[:2]
    phrases = ("ab ba", "babab", "b", "a bab")
    decoder = BeamDecoder(model, 100_000, 2, bias=PhraseBias(pieces, phrases, boost=1.5))
    decoder.accept(encoded)
    found = {one.labels: one.score for one in decoder.n_best}
    boosts = dict.fromkeys((f" {phrase}" for phrase in phrases), 1.5)
    expected = every_alignment(model, encoded, pieces, boosts, 2)
    assert len(found) > 100
    assert found == pytest.approx(expected, abs=1e-4)
    assert decoder.best.labels == max(expected, key=lambda labels: expected[labels])


def silent(frames: int) -> tuple[Transducer, torch.Tensor]:
    """A model whose blank has about 0.99, and frames of noise."""
    torch.manual_seed(0)
    model = Transducer(ModelConfig(vocabulary=VOCABULARY, layers=1, hidden=8, joiner=8, context=2, dropout=0))
    model.eval().requires_grad_(False)
    model.joiner.bias.zero_()
    model.joiner.bias[BLANK] = log(99 * (VOCABULARY - 1))
    return model, torch.randn(frames, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("beam", [1, 4, 16])
def test_a_list_writes_nothing_into_silence(beam: int) -> None:
    model, encoded = silent(50)
    shares = model.join(encoded, model.start(1)[0]).softmax(dim=1)[:, BLANK]
    assert 0.97 < float(shares.min()) <= float(shares.max()) < 0.997
    for bias in (None, bias_of()):
        decoder = GreedyDecoder(model, bias=bias) if beam == 1 else BeamDecoder(model, beam, bias=bias)
        decoder.accept(encoded)
        assert decoder.best.labels == ()


@pytest.mark.parametrize("beam", [1, 16])
@pytest.mark.parametrize("level", [0.0, 1e-3])
def test_the_shipped_model_writes_no_phrase_into_a_long_pause(beam: int, level: float) -> None:
    noise = level * np.random.default_rng(0).standard_normal(8 * SAMPLE_RATE)
    extractor = NativeLogMel()
    pause = [extractor.accept(noise.astype(np.float32)), extractor.finish()]
    with PackedModel(EdgePacked().path()) as model:
        for bias in (None, PhraseBias(model.pieces, load_phrases("coffee"), boost=4.0)):
            with closing(model.open(beam, bias)) as stream:
                stream.accept(np.ascontiguousarray(np.concatenate(pause)))
                assert stream.best.labels == ()


def every(lattice: Lattice) -> dict[str, float]:
    return {path.text: path.score for path in paths(lattice)}


@pytest.mark.parametrize("merge", [None, 2, 3])
def test_the_bonus_comes_out_of_a_lattice_again(merge: int | None) -> None:
    """States that differ in their phrase are not merged: each path has its own bonus, which can be removed."""
    model, encoded, pieces = wide()
    phrases = ("ab ba", "b", "a bab")
    bias = PhraseBias(pieces, phrases, boost=0.75)
    lattices = []
    for one in (None, bias):
        decoder = LatticeDecoder(model, 100_000, merge, 2, bias=one)
        decoder.accept(encoded)
        lattices.append(decoder.lattice(pieces))
    plain, biased = every(lattices[0]), every(lattices[1])
    undone = every(add_phrases(lattices[1], bias, -1))
    assert undone.keys() == biased.keys()
    boosts = dict.fromkeys((f" {phrase}" for phrase in phrases), 0.75)
    for text, value in biased.items():
        words = "".join(f" {word}" for word in text.split())
        assert undone[text] == pytest.approx(value - score(words, boosts, ended=True), abs=1e-2)
    if merge is None:  # nothing was pruned
        assert len(undone.keys() & plain.keys()) > 20
        for text in undone.keys() & plain.keys():
            assert undone[text] == pytest.approx(plain[text], abs=0.1)  # of equal words, see `build`


def test_a_bonus_after_the_search_is_that_of_the_search() -> None:
    model, encoded, pieces = wide()
    bias = PhraseBias(pieces, ("ab ba", "b", "a bab"), boost=0.75)
    decoder = LatticeDecoder(model, 100_000, 2, 2)
    decoder.accept(encoded)
    lattice = decoder.lattice(pieces)
    again = add_phrases(add_phrases(lattice, bias, 1.0), bias, -1.0)
    assert every(again) == pytest.approx(every(lattice), abs=1e-6)
    boosts = {" ab ba": 0.75, " b": 0.75, " a bab": 0.75}
    before, after = every(lattice), every(add_phrases(lattice, bias, 2.0))
    for text, value in before.items():
        words = "".join(f" {word}" for word in text.split())
        assert after[text] == pytest.approx(value + 2 * score(words, boosts, ended=True), abs=1e-6)


def test_the_lattice_search_follows_its_beam_search(packed: Path) -> None:
    with PackedModel(packed) as model:
        encoded = torch.from_numpy(model.transcribe(features(60)))
        twin = simulate(model.config, read_edge(packed).tensors)
    bias = bias_of()
    plain, lattice = BeamDecoder(twin, 4, bias=bias), LatticeDecoder(twin, 4, None, bias=bias)
    plain.accept(encoded)
    lattice.accept(encoded)
    assert (lattice.best.labels, lattice.best.frames) == (plain.best.labels, plain.best.frames)
    assert lattice.best.score == pytest.approx(plain.best.score)


def test_a_grammar_leads_the_search_beside_phrases(packed: Path, tmp_path: Path) -> None:
    grammar = tmp_path / "lights.yaml"
    grammar.write_text(
        'about: One light.\nintents: {light: {rule: light}}\nrules: {light: ["turn on the light"]}\n'
    )
    with PackedModel(packed) as model:
        encoded = torch.from_numpy(model.transcribe(features(60)))
        twin = simulate(model.config, read_edge(packed).tensors)
    graph, bias = load_grammar(grammar).graph, bias_of()
    found = {}
    for penalty in (0.0, 30.0):
        scores = GrammarScores(fusion_of(VOCABULARY), graph, PIECES, penalty)
        for one in (None, bias):
            decoder = BeamDecoder(twin, 4, fusion=scores, bias=one)
            decoder.accept(encoded)
            found[penalty, one is not None] = decoder.best
    plain = BeamDecoder(twin, 4, fusion=fusion_of(VOCABULARY), bias=bias)
    plain.accept(encoded)
    assert found[0.0, True] == plain.best
    assert len({one.labels for one in found.values()}) > 2


def test_a_list_changes_no_other_stream(packed: Path) -> None:
    batch = np.stack([features(120, seed) for seed in range(3)])
    with PackedModel(packed) as model:
        streams = [model.open(4), model.open(4, bias_of()), model.open(1)]
        for start in range(0, 120, 12):
            accept_batch(streams, np.ascontiguousarray(batch[:, start : start + 12]))
        together = [stream.n_best for stream in streams]
        for stream in streams:
            stream.close()
    alone = [native_of(packed, 4, None, 0), native_of(packed, 4, bias_of(), 1), native_of(packed, 1, None, 2)]
    assert together == alone


def test_pieces_of_audio_change_nothing(packed: Path) -> None:
    with PackedModel(packed) as model, closing(model.open(4, bias_of())) as stream:
        for start in range(0, 120, 7):
            stream.accept(features(120)[start : start + 7])
        assert stream.n_best == native_of(packed, 4, bias_of())


def test_the_greedy_search_goes_on_after_an_unfinished_phrase(packed: Path) -> None:
    """What an unfinished phrase had is lost whatever comes: it must not hold the search in place."""
    huge = bias_of("turn on the light play some music", boost=10)
    plain = decoded(packed, 1, None)[0]
    assert len(decoded(packed, 1, huge)[0].labels) >= len(plain.labels) / 2


def test_phrases_of_other_pieces_are_refused(packed: Path) -> None:
    with PackedModel(packed) as model, pytest.raises(EdgeSpeechError, match="phrases are of 5 word pieces"):
        model.open(4, PhraseBias(("<blk>", "▁a", "b", "▁b", "a"), ("ab",)))
