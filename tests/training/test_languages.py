"""Learning to name the language, beside the words and alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from edgespeech.audio.features import log_mel_at_once
from edgespeech.corpora.manifest import load_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import load_model
from edgespeech.model.languages import IDENTIFIER, LanguageHead, load_head, load_identifier
from edgespeech.training import identifier
from edgespeech.training.config import Source, TrainConfig
from edgespeech.training.identifier import STATE, train_identifier
from edgespeech.training.languages import language_loss, language_names, spoken_of
from edgespeech.training.loop import LOG, train
from helpers_chords import SPANISH, tiny_run, write_chords

Make = Callable[..., TrainConfig]


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a run over two languages."""
    torch.set_num_threads(1)
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    english = write_chords(tmp_path / "english")
    spanish = write_chords(tmp_path / "spanish", known=SPANISH, lang="es")

    def make(**changes: Any) -> TrainConfig:
        values = tiny_run(english, steps=8, save_every=3)
        values["model"]["vocabulary"] = 40
        values["speech"] = [
            {"corpus": str(english), "language": "en"},
            {"corpus": str(spanish), "language": "es"},
        ]
        return TrainConfig.model_validate(values | {"languages": {"weight": 1.0}} | changes)

    return make


def shares(name: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], folder: Path) -> list[float]:
    """The probability of the right language after each utterance's last frame."""
    found = []
    for number, part in enumerate(("english", "spanish")):
        manifest = load_manifest(folder / part / "chords.jsonl")
        for one in manifest.utterances:
            features = torch.from_numpy(log_mel_at_once(manifest.read(one)))[None]
            found.append(float(name(features, torch.tensor([features.shape[1]]))[0, -1].softmax(-1)[number]))
    return found


def test_a_recogniser_learns_to_name_the_language(two: Make, tmp_path: Path) -> None:
    config = two(
        clean_steps=60,
        steps=60,
        learning_rate=0.01,
        warmup_steps=5,
        batch_s=20.0,
        save_every=60,
        ctc_only_steps=30,
    )
    model = train(config, tmp_path / "run", workers=0)
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert all("languages" in line for line in lines)
    trained = load_model(model)
    assert set("áéíñóúü") <= set("".join(trained.tokeniser.pieces)), "every letter can be written"
    head = load_head(model, trained.model.config)
    found = shares(lambda frames, n: head(trained.model.transcribe(frames, n)[0]), tmp_path)
    assert sum(share > 0.5 for share in found) >= 30, "of 32"


def test_without_the_loss_there_is_no_head(two: Make, tmp_path: Path) -> None:
    model = train(two(languages=None, steps=1, warmup_steps=1), tmp_path / "run", workers=0)
    with pytest.raises(EdgeSpeechError, match="not readable"):
        load_head(model, load_model(model).model.config)


def test_taken_up_again_the_head_is_the_same(two: Make, tmp_path: Path) -> None:
    one = train(two(), tmp_path / "one", workers=0)
    train(two(), tmp_path / "two", workers=0, until=4)
    other = train(two(), tmp_path / "two", workers=0)
    config = load_model(one).model.config
    for a, b in zip(load_head(one, config).parameters(), load_head(other, config).parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_identifier_learns_and_goes_on_where_it_was_stopped(two: Make, tmp_path: Path) -> None:
    config = two(clean_steps=30, steps=30, learning_rate=0.02, warmup_steps=5, batch_s=20.0, save_every=15)
    whole = train_identifier(config, tmp_path / "whole", quiet=True)
    found = shares(lambda frames, n: whole(frames, n)[0], tmp_path)
    assert sum(share > 0.5 for share in found) >= 30, "of 32"
    assert not any(parameter.requires_grad for parameter in load_identifier(tmp_path / "whole").parameters())
    state = (tmp_path / "whole" / STATE).read_bytes()
    again = train_identifier(config, tmp_path / "whole", quiet=True)
    assert (tmp_path / "whole" / STATE).read_bytes() == state, "a finished run makes no step"
    for a, b in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_identifier_that_was_killed_ends_as_one_that_was_not(
    two: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = two(steps=6, save_every=2)
    whole = train_identifier(config, tmp_path / "whole", quiet=True)
    calls = []

    def killed(*given: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return language_loss(*given)

    monkeypatch.setattr(identifier, "language_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        train_identifier(config, tmp_path / "killed", quiet=True)
    assert not (tmp_path / "killed" / IDENTIFIER).exists()
    again = train_identifier(config, tmp_path / "killed", quiet=True)
    assert len(calls) == 4 + 4, "two of its steps had been saved"
    for a, b in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_loss_is_a_mean_over_frames_that_are_heard() -> None:
    torch.manual_seed(2)
    head = LanguageHead(4, ("en", "es"), 0.04, None)
    encoded, lengths = torch.randn(2, 5, 4), torch.tensor([5, 2])
    languages = torch.tensor([1, 0])
    head.requires_grad_(False)
    by_hand = sum(
        -float(head(encoded)[row, :count].log_softmax(-1)[:, wanted].mean())
        for row, (count, wanted) in enumerate(((5, 1), (2, 0)))
    )
    assert float(language_loss(head, encoded, lengths, languages)) == pytest.approx(by_hand, rel=1e-5)
    padded = torch.cat([encoded, torch.full((2, 3, 4), 9.0)], dim=1)
    assert float(language_loss(head, padded, lengths, languages)) == pytest.approx(by_hand, rel=1e-5)
    assert float(language_loss(head, encoded, torch.tensor([0, 0]), languages)) == 0


def test_languages_have_numbers_in_their_order() -> None:
    sources = [Source(corpus=name, language=name) for name in ("es", "de", "en")]
    assert language_names(sources) == ("de", "en", "es")
    spoken = spoken_of(sources, [0, 0, 1, 2], 9)
    assert spoken.languages.tolist() == [2, 2, 0, 1]
    assert spoken.utterances == 9


def test_runs_without_languages_have_the_hash_that_they_had(two: Make) -> None:
    told = two(languages=None).model_dump(mode="json")
    plain = TrainConfig.model_validate(
        {**told, "speech": [{"corpus": one["corpus"]} for one in told["speech"]]}
    )
    named = TrainConfig.model_validate({**told, "speech": told["speech"]})
    assert plain.sha256 != named.sha256
    assert (
        plain.sha256
        == TrainConfig.model_validate(
            {key: value for key, value in plain.model_dump(exclude_unset=True).items() if key != "languages"}
        ).sha256
    )


@pytest.mark.parametrize("languages", [("en", None), ("en", "en")])
def test_every_corpus_names_its_language(two: Make, languages: tuple[str | None, ...]) -> None:
    corpora = [source.corpus for source in two().speech]
    speech = [{"corpus": c, "language": name} for c, name in zip(corpora, languages, strict=True)]
    with pytest.raises(ValidationError, match="a language with every corpus of speech, and at least two"):
        two(speech=speech)


def test_an_identifier_without_languages_is_refused(two: Make, tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="languages is None, expected the loss on the language"):
        train_identifier(two(languages=None), tmp_path)
