"""The search that keeps all it has seen, against `BeamDecoder` and against going through every alignment."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import exp, log

import pytest
import torch
from torch import Tensor

from edgespeech.core.labels import BLANK
from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice import build as lattice_build
from edgespeech.lattice.build import determinised
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import best_path, n_best, paths, posteriors
from edgespeech.lattice.search import LatticeDecoder, log_probability, prediction_scores
from edgespeech.lm.fusion import Fusion
from edgespeech.model.config import ModelConfig, PredictorKind
from edgespeech.model.transducer import StatelessPredictor, Transducer
from edgespeech.search.beam import BeamDecoder
from helpers_fusion import fusion_of

KINDS: tuple[PredictorKind, ...] = ("stateless", "lstm")
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
WHOLE = ("<blk>", f"{SPACE}a", f"{SPACE}b", f"{SPACE}c")
"""Every piece is a word."""
PARTS = ("<blk>", f"{SPACE}a", "b", SPACE, f"{SPACE}ab", "c")


def model_of(
    kind: PredictorKind = "stateless", vocabulary: int = 4, seed: int = 0, sharp: float = 3
) -> Transducer:
    torch.manual_seed(seed)
    config = ModelConfig(
        vocabulary=vocabulary, layers=1, hidden=8, joiner=8, predictor=kind, context=2, dropout=0
    )
    model = Transducer(config).eval().requires_grad_(False)
    model.joiner.weight *= sharp
    model.joiner.bias[BLANK] += 1
    return model


def frames_of(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


def decoded(
    model: Transducer, encoded: Tensor, beam: int, merge: int | None, most: int = 2
) -> LatticeDecoder:
    decoder = LatticeDecoder(model, beam, merge, most)
    decoder.accept(encoded)
    return decoder


def texts(lattice: Lattice) -> dict[str, float]:
    return {path.text: path.score for path in paths(lattice)}


def spelled(labels: tuple[int, ...], pieces: tuple[str, ...]) -> str:
    return " ".join("".join(pieces[label] for label in labels).replace(SPACE, " ").split())


def every_sentence(
    model: Transducer, encoded: Tensor, most: int, pieces: tuple[str, ...]
) -> dict[str, float]:
    """The probability of every sentence: a beam that nothing falls out of."""
    decoder = BeamDecoder(model, 10_000, most)
    decoder.accept(encoded)
    found: Counter[str] = Counter()
    for hypothesis in decoder.n_best:
        found[spelled(hypothesis.labels, pieces)] += exp(hypothesis.score)  # type: ignore[assignment]
    total = sum(found.values())
    return {text: share / total for text, share in found.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fusion", [None, fusion_of(6)])
def test_unmerged_it_is_the_beam_search(kind: PredictorKind, seed: int, fusion: Fusion | None) -> None:
    model, encoded = model_of(kind, 6, seed, sharp=8), frames_of(12, seed)
    plain = BeamDecoder(model, 3, fusion=fusion)
    plain.accept(encoded)
    decoder = LatticeDecoder(model, 3, None, fusion=fusion)
    decoder.accept(encoded[:5])
    decoder.accept(encoded[5:])
    assert (decoder.best.labels, decoder.best.frames) == (plain.best.labels, plain.best.frames)
    assert decoder.best.score == pytest.approx(plain.best.score)
    assert decoder.state_bytes == plain.state_bytes
    pieces = ("<blk>", *(f"{SPACE}{letter}" for letter in "abcde"))
    total = sum(exp(one.score) for one in plain.n_best)
    expected = {spelled(one.labels, pieces): one.score - log(total) for one in plain.n_best}
    assert texts(decoder.lattice(pieces)) == pytest.approx(expected)


@pytest.mark.parametrize("merge", [2, 3, None])
@pytest.mark.parametrize("pieces", [WHOLE, PARTS[:4]])
def test_nothing_is_lost_where_states_tell_the_predictors_context(
    merge: int | None, pieces: tuple[str, ...]
) -> None:
    model, encoded = model_of(), frames_of(2)
    expected = every_sentence(model, encoded, 2, pieces)
    lattice = decoded(model, encoded, 10_000, merge).lattice(pieces)
    found = texts(lattice)
    assert {text for text, share in expected.items() if share > 1e-4} <= set(found)
    assert sum(map(exp, found.values())) == pytest.approx(1, abs=2e-3)
    # What begins a sentence is as likely as it is, whatever was merged behind it.
    first: Counter[str] = Counter()
    for text, share in expected.items():
        first[text.partition(" ")[0]] += share  # type: ignore[assignment]
    shares = dict(zip(lattice.arcs, posteriors(lattice), strict=True))
    for arc in lattice.leaving[0]:
        assert shares[arc] == pytest.approx(first[arc.word], abs=2e-3)
    if merge is None:
        likely = {text: log(share) for text, share in expected.items() if share > 1e-5}
        assert {text: found[text] for text in likely} == pytest.approx(likely, abs=0.05)


def test_merging_makes_states_fewer_and_keeps_more_sentences() -> None:
    model, encoded = model_of(vocabulary=4, seed=1, sharp=2), frames_of(8, 1)
    merged, plain = (decoded(model, encoded, 4, merge).lattice(WHOLE) for merge in (2, None))
    assert len(texts(merged)) > 2 * len(texts(plain))
    assert best_path(merged).text == best_path(plain).text


def test_words_are_spelled_over_pieces_and_timed() -> None:
    """A model that says, in every frame, the pieces that the frame marks, but for the one that it said last."""
    config = ModelConfig(vocabulary=6, layers=1, hidden=8, joiner=6, context=1)
    model = Transducer(config).eval().requires_grad_(False)
    assert isinstance(model.predictor, StatelessPredictor)
    for parameter in (*model.predictor.parameters(), *model.joiner.parameters()):
        parameter.zero_()
    eye = torch.eye(6)
    model.predictor.embedding.weight.copy_(eye)
    model.predictor.embedding.weight[BLANK] = 0
    model.predictor.mix.weight.copy_(eye[:, :, None])
    model.predictor.leave.weight.copy_(-2 * eye)
    model.joiner.weight.copy_(100 * eye)
    encoded = torch.zeros(9, 6)
    encoded[:, BLANK] = 0.3
    for frame, label in ((1, 1), (3, 2), (4, 3), (6, 4), (8, 5)):
        encoded[frame, label] = 0.9
    decoder = LatticeDecoder(model, 2, 1, 1)
    decoder.accept(encoded)
    (path, *_) = paths(decoder.lattice(PARTS))
    assert [(arc.word, arc.start, arc.end) for arc in path.arcs] == [("ab", 1, 4), ("abc", 6, 9)]


def test_before_any_audio_the_lattice_is_empty() -> None:
    decoder = LatticeDecoder(model_of(), 3, 2)
    assert texts(decoder.lattice(WHOLE)) == {"": 0.0}
    assert decoder.best.labels == ()


def test_a_repeated_label_makes_no_cycle() -> None:
    model = model_of(sharp=1)
    model.joiner.bias[1] += 3
    lattice = decoded(model, frames_of(5), 4, 1).lattice(WHOLE)
    assert any("a a" in path.text for path in n_best(lattice, 50))


def test_a_lattice_stays_small_for_any_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(sharp=1)
    model.joiner.bias[1] += 3
    decoder = decoded(model, frames_of(4), 6, 1)
    whole = decoder.lattice(WHOLE)
    monkeypatch.setattr(lattice_build, "MOST_ARCS", 400)
    small = decoder.lattice(WHOLE)
    assert len(whole.arcs) > 400 >= len(small.arcs) > 40
    assert best_path(small).text == best_path(whole).text


def test_evaluations_are_states_times_steps() -> None:
    decoder = LatticeDecoder(model_of(), 1, 2, 1)
    asked: list[int] = []
    join = decoder._model.join

    def counted(encoded: Tensor, predicted: Tensor) -> Tensor:
        asked.append(len(predicted))
        return join(encoded, predicted)

    decoder._model.join = counted  # type: ignore[method-assign]
    decoder.accept(frames_of(6))
    assert decoder.evaluations == sum(asked) > 6


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_scores_are_of_the_predictor_alone(kind: PredictorKind) -> None:
    model = model_of(kind)
    wanted = [((), 1), ((1,), 2), ((3, 2, 1), 3), ((1, 2), 3)]
    found = prediction_scores(model, wanted)
    for (labels, label), score in zip(wanted, found, strict=True):
        predicted = model.predict(torch.tensor([labels], dtype=torch.int64).reshape(1, -1))[0, -1]
        logits = model.join(torch.zeros(8), predicted).double()
        assert score == pytest.approx(float(logits[1:].log_softmax(-1)[label - 1]), abs=1e-5)
    together = prediction_scores(model, [((1, 2), label) for label in (1, 2, 3)])
    assert sum(map(exp, together)) == pytest.approx(1)


@pytest.mark.parametrize("labels", [(), (1,), (2, 3, 2)])
def test_log_probability_adds_up_all_alignments(labels: tuple[int, ...]) -> None:
    model, encoded = model_of(), frames_of(3)
    expected = 0.0
    for at in product(range(3), repeat=len(labels)):
        if list(at) != sorted(at):
            continue
        score, said = 0.0, 0
        for frame in range(3):
            for label in (*(one for one, when in zip(labels, at, strict=True) if when == frame), BLANK):
                predicted = model.predict(torch.tensor([labels[:said]], dtype=torch.int64).reshape(1, -1))[
                    0, -1
                ]
                score += float(model.join(encoded[frame], predicted).log_softmax(-1)[label])
                said += label != BLANK
        expected += exp(score)
    assert log_probability(model, encoded, labels) == pytest.approx(log(expected), abs=1e-5)


def test_determinised_paths_with_the_same_words_are_one() -> None:
    from edgespeech.lattice.lattice import Arc, Final

    arcs = [
        Arc(0, 1, "a", log(0.2), -1.0, 1, 2),
        Arc(0, 2, "a", log(0.5), -2.0, 3, 4),
        Arc(0, 3, "", log(0.3)),
        Arc(1, 4, "b", 0.0),
        Arc(2, 4, "b", log(0.5)),
        Arc(2, 4, "c", log(0.5)),
        Arc(3, 4, "a", log(0.9)),
        Arc(3, 4, "", log(0.1)),
    ]
    found = determinised(arcs, [Final(4)], 0.04)
    assert {text: exp(score) for text, score in texts(found).items()} == pytest.approx(
        {"a b": 0.45, "a c": 0.25, "a": 0.27, "": 0.03}
    )
    (first,) = found.leaving[0]
    assert (first.prediction, first.start, first.end) == (-2.0, 3, 4)


@pytest.mark.parametrize(("beam", "merge"), [(0, 2), (4, 0)])
def test_bad_options_are_refused(beam: int, merge: int) -> None:
    with pytest.raises(EdgeSpeechError, match="at least 1"):
        LatticeDecoder(model_of(), beam, merge)
