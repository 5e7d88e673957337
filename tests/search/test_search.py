"""Greedy and beam search against slow, obvious ones that see the whole lattice."""

from __future__ import annotations

from itertools import pairwise, product
from math import exp, log

import pytest
import torch
from torch import Tensor

from edgespeech.core.labels import BLANK
from edgespeech.model.config import ModelConfig, PredictorKind
from edgespeech.model.transducer import StatelessPredictor, Transducer
from edgespeech.search.beam import BeamDecoder
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.hypothesis import Hypothesis
from helpers_fusion import fusion_of

KINDS: tuple[PredictorKind, ...] = ("stateless", "lstm")


def model_of(
    kind: PredictorKind = "stateless", *, vocabulary: int = 4, seed: int = 0, sharp: float = 8
) -> Transducer:
    """A random model that is rather sure of what it says, and says about as many labels as blanks."""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocabulary=vocabulary, layers=1, hidden=8, joiner=8, predictor=kind, context=2, dropout=0
    )
    model = Transducer(config).eval().requires_grad_(False)
    model.joiner.weight *= sharp
    model.joiner.bias[BLANK] += 1
    return model


def frames_of(count: int, seed: int = 0) -> Tensor:
    """A transcription with shape `(T, 8)`."""
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


def lattice(model: Transducer, encoded: Tensor, labels: tuple[int, ...]) -> Tensor:
    """Log-probabilities `(T, V)` of what follows these labels, by the predictor as in training."""
    predicted = model.predict(torch.tensor([labels], dtype=torch.int64))[0, -1]
    scores: Tensor = model.join(encoded, predicted).double().log_softmax(-1)
    return scores


def exhaustive(model: Transducer, encoded: Tensor, max_labels: int) -> dict[tuple[int, ...], float]:
    """The log-probability of every label sequence: all its alignments are walked and added up."""
    inside = [
        labels
        for count in range(max_labels + 1)
        for labels in product(range(1, model.config.vocabulary), repeat=count)
    ]
    scores: dict[tuple[int, ...], Tensor] = {}
    total: dict[tuple[int, ...], float] = {}
    for alignment in product(inside, repeat=len(encoded)):
        said: tuple[int, ...] = ()
        score = 0.0
        for frame, labels in enumerate(alignment):
            for label in (*labels, BLANK):
                if said not in scores:
                    scores[said] = lattice(model, encoded, said)
                score += float(scores[said][frame, label])
                said = (*said, label) if label != BLANK else said
        total[said] = total.get(said, 0.0) + exp(score)
    return {labels: log(probability) for labels, probability in total.items()}


def obvious_greedy(model: Transducer, encoded: Tensor, max_labels: int) -> Hypothesis:
    labels: tuple[int, ...] = ()
    frames: tuple[int, ...] = ()
    score = 0.0
    for frame in range(len(encoded)):
        for spent in range(max_labels + 1):
            row = lattice(model, encoded, labels)[frame]
            label = int(row.argmax()) if spent < max_labels else BLANK
            score += float(row[label])
            if label == BLANK:
                break
            labels, frames = (*labels, label), (*frames, frame)
    return Hypothesis(labels, frames, score)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_the_obvious_greedy(kind: PredictorKind, seed: int) -> None:
    model, encoded = model_of(kind, vocabulary=6, seed=seed), frames_of(12, seed)
    decoder = GreedyDecoder(model, max_labels=3)
    decoder.accept(encoded)
    expected = obvious_greedy(model, encoded, 3)
    assert 0 < len(expected.labels) < 36
    assert decoder.best.labels == expected.labels
    assert decoder.best.frames == expected.frames
    assert decoder.best.score == pytest.approx(expected.score, abs=1e-4)


def test_a_frame_has_no_more_labels_than_allowed() -> None:
    model, encoded = model_of(), frames_of(5)
    model.joiner.bias[2] += 100
    decoder = GreedyDecoder(model, max_labels=2)
    decoder.accept(encoded)
    assert decoder.best.labels == (2,) * 10
    assert decoder.best.frames == (0, 0, 1, 1, 2, 2, 3, 3, 4, 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beam", [1, 3])
def test_pieces_change_nothing(kind: PredictorKind, beam: int) -> None:
    model, encoded = model_of(kind, vocabulary=6), frames_of(12)
    results = []
    for ends in ([12], list(range(1, 13)), [0, 5, 5, 12]):
        decoder = GreedyDecoder(model) if beam == 1 else BeamDecoder(model, beam)
        for start, end in pairwise([0, *ends]):
            decoder.accept(encoded[start:end])
        results.append(decoder.best)
    assert results[0].labels
    assert results[0] == results[1] == results[2]


def test_before_any_audio_the_hypothesis_is_empty() -> None:
    assert GreedyDecoder(model_of()).best == Hypothesis()
    assert BeamDecoder(model_of(), 3).best == Hypothesis()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("frames", "max_labels", "vocabulary"), [(2, 2, 4), (3, 1, 4), (3, 2, 3), (1, 3, 3)])
def test_a_wide_beam_finds_every_sequence_and_its_probability(
    kind: PredictorKind, frames: int, max_labels: int, vocabulary: int
) -> None:
    model, encoded = model_of(kind, vocabulary=vocabulary, sharp=3), frames_of(frames)
    decoder = BeamDecoder(model, 1000, max_labels)
    decoder.accept(encoded)
    expected = exhaustive(model, encoded, max_labels)
    found = {hypothesis.labels: hypothesis.score for hypothesis in decoder.n_best}
    assert found == pytest.approx(expected, abs=1e-5)
    scores = [hypothesis.score for hypothesis in decoder.n_best]
    assert scores == sorted(scores, reverse=True)
    assert len(found) == len(decoder.n_best)


@pytest.mark.parametrize("seed", range(3))
def test_a_narrow_beam_loses_probability_and_never_invents_any(seed: int) -> None:
    model, encoded = model_of(vocabulary=4, seed=seed, sharp=3), frames_of(3, seed)
    expected = exhaustive(model, encoded, 1)
    decoder = BeamDecoder(model, 3, max_labels=1)
    decoder.accept(encoded)
    assert len(decoder.n_best) == 3
    for hypothesis in decoder.n_best:
        assert hypothesis.score <= expected[hypothesis.labels] + 1e-5
    assert decoder.best.labels == max(expected, key=lambda labels: expected[labels])


def frank_model() -> Transducer:
    """Says, in every frame, the labels that the frame marks, but for the two that it said last."""
    config = ModelConfig(vocabulary=6, layers=1, hidden=8, joiner=6, context=2)
    model = Transducer(config).eval().requires_grad_(False)
    assert isinstance(model.predictor, StatelessPredictor)
    eye = torch.eye(6)
    model.predictor.embedding.weight.copy_(eye)
    model.predictor.embedding.weight[BLANK] = 0
    model.predictor.mix.weight.copy_(torch.stack([eye, eye], dim=2))
    model.predictor.leave.weight.copy_(-2 * eye)
    model.joiner.weight.copy_(100 * eye)
    for layer in (model.predictor.mix, model.predictor.leave, model.joiner):
        assert layer.bias is not None
        layer.bias.zero_()
    return model


@pytest.mark.parametrize("beam", [None, 1, 2, 5])
def test_what_is_plain_is_found_where_it_is(beam: int | None) -> None:
    encoded = torch.zeros(6, 6)
    encoded[:, BLANK] = 0.3
    for frame, label, mark in ((1, 3, 0.9), (2, 3, 0.9), (4, 2, 0.9), (4, 5, 0.6), (5, 1, 0.9)):
        encoded[frame, label] = mark
    model = frank_model()
    decoder = GreedyDecoder(model) if beam is None else BeamDecoder(model, beam)
    decoder.accept(encoded)
    assert decoder.best.labels == (3, 2, 5, 1)
    assert decoder.best.frames == (1, 4, 4, 5)
    assert decoder.best.score == pytest.approx(0, abs=1e-6)


def test_merging_adds_probabilities_and_keeps_the_likelier_frames() -> None:
    """Two frames, one label: said in the first frame or in the second, by a model that forgets what it said."""
    model = model_of(vocabulary=2)
    for parameter in model.predictor.parameters():
        parameter.zero_()
    encoded = frames_of(2)
    decoder = BeamDecoder(model, 100, max_labels=1)
    decoder.accept(encoded)
    blank, label = model.join(encoded, torch.zeros(8)).double().softmax(-1).T
    # After a label, its frame has to be left by a blank.
    early = float(label[0] * blank[0] * blank[1])
    late = float(blank[0] * label[1] * blank[1])
    said = next(hypothesis for hypothesis in decoder.n_best if hypothesis.labels == (1,))
    assert exp(said.score) == pytest.approx(early + late, rel=1e-4)
    assert said.frames == ((0,) if early > late else (1,))


def test_state_is_counted() -> None:
    model = model_of("stateless")
    assert GreedyDecoder(model).state_bytes == 8 * 4 + 2 * 8
    assert GreedyDecoder(model_of("lstm")).state_bytes == 3 * 8 * 4
    beam = BeamDecoder(model, 3)
    beam.accept(frames_of(3))
    assert beam.state_bytes == 3 * GreedyDecoder(model).state_bytes


def test_a_wide_search_adds_what_fusion_says_of_every_label() -> None:
    model, encoded, fusion = model_of(), frames_of(3), fusion_of(4)
    decoder = BeamDecoder(model, 100_000, max_labels=2, fusion=fusion)
    decoder.accept(encoded)
    found = {hypothesis.labels: hypothesis.score for hypothesis in decoder.n_best}
    alone = exhaustive(model, encoded, 2)
    assert found.keys() == alone.keys()
    for labels, score in alone.items():
        added = sum(float(fusion.scores(labels[:place])[label]) for place, label in enumerate(labels))
        assert found[labels] == pytest.approx(score + added, rel=1e-6)
    assert max(found, key=lambda labels: found[labels]) == decoder.best.labels
