"""Training for fewer expected word errors: lists, loss, and the loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from edgespeech.core.labels import BLANK
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import WEIGHTS
from edgespeech.model.config import ModelConfig
from edgespeech.model.loss import transducer_loss
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.training import word_errors
from edgespeech.training.batches import Batch, collate
from edgespeech.training.config import TrainConfig, WordErrors
from edgespeech.training.loop import LOG, STATE, train
from edgespeech.training.word_errors import expected_errors, heard_of, listed, searched, with_lists

Make = Callable[..., TrainConfig]
SENTENCES = ["turn on the light", "play some music", "stop"]


@pytest.fixture(scope="module")
def tokeniser() -> Tokeniser:
    return Tokeniser.train(SENTENCES * 3, 40)


@pytest.fixture
def model() -> Transducer:
    torch.manual_seed(3)
    made = Transducer(ModelConfig(vocabulary=40, layers=1, hidden=16, joiner=16, dropout=0.1))
    with torch.no_grad():
        made.joiner.weight *= 10
    return made


def a_batch(tokeniser: Tokeniser, worded: list[int] | None = None) -> Batch:
    """Three utterances of noise with the words of `SENTENCES`."""
    random = torch.Generator().manual_seed(1)
    features = [torch.randn(frames, 80, generator=random).numpy() for frames in (48, 40, 24)]
    labels = [tokeniser.encode(text) for text in SENTENCES]
    ids = [f"u{number}" for number in range(3)]
    rows = [0, 1, 2] if worded is None else worded
    return collate(features, labels, ids, 20, sounds=[[], [], []], worded=rows)


def likelihood(model: Transducer, encoded: torch.Tensor, labels: tuple[int, ...]) -> torch.Tensor:
    """Of one utterance `(T, J)` and one label sequence, without any padding."""
    given = torch.tensor([labels], dtype=torch.int64).reshape(1, len(labels))
    loss = transducer_loss(
        encoded[None],
        model.predict(given),
        model.joiner.weight,
        model.joiner.bias,
        given,
        torch.tensor([len(encoded)]),
        torch.tensor([len(labels)]),
        blank=BLANK,
    )
    return -loss.detach()[0]


def test_the_loss_is_the_mean_of_the_errors_by_probability(model: Transducer, tokeniser: Tokeniser) -> None:
    model.eval()
    batch = a_batch(tokeniser)
    encoded, lengths, _ = model.transcribe(batch.features, batch.lengths)
    stop, play = tuple(tokeniser.encode("stop")), tuple(tokeniser.encode("play some music"))
    lists = [[stop, play, ()], [play], [play, stop]]
    references = [tuple(tokeniser.encode(text)) for text in SENTENCES]
    heard = heard_of(lists, references, tokeniser)
    errors = [[4, 4, 4], [0], [3, 0]]
    assert heard.errors.tolist() == [number for one in errors for number in one]
    found = expected_errors(model, encoded, lengths, heard, memory_mib=64)
    expected, above = 0.0, 0.0
    for row, (own, wrong) in enumerate(zip(lists, errors, strict=True)):
        scores = torch.stack([likelihood(model, encoded[row, : lengths[row]], labels) for labels in own])
        mean = sum(wrong) / len(wrong)
        shares = scores.softmax(0).tolist()
        expected += sum(share * count for share, count in zip(shares, wrong, strict=True))
        above += sum(share * (count - mean) for share, count in zip(shares, wrong, strict=True))
    assert float(found.errors) == pytest.approx(expected, abs=1e-4)
    assert float(found.loss.detach()) == pytest.approx(above, abs=1e-4)


def test_steps_along_the_gradient_lower_the_expected_errors(model: Transducer, tokeniser: Tokeniser) -> None:
    batch = next(searched([a_batch(tokeniser)], WordErrors(), model.eval(), tokeniser))
    assert batch.heard is not None
    heard = batch.heard._replace(errors=torch.tensor([3.0, 0.0, 1.0, 2.0] * 3))
    told = []
    optimiser = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(5):
        encoded, lengths, _ = model.transcribe(batch.features, batch.lengths)
        found = expected_errors(model, encoded, lengths, heard, memory_mib=64)
        told.append(float(found.errors))
        optimiser.zero_grad()
        torch.autograd.backward(found.loss)
        optimiser.step()
    assert told == sorted(told, reverse=True)
    assert told[-1] < 0.9 * told[0]


def test_both_searches_find_the_same(model: Transducer, tokeniser: Tokeniser) -> None:
    batch = a_batch(tokeniser, worded=[0, 2])
    found = [
        next(searched([batch], WordErrors(search=name), model.eval(), tokeniser)).heard
        for name in ("engine", "torch")
    ]
    assert found[0] is not None
    assert found[1] is not None
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert found[0].utterance.tolist() == [0] * 4 + [1] * 4, "rows of the utterances whose words are learned"


def test_the_reference_takes_the_last_place_of_a_list_without_it() -> None:
    found = [(1,), (2,), (1,), (3,), (4,)]
    assert listed(found, None, 3) == [(1,), (2,), (3,)]
    assert listed(found, (2,), 3) == [(1,), (2,), (3,)]
    assert listed(found, (9,), 3) == [(1,), (2,), (9,)]
    assert listed([(1,)], (9,), 3) == [(1,), (9,)]


def test_lists_are_made_ahead_by_the_model_before_them(
    model: Transducer, tokeniser: Tokeniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, float, bool]] = []

    def note(batches: list[Batch], _: WordErrors, by: Transducer, __: Tokeniser) -> Iterator[Batch]:
        seen.append((len(batches), float(by.joiner.bias[0]), by.training))
        yield from batches

    monkeypatch.setattr(word_errors, "searched", note)
    batches = iter([a_batch(tokeniser)] * 5)
    model.train()
    with torch.no_grad():
        for step, _ in enumerate(with_lists(batches, WordErrors(every=2), model, tokeniser)):
            assert model.training
            model.joiner.bias[0] = step
    assert [one[0] for one in seen] == [2, 2, 1]
    assert [one[1] for one in seen[1:]] == [1, 3]
    assert not any(one[2] for one in seen), "without dropout"


def test_a_batch_of_nothing_has_no_lists(model: Transducer, tokeniser: Tokeniser) -> None:
    nothing = collate([], [], [], 0, sounds=[], worded=[])
    silent = a_batch(tokeniser, worded=[])
    for batch in searched([nothing, silent], WordErrors(), model.eval(), tokeniser):
        assert batch.heard is not None
        assert not len(batch.heard.utterance)
    encoded, lengths, _ = model.transcribe(silent.features, silent.lengths)
    found = expected_errors(model, encoded, lengths, heard_of([], [], tokeniser), memory_mib=64)
    assert float(found.loss.detach()) == 0


def test_values_that_overflow_and_empty_lists_are_refused(model: Transducer, tokeniser: Tokeniser) -> None:
    model.eval()
    batch = a_batch(tokeniser)
    batch.features[1, 0, 0] = torch.nan
    with pytest.raises(EdgeSpeechError, match="transcription of u1 is 'NaN or infinity'"):
        next(searched([batch], WordErrors(), model, tokeniser))
    with pytest.raises(EdgeSpeechError, match="'an empty list', expected one hypothesis"):
        heard_of([[]], [(1,)], tokeniser)


@pytest.fixture
def start(settings: Make, tmp_path: Path) -> str:
    """A tiny model that knows a little."""
    torch.set_num_threads(1)
    config = settings(
        steps=60, save_every=60, clean_steps=60, learning_rate=0.02, warmup_steps=5, ctc_only_steps=30
    )
    return str(train(config, tmp_path / "start", workers=0, quiet=True))


def errors_told(folder: Path) -> list[float]:
    """The expected errors a label of each step of a log."""
    return [json.loads(line)["word_errors"] for line in (folder / LOG).read_text().splitlines()]


def test_a_run_lowers_its_expected_errors_and_goes_on_as_if_not_stopped(
    settings: Make, start: str, tmp_path: Path
) -> None:
    config = settings(
        init=start,
        steps=24,
        save_every=4,
        ctc=0.0,
        learning_rate=0.005,
        word_errors={"every": 4, "reference": True, "transducer": 0.0},
        clean_steps=24,
    )
    whole = train(config, tmp_path / "whole", workers=0)
    told = errors_told(tmp_path / "whole")
    assert sum(told[-3:]) < sum(told[:3])
    train(config, tmp_path / "stopped", workers=0, until=8)
    again = train(config, tmp_path / "stopped", workers=0)
    assert (whole / WEIGHTS).read_bytes() == (again / WEIGHTS).read_bytes()
    with pytest.raises(EdgeSpeechError, match=r"until is 6, expected a multiple of word_errors\.every, 4"):
        train(config, tmp_path / "third", workers=0, until=6)
    assert not (tmp_path / "third" / STATE).exists()


def test_settings_without_sense_are_refused_and_unused_ones_change_no_hash(settings: Make) -> None:
    assert "word_errors" in settings().model_dump()
    assert settings().sha256 == settings(word_errors=None).sha256
    assert settings(init="x", word_errors={}, save_every=20).sha256 != settings(init="x").sha256
    for changes, told in (
        ({"word_errors": {}}, "init: word_errors expects a trained model"),
        ({"init": "x", "word_errors": {"hypotheses": 9}}, "hypotheses: 9, expected at most its beam, 8"),
        (
            {"init": "x", "word_errors": {"every": 2}},
            "save_every: 3, expected a multiple of word_errors.every, 2",
        ),
        ({"init": "x", "word_errors": {"every": 3}, "until": 4}, "until: 4, expected a multiple"),
        ({"init": "x", "word_errors": {"every": 3}, "ctc_only_steps": 2}, "expects no ctc_only_steps"),
    ):
        with pytest.raises(ValidationError, match=told):
            settings(**changes)
