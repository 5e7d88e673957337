"""Training with lists of phrases: what is drawn, what frames should attend to, what stays, and that it is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from edgespeech.audio.features import log_mel
from edgespeech.audio.io import read_audio, write_audio
from edgespeech.corpora.manifest import Utterance, load_manifest, write_manifest
from edgespeech.endpointing.alignment import align
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.alignment import emission_frames
from edgespeech.model.checkpoint import WEIGHTS, Trained, load_model
from edgespeech.model.contextual import ContextualTransducer
from edgespeech.model.loss import transducer_loss
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.training.biasing import (
    PhraseLists,
    attend,
    attention_loss,
    entries_of,
    frame_targets,
    label_targets,
    words_of,
)
from edgespeech.training.config import Lists, Source, TrainConfig
from edgespeech.training.loop import LOG, MODEL, STATE, train
from edgespeech.training.speech import Item
from helpers_biasing import PHRASES, attentive
from helpers_packed import features

Make = Callable[..., TrainConfig]
SHAPE = {"width": 8, "heads": 2, "queries": "audio_label"}
LISTS = {"phrases": 3, "common": 1, "empty": 0.2}
PIECES = Tokeniser.train(["turn on the light", "play some music"] * 3, 40)
TEXTS = ("turn on the light", "play some music", "turn on some music", "the lamp")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def with_lists(settings: Make, **changes: Any) -> TrainConfig:
    return settings(**{"model": {**settings().model, "biasing": SHAPE}, "biasing": LISTS} | changes)


def lists_of(texts: tuple[str, ...] = TEXTS, names: tuple[str, ...] = (), **changes: Any) -> PhraseLists:
    items = [
        Item(id=str(at), text=text, corpus=0, start=0, samples=1, names=names)
        for at, text in enumerate(texts)
    ]
    labels = [PIECES.encode(text) for text in texts]
    return PhraseLists(Lists(**{**LISTS, "empty": 0.0} | changes), 7, items, labels, PIECES.pieces)


def said(phrases: tuple[tuple[int, ...], ...]) -> set[str]:
    return {PIECES.decode(phrase) for phrase in phrases}


def test_a_list_depends_on_seed_and_step_alone() -> None:
    lists = lists_of()
    wanted = lists.at(5, [0, 2], [0])
    lists.at(6, [1, 3], [1])
    again = lists_of().at(5, [0, 2], [0])
    assert again.phrases == wanted.phrases
    assert torch.equal(again.entries, wanted.entries)
    assert {lists.at(step, [0, 2], [0]).phrases for step in range(9)} != {wanted.phrases}


def test_processes_share_the_list_of_a_step() -> None:
    for step in range(5):
        first, second = (lists_of().at(step, [0, 1, 2], own) for own in ([0, 2], [1]))
        assert first.phrases == second.phrases
        assert first.utterances == second.utterances == 3


def test_the_right_entry_is_there_as_often_as_asked() -> None:
    texts = tuple(
        f"the {word}" for word in ("lamp", "radio", "kettle", "fan", "heater", "door", "oven", "clock")
    )
    lists = lists_of(texts, present=0.5, phrases=1, longest=1)
    there = sum("lamp" in said(lists.at(step, [0], [0]).phrases) for step in range(400))
    assert 160 < there < 280  # half of them, and now and then as another utterance's
    never = lists_of(texts, present=0.0, phrases=2, longest=1)
    assert sum("lamp" in said(never.at(step, [0], [0]).phrases) for step in range(100)) < 50


def test_phrases_are_runs_of_words_with_a_rare_one() -> None:
    lists = lists_of(common=5, longest=2, phrases=8, present=0.9)
    found = set().union(*(said(lists.at(step, [0, 1, 2, 3], [0]).phrases) for step in range(60)))
    assert found
    for phrase in found:
        assert any(f" {phrase} " in f" {text} " for text in TEXTS)
        assert 1 <= len(phrase.split()) <= 2
        assert set(phrase.split()) & {"light", "play", "lamp"}  # the others are in two sentences
    assert any(len(phrase.split()) == 2 for phrase in found)


def test_names_of_the_manifest_come_first() -> None:
    lists = lists_of(names=("Some Music", "light", "nobody says this"), present=0.99)
    found = set().union(*(said(lists.at(step, [0, 1, 2], [0]).phrases) for step in range(30)))
    assert {"some music", "light"} <= found
    assert found <= {"some music", "light", "lamp", "the lamp"}


def test_no_step_has_more_phrases_than_asked_and_some_have_none() -> None:
    lists = lists_of(phrases=2, empty=0.3)
    sizes = [len(lists.at(step, [0, 1, 2, 3], [0]).phrases) for step in range(200)]
    assert max(sizes) == 2
    assert 30 < sizes.count(0) < 100


def test_speech_without_a_rare_word_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match="common is 100, expected fewer than the 8 different words"):
        lists_of(common=100)


def test_entries_are_found_at_words_the_longest_first() -> None:
    words = [(5, 6), (7,), (8, 9), (7,)]
    assert entries_of(words, [(7,), (7, 8, 9), (6, 7), (8,)]) == [0, 0, 2, 2, 2, 1]
    assert entries_of(words, []) == [0] * 6
    assert words_of(PIECES.encode("turn on"), PIECES.pieces)[0] == tuple(PIECES.encode("turn"))


def test_frames_belong_to_a_phrase_from_its_first_piece_to_its_last() -> None:
    assert frame_targets([0, 2, 2, 1, 0], [1, 3, 5, 8, 9], 12) == [0, 0, 0, 2, 2, 2, 0, 0, 1, 0, 0, 0]
    assert label_targets([0, 2, 2, 2, 1, 0]) == [0, -1, 2, 2, -1, 0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_the_alignment_is_the_likeliest_path(seed: int) -> None:
    """Over all paths with at most one label in a frame, tried one by one."""
    torch.manual_seed(seed)
    joiner = torch.nn.Linear(6, 5)
    encoded, predicted, labels = 3 * torch.randn(6, 6), 3 * torch.randn(3, 6), torch.tensor([2, 4])
    scores = joiner(torch.tanh(encoded[:, None] + predicted[None])).log_softmax(-1).detach()

    def of(path: Iterable[int]) -> float:
        total, state = 0.0, 0
        for t in range(6):
            if t in set(path):
                total += float(scores[t, state, labels[state]])
                state += 1
            total += float(scores[t, state, 0])
        return total

    paths = [[a, b] for a in range(6) for b in range(a + 1, 6)]
    assert emission_frames(encoded, predicted, joiner, labels) == max(paths, key=of)
    assert emission_frames(encoded[:1], predicted, joiner, labels) is None


def test_the_loss_is_of_the_right_entry() -> None:
    """It falls where the attention goes to the target, and counts a phrase's few frames as much as all others."""
    model = attentive().model
    x = torch.from_numpy(features(40))[None]
    encoded, _, _ = model.transcribe(x, torch.tensor([40]))
    labels = torch.tensor([[5, 9, 12]])
    predicted = model.predict(labels)
    found = attend(model, [tuple(phrase) for phrase in PHRASES], encoded, predicted)
    assert found.label is not None
    counts = (labels, torch.tensor([10]), torch.tensor([3]))
    entries = torch.tensor([[0, 2, 2]])

    def loss(audio: torch.Tensor, label: torch.Tensor) -> float:
        changed = replace(found, audio=audio, label=label)
        return float(attention_loss(changed, encoded, predicted, model.joiner, *counts, entries))

    emitted = emission_frames(encoded[0], predicted[0], model.joiner, labels[0])
    assert emitted is not None
    frames = torch.tensor([frame_targets([0, 2, 2], emitted, 10)])
    positions = torch.tensor([[0, 1, 2, 0]])  # that of the second piece; the first has no target
    right = [
        20 * torch.nn.functional.one_hot(t, 5).float()[:, :, None].expand(-1, -1, 4, -1)
        for t in (frames, positions)
    ]
    assert loss(*right) < 1e-3
    assert loss(torch.zeros_like(right[0]), torch.zeros_like(right[1])) == pytest.approx(
        2 * np.log(5), rel=1e-4
    )
    none = 20 * torch.nn.functional.one_hot(torch.zeros_like(frames), 5).float()[:, :, None].expand(
        -1, -1, 4, -1
    )
    assert loss(none, right[1]) == pytest.approx(-np.log(1e-6) / 2, rel=1e-3)


def test_the_alignments_agree_with_that_of_the_endpointer(tmp_path: Path) -> None:
    """Where labels are in frames of their own, both rules have the same likeliest path."""
    trained: Trained = attentive()
    samples = (0.1 * np.random.default_rng(3).standard_normal(16_000)).astype(np.float32)
    x = torch.from_numpy(log_mel(samples))[None]
    encoded, _, _ = trained.model.transcribe(x, torch.tensor([x.shape[1]]))
    for labels in ([5, 9], [12]):
        wanted = align(trained, samples, labels)
        predicted = trained.model.predict(torch.tensor([labels]))
        found = emission_frames(encoded[0], predicted[0], trained.model.joiner, torch.tensor(labels))
        if len(set(wanted)) == len(wanted):
            assert found == wanted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"biasing": None}, "expects biasing in model too"),
        ({"biasing": {"present": 1.0}}, "less than 1"),
        ({"biasing": {"phrases": 5000}}, "less than or equal to 4096"),
        ({"biasing": {"adapter": True}, "ctc": 0.0}, "expects a trained model"),
        ({"biasing": {"adapter": True}, "init": "x"}, "expects ctc: 0"),
        ({"biasing": {"depth": 1}}, "depth"),
    ],
)
def test_a_wrong_configuration_is_refused(settings: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        with_lists(settings, **changes)


def test_lists_without_attention_are_refused(settings: Make) -> None:
    with pytest.raises(ValidationError, match="expects biasing in model too"):
        settings(biasing=LISTS)


def test_a_run_without_lists_has_the_hash_it_had(settings: Make) -> None:
    assert settings(biasing=None).sha256 == settings().sha256
    changed = [with_lists(settings), with_lists(settings, biasing={**LISTS, "phrases": 4}), settings()]
    assert len({config.sha256 for config in changed}) == 3


def test_stopped_and_taken_up_again_is_bit_for_bit_the_same(settings: Make, tmp_path: Path) -> None:
    config = with_lists(settings, steps=4, save_every=2)
    train(config, tmp_path / "whole", quiet=True)
    for until in (2, None):
        train(config, tmp_path / "parts", until=until, quiet=True)
    for name in (STATE, f"{MODEL}/{WEIGHTS}"):
        one, two = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_an_adapter_leaves_the_recogniser_as_it_is(settings: Make, tmp_path: Path) -> None:
    base = train(settings(steps=2), tmp_path / "base", quiet=True)
    own = {"model": {**settings().model, "biasing": SHAPE}, "ctc": 0.0, "steps": 4, "learning_rate": 0.01}
    config = settings(**own, init=str(base), biasing={**LISTS, "adapter": True, "empty": 0.0})
    made = train(config, tmp_path / "adapter")
    before, after = load_file(base / WEIGHTS), load_file(made / WEIGHTS)
    assert all(torch.equal(after[name], values) for name, values in before.items())
    learned = {name for name in after if name.startswith("biasing.")}
    assert learned == set(after) - set(before)
    assert after["biasing.audio.out.weight"].abs().max() > 0  # it starts at zero
    assert '"attention": ' in (tmp_path / "adapter" / LOG).read_text()
    with pytest.raises(EdgeSpeechError, match="biasing is BiasingConfig"):
        train(settings(init=str(made)), tmp_path / "other", quiet=True)


TONES = {"on": 400.0, "off": 700.0, "red": 1100.0, "rad": 1100.0, "blue": 1700.0, "blew": 1700.0}
"""Words and their tones. Two pairs sound alike: only a list says which word it is."""
ALIKE = {"red": "rad", "rad": "red", "blue": "blew", "blew": "blue"}
PLAIN: dict[str, Any] = {
    **dict.fromkeys(
        (
            "speed_prob",
            "room_prob",
            "noise_prob",
            "eq_prob",
            "band_limit_prob",
            "pitch_prob",
            "floor_prob",
            "clip_prob",
        ),
        0.0,
    ),
    **dict.fromkeys(("time_masks", "frequency_masks"), 0),
    "silence_before_s": [0.1, 0.1],
    "silence_after_s": [0.1, 0.1],
    "level_db": [-20.0, -20.0],
}


@pytest.fixture
def alike(tmp_path: Path) -> Path:
    """A manifest of 24 utterances: one of two frequent words, and a name."""
    folder = tmp_path / "alike"
    folder.mkdir()
    time = np.arange(4800) / 16_000
    utterances = []
    for number in range(24):
        words = [("on", "off")[number % 2], list(ALIKE)[number // 2 % 4]]
        tones = [0.2 * np.sin(2 * np.pi * TONES[word] * time) * np.hanning(time.size) for word in words]
        samples = np.pad(np.concatenate(tones), 1600).astype(np.float32)
        path = folder / f"n{number:02d}.flac"
        write_audio(path, samples)
        utterances.append(
            Utterance(
                id=path.stem, audio_filepath=path.name, duration=samples.size / 16_000, text=" ".join(words)
            )
        )
    write_manifest(folder / "alike.jsonl", utterances)
    return folder / "alike.jsonl"


def preference(trained: Trained, manifest: Path) -> float:
    """How much likelier the words are with their name listed than with the one that sounds alike, in nats."""
    gained = []
    for utterance in load_manifest(manifest).utterances[:8]:
        name = utterance.text.split()[1]
        x = torch.from_numpy(log_mel(read_audio(manifest.parent / utterance.audio_filepath)))[None]
        labels = torch.tensor([trained.tokeniser.encode(utterance.text)])
        found = []
        for listed in (name, ALIKE[name]):
            model = ContextualTransducer(trained.model, [trained.tokeniser.encode(listed)])
            encoded, frames, _ = model.transcribe(x, torch.tensor([x.shape[1]]))
            own = (model.predict(labels), model.joiner.weight, model.joiner.bias, labels)
            found.append(float(transducer_loss(encoded, *own, frames, torch.tensor([labels.shape[1]]))))
        gained.append(found[1] - found[0])
    return float(np.mean(gained))


def test_it_learns_to_prefer_what_is_listed(settings: Make, tmp_path: Path, alike: Path) -> None:
    small = {"vocabulary": 40, "layers": 1, "hidden": 32, "joiner": 32, "context": 2, "dropout": 0.0}
    config = settings(
        model=small | {"biasing": {"width": 16, "heads": 2, "queries": "audio_label"}},
        speech=[Source(corpus=str(alike)).model_dump()],
        steps=600,
        learning_rate=0.01,
        warmup_steps=10,
        batch_s=2.6,
        save_every=600,
        augment=PLAIN,
        average=0.9,
        biasing={"phrases": 2, "present": 0.95, "empty": 0.05, "common": 2, "longest": 1, "weight": 0.3},
    )
    trained = load_model(train(config, tmp_path / "run", workers=0, quiet=True))
    assert preference(trained, alike) > 0.3
    biasing = trained.model.biasing
    assert biasing is not None
    biasing.audio.out.weight.zero_()
    assert biasing.label is not None
    biasing.label.out.weight.zero_()
    assert preference(trained, alike) == 0.0  # what it measures is the attention alone
