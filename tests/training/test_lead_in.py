"""Training with lead-ins: they are heard, and the loss sees the utterances alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from edgespeech.audio.streams import level_of
from edgespeech.core.labels import BLANK
from edgespeech.corpora.manifest import load_manifest, write_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import WEIGHTS
from edgespeech.model.config import ModelConfig
from edgespeech.model.loss import transducer_loss
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.training.batches import Batch, Batches, collate
from edgespeech.training.config import TrainConfig
from edgespeech.training.lead_in import Before, LeadInMaker, behind, check_before, features_of, lead_in_maker
from edgespeech.training.loop import MODEL, train
from edgespeech.training.losses import losses_of
from edgespeech.training.processes import Processes
from edgespeech.training.speech import Speech, encode_items, load_speech
from helpers_chords import write_chords

Make = Callable[..., TrainConfig]
HERE = Processes(0, 1, torch.device("cpu"))
STACK = 4


@pytest.fixture
def lead_ins(tmp_path: Path) -> dict[str, Any]:
    """Settings of streams over two further corpora."""
    leads, others = (str(write_chords(tmp_path / name, n)) for name, n in (("leads", 5), ("others", 7)))
    return {"use": "context", "corpora": [leads], "others": [others], "other": 1.0, "over_all": 1.0}


@pytest.fixture
def speakers(corpus: Path) -> None:
    """Half of the corpus is by one speaker, half by another."""
    said = [
        one.model_copy(update={"speaker": f"s{number % 2}"})
        for number, one in enumerate(load_manifest(corpus).utterances)
    ]
    write_manifest(corpus, said)


def prepared(config: TrainConfig) -> tuple[Speech, Tokeniser, Batches, LeadInMaker]:
    speech = load_speech(config.speech, longest_s=5)
    pieces = Tokeniser.train(["on off red blue"], 32)
    shape = ModelConfig.from_mapping(config.model)
    labels = encode_items(speech.items, pieces, shape)
    made = lead_in_maker(config, speech, labels, pieces, shape)
    assert made is not None
    return speech, pieces, Batches(config, speech, labels, {}, lead_ins=made[0]), made[0]


def a_model() -> Transducer:
    torch.manual_seed(1)
    return Transducer(ModelConfig(vocabulary=32, layers=2, hidden=16, joiner=16, context=2)).eval()


def a_batch(leads: list[int], seed: int = 1) -> Batch:
    """Three utterances of noise behind lead-ins of so many stacks, which depend on the seed."""
    own = [np.random.default_rng(row).standard_normal((48 - 8 * row, 80)) for row in range(3)]
    before = [
        np.random.default_rng([seed, row]).standard_normal((STACK * n, 80)) for row, n in enumerate(leads)
    ]
    features = [np.concatenate(both).astype(np.float32) for both in zip(before, own, strict=True)]
    labels = [[3, 4], [5], [6, 7, 8]]
    batch = collate(features, labels, ["a", "b", "c"], 6, sounds=[[], [], []], worded=[0, 1, 2])
    frames = torch.tensor([STACK * n for n in leads])
    return replace(batch, before=Before(frames, torch.zeros(3, 0, dtype=torch.int64), torch.zeros(3).long()))


def alone(model: Transducer, features: torch.Tensor, lead: int, labels: list[int]) -> float:
    """The loss of one utterance: the lead-in first, then the utterance with the state that it left."""
    state = None
    if lead:
        _, _, state = model.transcribe(features[None, :lead], torch.tensor([lead]))
    own = features[None, lead:]
    encoded, lengths, _ = model.transcribe(own, torch.tensor([own.shape[1]]), state)
    given = torch.tensor([labels])
    weights = model.joiner.weight, model.joiner.bias
    counts = lengths, torch.tensor([len(labels)])
    return float(transducer_loss(encoded, model.predict(given), *weights, given, *counts, blank=BLANK).sum())


def losses(settings: Make, model: Transducer, batch: Batch) -> float:
    trained = nn.ModuleDict({MODEL: model})
    return float(losses_of(trained, batch, settings(ctc=0.0), "fp32", 0, HERE).transducer.detach())


def test_the_loss_is_that_of_the_utterances_with_the_state_of_their_lead_ins(settings: Make) -> None:
    model, batch = a_model(), a_batch([3, 0, 9])
    assert batch.before is not None
    expected = 0.0
    with torch.no_grad():
        for row in range(3):
            labels = batch.labels[row, : batch.label_lengths[row]].tolist()
            frames, lead = batch.features[row, : batch.lengths[row]], int(batch.before.frames[row])
            expected += alone(model, frames, lead, labels)
            if lead:
                assert alone(model, frames[lead:], 0, labels) != pytest.approx(
                    alone(model, frames, lead, labels), abs=1e-4
                )
    assert losses(settings, model, batch) == pytest.approx(expected / 6, rel=1e-5)


def test_a_lead_in_changes_its_own_stream_alone() -> None:
    model = a_model()
    found = []
    for seed in (1, 2):
        batch = a_batch([3, 0, 9], seed)
        assert batch.before is not None
        batch.features[0, :12] = a_batch([3, 0, 9], 1).features[0, :12]
        encoded, lengths, _ = model.transcribe(batch.features, batch.lengths)
        found.append(behind(encoded, lengths, batch.before, STACK))
    assert found[0][1].tolist() == [12, 10, 8]
    for row, length in enumerate(found[0][1]):
        one, other = (encoded[row, :length] for encoded, _ in found)
        assert torch.equal(one, other) == (row < 2), "only the third lead-in is another one"


def test_the_gradient_reaches_the_lead_in_through_the_state_alone(settings: Make) -> None:
    batch = a_batch([3, 0, 9])
    batch.features.requires_grad_(True)
    trained = nn.ModuleDict({MODEL: a_model()})
    torch.autograd.backward(losses_of(trained, batch, settings(ctc=0.0), "fp32", 0, HERE).transducer)
    assert batch.features.grad is not None
    assert (batch.features.grad[0, :12].abs().sum(1) > 0).all()
    assert not batch.features.grad[1, 40:].any()


def test_words_of_lead_ins_have_a_loss_of_their_own(settings: Make) -> None:
    model, batch = a_model(), a_batch([3, 0, 9])
    assert batch.before is not None
    labels = torch.tensor([[9, 10], [0, 0], [11, 0]])
    labelled = replace(
        batch, before=batch.before._replace(labels=labels, label_lengths=torch.tensor([2, 0, 1]))
    )
    more = losses(settings, model, labelled) - losses(settings, model, batch)
    with torch.no_grad():
        expected = alone(model, batch.features[0, :12], 0, [9, 10]) + alone(
            model, batch.features[2, :36], 0, [11]
        )
    assert more == pytest.approx(expected / 6, rel=1e-4)
    silent = replace(batch, before=batch.before._replace(labels=labels, label_lengths=torch.zeros(3).long()))
    assert losses(settings, model, silent) == pytest.approx(losses(settings, model, batch))


@pytest.mark.usefixtures("speakers")
def test_arms_hear_the_same_utterances(settings: Make, lead_ins: dict[str, Any]) -> None:
    found = {}
    for use in ("dropped", "context", "labelled"):
        *_, batches, _ = prepared(settings(lead_ins=lead_ins | {"use": use}))
        found[use] = batches[1]
    dropped, context, labelled = found.values()
    assert dropped.before is None
    assert context.before is not None
    assert labelled.before is not None
    assert torch.equal(context.features, labelled.features)
    assert torch.equal(context.before.frames, labelled.before.frames)
    assert not context.before.label_lengths.any()
    assert (labelled.before.label_lengths > 0).all()
    assert (context.before.frames % STACK == 0).all()
    for row, lead in enumerate(context.before.frames.tolist()):
        own = context.features[row, lead : context.lengths[row]]
        assert len(own) == dropped.lengths[row]
        assert torch.equal(own, dropped.features[row, : len(own)])
    assert context.label_lengths.tolist() == dropped.label_lengths.tolist()
    assert context.global_labels == labelled.global_labels == dropped.global_labels


@pytest.mark.usefixtures("speakers")
def test_lead_ins_are_of_the_same_speaker_as_often_as_asked(settings: Make, lead_ins: dict[str, Any]) -> None:
    speech, _, _, maker = prepared(settings(lead_ins=lead_ins | {"same": 1.0, "other": 0.0}))
    for place, item in enumerate(speech.items):
        drawn = {tuple(maker.at(place, f"{n}").labels) for n in range(20)}
        theirs = {
            tuple(maker._labels[at])
            for at, one in enumerate(speech.items)
            if one.speaker == item.speaker and at != place
        }
        assert len(drawn) > 1
        assert drawn <= theirs
    *_, never = prepared(settings(lead_ins=lead_ins | {"same": 0.0, "other": 0.0}))
    leads = {tuple(labels) for labels in never._lead_labels}
    assert {tuple(never.at(0, f"{n}").labels) for n in range(20)} <= leads


def test_other_speech_is_as_loud_as_asked_and_lies_where_asked(
    settings: Make, lead_ins: dict[str, Any]
) -> None:
    made = {}
    ways: dict[str, dict[str, Any]] = {
        "without": {"other": 0.0},
        "late": {"over_all": 0.0, "snr_db": [20.0, 20.0]},
        "all": {"over_all": 1.0, "snr_db": [20.0, 20.0]},
    }
    for name, changes in ways.items():
        *_, maker = prepared(settings(lead_ins=lead_ins | changes))
        made[name] = maker.at(2, "key")
    assert len({one.start for one in made.values()}) == 1
    start = made["all"].start
    added = {name: made[name].samples - made["without"].samples for name in ("late", "all")}
    assert not added["late"][:start].any()
    assert level_of(added["all"][:start], "x") > 0
    np.testing.assert_array_equal(added["late"][start:], added["all"][start:])


def test_a_run_with_lead_ins_goes_on_as_if_not_stopped(
    settings: Make, lead_ins: dict[str, Any], tmp_path: Path
) -> None:
    config = settings(lead_ins=lead_ins, steps=4, save_every=2)
    whole = train(config, tmp_path / "whole", workers=0, quiet=True)
    train(config, tmp_path / "stopped", workers=0, quiet=True, until=2)
    again = train(config, tmp_path / "stopped", workers=0, quiet=True)
    assert (whole / WEIGHTS).read_bytes() == (again / WEIGHTS).read_bytes()
    without = train(settings(steps=4, save_every=2), tmp_path / "without", workers=0, quiet=True)
    assert (whole / WEIGHTS).read_bytes() != (without / WEIGHTS).read_bytes()


def test_features_begin_anew_behind_the_lead_in() -> None:
    samples = np.random.default_rng(0).standard_normal(9_000).astype(np.float32)
    before, after = features_of(samples, 3_333, STACK)
    assert len(before) == (3_333 + 80) // 160 // STACK * STACK
    np.testing.assert_array_equal(after, features_of(samples[3_333:], 0, STACK)[1])
    assert not len(features_of(samples, 100, STACK)[0]), "too little for a frame"


def test_what_makes_no_sense_is_refused(settings: Make, lead_ins: dict[str, Any]) -> None:
    assert settings().sha256 == settings(lead_ins=None).sha256
    assert settings(lead_ins=lead_ins).sha256 != settings().sha256
    for changes, told in (
        ({"pause_s": [0.4, 0.1]}, "pause_s"),
        ({"snr_db": [float("nan"), 3]}, "snr_db"),
        ({"use": "heard"}, "use"),
        ({"corpora": []}, "corpora"),
    ):
        with pytest.raises(ValidationError, match=told):
            settings(lead_ins=lead_ins | changes)
    with pytest.raises(ValidationError, match="lead_ins: expects neither sounds"):
        settings(lead_ins=lead_ins, sounds={"layer": 1})
    with pytest.raises(EdgeSpeechError, match=r"utterance c0\d: duration is .*, expected at most longest_s"):
        prepared(settings(lead_ins=lead_ins, longest_s=0.4))
    batch = a_batch([3, 0, 9])
    assert batch.before is not None
    with pytest.raises(EdgeSpeechError, match="utterance b: its lead-in has 40 of 40 feature frames"):
        check_before(batch.before._replace(frames=torch.tensor([12, 40, 36])), batch.lengths, batch.ids)
