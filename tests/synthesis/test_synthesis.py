"""Synthetic speech: rendering, and the corpus that is made of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from edgespeech.audio.io import read_audio
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.files import sha256_file
from edgespeech.core.places import project_root, work_dir
from edgespeech.corpora.manifest import load_manifest, verify_audio
from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.acceptance import accepted
from edgespeech.steps.store import run
from edgespeech.synthesis import synthesis
from edgespeech.synthesis.kokoro import RATE, Speaker, load_voices
from edgespeech.synthesis.plan import Plan
from edgespeech.synthesis.recipe import load_recipe
from edgespeech.synthesis.step import speech_steps
from edgespeech.synthesis.synthesis import main, render, synthesise
from edgespeech.text.grammar import Sentence, load_grammar, split_of
from helpers_synthesis import Beeper, recipe_with, tone

MINI = project_root() / "data_manifests" / "assistant_mini"


def what(**changes: float) -> Plan:
    values = {"level_db": -20.0, "before_s": 0.5, "after_s": 0.7, "noise_db": -70.0} | changes
    return Plan(
        id="x",
        sentence=Sentence("hello", "smallTalk", {}),
        said="hello",
        speaker=Speaker((("af_sky", 1.0),)),
        speed=1.0,
        context=(),
        seed=1,
        **values,
    )


def test_render_knows_where_speech_begins_and_ends() -> None:
    samples, sos_s, eos_s = render(tone(1.0), what())
    assert samples.dtype == np.float32
    assert sos_s == 0.5
    assert eos_s == pytest.approx(1.5, abs=0.005)
    assert samples.size / SAMPLE_RATE == pytest.approx(eos_s + 0.7, abs=1e-4)
    speech = samples[round(0.5 * SAMPLE_RATE) : round(eos_s * SAMPLE_RATE)]
    assert 20 * np.log10(np.sqrt(np.mean(speech**2))) == pytest.approx(-20, abs=0.1)
    silence = samples[round((eos_s + 0.2) * SAMPLE_RATE) :]
    assert 20 * np.log10(np.sqrt(np.mean(silence**2))) == pytest.approx(-70, abs=4)
    assert np.abs(samples[: round(0.49 * SAMPLE_RATE)]).max() < 0.01


def test_render_never_clips() -> None:
    spiky = tone(1.0)
    spiky[RATE // 2] = 1.0
    samples, _, _ = render(spiky, what(level_db=-1.0))
    assert np.abs(samples).max() <= 0.96


@pytest.mark.parametrize("speech", [np.zeros(2400, np.float32), np.zeros(0, np.float32)])
def test_a_sentence_without_sound_is_an_error(speech: Samples) -> None:
    with pytest.raises(EdgeSpeechError, match=r"sentence is 'hello'.*gives audible speech"):
        render(speech, what())


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))

    def write(**changes: object) -> Path:
        path = tmp_path / "corpus" / "recipe.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(recipe_with(**changes)))
        return path

    return write


def test_makes_a_corpus_and_makes_it_again(
    trial: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    beeper = Beeper()
    path = synthesise(trial(), lambda vocoder: beeper)
    manifest = load_manifest(path)
    assert path.name == "trial.jsonl"
    assert len(manifest.utterances) == 12
    assert "12 of 12" in capsys.readouterr().err
    for utterance in manifest.utterances:
        audio = manifest.audio_path(utterance)
        assert sha256_file(audio) == utterance.sha256
        assert utterance.sos_s is not None
        assert utterance.eos_s is not None
        assert 0.3 <= utterance.sos_s < utterance.eos_s < utterance.duration
        assert read_audio(audio).size == round(utterance.duration * SAMPLE_RATE)
        assert utterance.intent in ("orderDrink", "makeCall", "sendMessage", "controlCall")
    before = path.read_bytes()
    synthesise(trial(), lambda vocoder: beeper)
    assert path.read_bytes() == before
    assert len(beeper.said) == 12  # the second time, nothing had to be said


@pytest.mark.parametrize("accents", ["english", "all"])
def test_foreign_accents_only_where_asked_for(trial: Callable[..., Path], accents: str) -> None:
    coffee = {"coffee": {"sentences": 24, "sha256": load_grammar("coffee").sha256}}
    manifest = load_manifest(synthesise(trial(accents=accents, speakers=40, grammars=coffee), Beeper))
    voices = {part for u in manifest.utterances for part in re.findall(r"[a-z]{2}_[a-z]+", u.speaker or "")}
    assert {load_voices()[voice].split for voice in voices} == {"test"}
    assert any(voice[0] in "ab" for voice in voices)
    assert any(voice[0] not in "ab" for voice in voices) is (accents == "all")


def test_written_sentences_of_the_recipes_part_are_synthesised(
    trial: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = {"test": ["we met", "we parted"]}
    monkeypatch.setattr(
        synthesis, "written", lambda name, split, longest: sentences[split] if name == "diary" else []
    )
    manifest = load_manifest(synthesise(trial(texts={"diary": 2}), Beeper))
    found = {u.text: u for u in manifest.utterances if u.text in sentences["test"]}
    assert set(found) == set(sentences["test"])
    assert len(manifest.utterances) == 14
    for utterance in found.values():
        assert (utterance.intent, utterance.slots, utterance.context) == (None, {}, ())
        assert manifest.audio_path(utterance).is_file()


def test_evaluation_sentences_are_not_synthesised(trial: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="slurp_test: is for evaluation only"):
        synthesise(trial(texts={"slurp_test": 2}), Beeper)
    assert not (tmp_path / "corpus" / "audio").exists()


def test_flac_keeps_every_sample(trial: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[Samples] = []

    def kept(speech: Samples, what: Plan) -> tuple[Samples, float, float]:
        made = render(speech, what)
        rendered.append(made[0])
        return made

    monkeypatch.setattr(synthesis, "render", kept)
    manifest = load_manifest(synthesise(trial(audio="flac"), Beeper))
    assert {Path(u.audio_filepath).suffix for u in manifest.utterances} == {".flac"}
    assert len(rendered) == 12
    for utterance, samples in zip(manifest.utterances, rendered, strict=True):
        audio = manifest.audio_path(utterance)
        assert np.abs(read_audio(audio) - samples).max() <= 1 / 2**15
        assert sha256_file(audio) == utterance.sha256


def test_goes_on_where_it_was_interrupted(trial: Callable[..., Path], tmp_path: Path) -> None:
    class Failing(Beeper):
        def say(self, text: str, speaker: Speaker, speed: float) -> Samples:
            if len(self.said) == 5:
                raise EdgeSpeechError("interrupted")
            return super().say(text, speaker, speed)

    with pytest.raises(EdgeSpeechError, match="interrupted"):
        synthesise(trial(), Failing)
    assert not (tmp_path / "corpus" / "trial.jsonl").exists()
    beeper = Beeper()
    synthesise(trial(), lambda vocoder: beeper)
    assert len(beeper.said) == 7


def test_what_was_synthesised_so_far_is_a_corpus(trial: Callable[..., Path], tmp_path: Path) -> None:
    class Failing(Beeper):
        def say(self, text: str, speaker: Speaker, speed: float) -> Samples:
            if len(self.said) == 5:
                raise EdgeSpeechError("interrupted")
            return super().say(text, speaker, speed)

    with pytest.raises(EdgeSpeechError, match="utterances so far is 0, expected at least 1"):
        synthesise(trial(), Beeper, so_far=True)
    with pytest.raises(EdgeSpeechError, match="interrupted"):
        synthesise(trial(), Failing)
    manifest = load_manifest(synthesise(trial(), Beeper, so_far=True))
    assert [u.id for u in manifest.utterances] == [f"trial-{n:04d}" for n in range(5)]
    assert verify_audio(manifest) == 5
    assert len(load_manifest(synthesise(trial(), Beeper)).utterances) == 12


def test_sentences_of_held_out_splits_are_not_synthesised(
    trial: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(synthesis, "written", lambda name, split, longest: ["we met", "we parted"])
    monkeypatch.setattr(synthesis, "lines_of", lambda name: ["We met!"] if name == "exam" else [])
    manifest = load_manifest(synthesise(trial(texts={"diary": 1}, held_out=["exam"]), Beeper))
    texts = {u.text for u in manifest.utterances}
    assert "we parted" in texts
    assert "we met" not in texts
    assert "text diary: 1 sentences, 1 held out" in capsys.readouterr().err
    with pytest.raises(EdgeSpeechError, match="text diary: sentences is 2, expected at most 1"):
        synthesise(trial(texts={"diary": 2}, held_out=["exam"]), Beeper)


def test_audio_of_an_older_run_is_removed(trial: Callable[..., Path], tmp_path: Path) -> None:
    synthesise(trial(), Beeper)
    fewer = {"coffee": {"sentences": 3, "sha256": load_grammar("coffee").sha256}}
    synthesise(trial(grammars=fewer), Beeper)
    assert len(list((tmp_path / "corpus" / "audio").iterdir())) == 3


def test_audio_of_another_format_is_removed_and_of_other_recipes_kept(
    trial: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "shared"
    synthesise(trial(), Beeper, out=out)
    synthesise(trial(name="trial_1"), Beeper, out=out)
    synthesise(trial(audio="flac"), Beeper, out=out)
    files = sorted(path.name for path in (out / "audio").iterdir())
    assert files == sorted(
        [f"trial-{n:04d}.flac" for n in range(12)] + [f"trial_1-{n:04d}.opus" for n in range(12)]
    )
    for name in ("trial", "trial_1"):
        manifest = load_manifest(out / f"{name}.jsonl")
        assert verify_audio(manifest) == 12


@pytest.mark.parametrize("field", ["model_sha256", "voices_sha256"])
def test_another_model_or_voice_list_is_refused(trial: Callable[..., Path], field: str) -> None:
    with pytest.raises(EdgeSpeechError, match=f"{field} is 'f+"):
        synthesise(trial(**{field: "f" * 64}), Beeper)


def test_the_command_line_reports_in_one_line(
    trial: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert (
        capsys.readouterr().err == "error: synthesis: recipe is 'none.yaml', expected a recipe that exists\n"
    )
    assert main([str(trial()), "--kokoro", str(tmp_path)]) == 2


def test_the_command_line_writes_to_the_given_folder(
    trial: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(synthesis, "Kokoro", lambda folder, vocoder: Beeper())
    recipe, out = trial(), tmp_path / "elsewhere"
    assert main([str(recipe), "--out", str(out), "--jobs", "1"]) == 0
    assert capsys.readouterr().out == f"{out / 'trial.jsonl'}\n"
    assert verify_audio(load_manifest(out / "trial.jsonl")) == 12
    assert list(recipe.parent.iterdir()) == [recipe]


def test_the_mini_corpus_is_what_its_manifest_says() -> None:
    manifest = load_manifest(MINI / "assistant_mini.jsonl")
    assert len(manifest.utterances) == 200
    files = [manifest.audio_path(u) for u in manifest.utterances]
    assert [sha256_file(f) for f in files] == [u.sha256 for u in manifest.utterances]
    assert sum(f.stat().st_size for f in MINI.rglob("*") if f.is_file()) < 4_000_000
    assert len(list((MINI / "audio").iterdir())) == 200
    voices = load_voices()
    for utterance in manifest.utterances:
        assert split_of(utterance.text) == utterance.split == "test"
        assert utterance.speaker is not None
        parts = [part.split(":")[0] for part in utterance.speaker.split("+")]
        assert {voices[part].split for part in parts} == {"test"}
        assert utterance.sos_s is not None
        assert utterance.eos_s is not None
        assert 0 < utterance.sos_s < utterance.eos_s < utterance.duration


def test_the_mini_corpus_is_understood_from_its_words() -> None:
    manifest = load_manifest(MINI / "assistant_mini.jsonl")
    assistant = load_grammar("assistant")
    for utterance in manifest.utterances:
        assert utterance.intent is not None
        assert accepted(assistant.parse(utterance.text), utterance.intent, utterance.slots or {}), utterance


def test_corpora_are_made_from_the_recipes_that_have_their_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[tuple[str, int]] = []

    def synthesise(path: Path, load: object, *, jobs: int, out: Path) -> Path:
        made.append((path.stem, jobs))
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{path.stem}.jsonl").write_text("manifest")
        return out / f"{path.stem}.jsonl"

    monkeypatch.setattr(synthesis, "synthesise", synthesise)
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path))
    named = ["assistant_train_3", "assistant_dev", "assistant_train_3"]
    steps = speech_steps(["an4_train", *(f"corpora/assistant/{name}.jsonl" for name in named), "own.jsonl"])
    assert [f"{step.rule} {step.name}" for step in steps] == [
        "fetch an4_train", "synthesise assistant_train_3", "synthesise assistant_dev",
    ]  # fmt: skip
    assert [step.name for step in steps[1].needs] == list(load_recipe(steps[1].inputs[0]).texts)
    outcome = run(replace(steps[2].task(), needs={}))
    assert made == [("dev", 2)]
    assert list(outcome.files) == ["work/corpora/assistant/dev.jsonl"]
    assert (
        work_dir() / "corpora" / "assistant" / "dev.jsonl" == tmp_path / "corpora" / "assistant" / "dev.jsonl"
    )
    with pytest.raises(EdgeSpeechError, match=r"recipe is 'nobody', expected one of assistant_arms, "):
        speech_steps(["corpora/assistant/nobody.jsonl"])
    with pytest.raises(EdgeSpeechError, match=r"nowhere"):
        speech_steps(["nowhere"])
