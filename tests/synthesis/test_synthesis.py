import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from edgespeech.audio.io import read_audio
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.files import sha256_file
from edgespeech.core.places import project_root, work_dir
from edgespeech.corpora.manifest import load_manifest, verify_audio
from edgespeech.errors import EdgeSpeechError
from edgespeech.metrics.acceptance import accepted
from edgespeech.steps.store import run
from edgespeech.synthesis import plan as planning
from edgespeech.synthesis import synthesis
from edgespeech.synthesis.kokoro import RATE, Speaker, load_voices, voices_file
from edgespeech.synthesis.plan import Plan, plan
from edgespeech.synthesis.recipe import Recipe, load_recipe
from edgespeech.synthesis.step import speech_steps
from edgespeech.synthesis.synthesis import main, render, synthesise
from edgespeech.text.grammar import Sentence, load_grammar, split_of
from edgespeech.text.spoken import plain

MODEL = "0" * 64
MINI = project_root() / "data_manifests" / "assistant_mini"


class Beeper:
    """Says every sentence as a tone, as long as the sentence, between digital silence."""

    model_sha256 = MODEL

    def __init__(self, vocoder: str = "onnx") -> None:
        self.said: list[str] = []

    def say(self, text: str, speaker: Speaker, speed: float) -> Samples:
        self.said.append(text)
        return tone(len(text) / 100 / speed)

    def key(self, text: str, speaker: Speaker, speed: float) -> str:
        return hashlib.sha256(repr((text, speaker.name, speed)).encode()).hexdigest()


def tone(seconds: float, silence_s: float = 0.25) -> Samples:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)
    return np.pad(wave, round(silence_s * RATE)).astype(np.float32)


def recipe_with(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "name": "trial",
        "about": "A trial.",
        "split": "test",
        "seed": 3,
        "speakers": 12,
        "grammars": {
            "coffee": {"sentences": 6, "sha256": load_grammar("coffee").sha256},
            "calls": {"sentences": 6, "sha256": load_grammar("calls").sha256},
        },
        "context": {"contact": 5},
        "model_sha256": MODEL,
        "voices_sha256": sha256_file(voices_file()),
        "speed": [0.9, 1.1],
        "level_db": [-30, -20],
        "silence_s": [0.3, 0.6],
        "noise_db": [-78, -60],
    }
    return values | changes


def plans(sentences: Mapping[str, Sequence[str]] | None = None, /, **changes: object) -> list[Plan]:
    recipe = Recipe.model_validate(recipe_with(**changes))
    voices = [name for name, voice in load_voices().items() if voice.split == "test" and name[0] in "ab"]
    return plan(recipe, {name: load_grammar(name) for name in recipe.grammars}, voices, sentences)


def test_plans_are_seeded() -> None:
    assert plans() == plans()
    assert plans() != plans(seed=4)


def test_the_first_are_taken_as_they_would_be_among_all() -> None:
    assert plans(take=5) == plans()[:5]
    assert plans(take=50) == plans()


def test_plans_keep_sentences_and_voices_of_their_part() -> None:
    made = plans()
    assert len({plain(p.sentence.text) for p in made}) == 12
    assert {split_of(p.sentence.text) for p in made} == {"test"}
    voices = load_voices()
    assert {voices[name].split for p in made for name, _ in p.speaker.parts} == {"test"}
    assert any(len(p.speaker.parts) == 2 for p in plans(speakers=40))
    assert all(0.9 <= p.speed <= 1.1 and 0.3 <= p.before_s <= 0.6 and -30 <= p.level_db <= -20 for p in made)


def test_speakers_have_as_many_habits_as_asked_for() -> None:
    made = plans(habits=[2, 4], speakers=40)
    assert {len(p.speaker.habits) for p in made} <= {2, 3, 4}
    assert len({p.speaker.habits for p in made}) > 1
    without = plans(speakers=40)
    assert {p.speaker.habits for p in without} == {()}
    # Habits are drawn after the voices: the same ones speak.
    assert {p.speaker.parts for p in made} & {p.speaker.parts for p in without}


def test_speakers_are_blends_of_several_voices_and_lie_beyond_them_by_a_bounded_share() -> None:
    speakers = {p.speaker for p in plans(speakers=200, blend=5, beyond=0.4, grammars=many(120))}
    sizes = {len(who.parts) for who in speakers}
    assert max(sizes) == 5
    assert min(sizes) <= 2
    for who in speakers:
        weights = [weight for _, weight in who.parts]
        assert sum(weights) == pytest.approx(1)
        assert weights == sorted(weights, reverse=True)
        # stretched by 0.4 at most, a weight of 0 among two becomes -0.2
        assert min(weights) >= -0.2 - 0.02
    assert any(min(weight for _, weight in who.parts) < 0 for who in speakers)
    within = {p.speaker for p in plans(speakers=200, blend=5, grammars=many(120))}
    assert all(weight > 0 for who in within for _, weight in who.parts)


def in_spanish(**changes: object) -> dict[str, object]:
    """Changes of a recipe that make it Spanish with English names."""
    grammar = {"sentences": 12, "sha256": load_grammar("es/switched").sha256}
    slots = ["foreign_contact", "foreign_artist", "foreign_title"]
    return {
        "spanish": ["es-419", "es"],
        "switched": slots,
        "grammars": {"es/switched": grammar},
        "context": {},
    } | changes


def test_speakers_speak_the_varieties_in_turn_with_the_voices_of_english() -> None:
    english, spanish = plans(speakers=40), plans(**in_spanish(speakers=40))
    assert {p.speaker.spanish for p in english} == {None}
    assert {p.speaker.spanish for p in spanish} == {"es-419", "es"}
    assert {p.speaker.parts for p in english} & {p.speaker.parts for p in spanish}


def test_names_of_the_other_language_are_marked() -> None:
    for p in plans(**in_spanish()):
        assert p.said.replace("{", "").replace("}", "") == p.sentence.text
        assert set(re.findall(r"\{(.*?)\}", p.said)) == set(p.sentence.slots.values())
    assert all(p.said == p.sentence.text for p in plans())


@pytest.mark.parametrize(
    ("text", "value"),
    [("llama a mary", "john"), ("dile a mary que mary viene", "mary"), ("llama a marys", "mary")],
)
def test_a_marked_name_is_said_once_and_as_it_is(text: str, value: str) -> None:
    with pytest.raises(
        EdgeSpeechError, match=rf"slot who is '{value}', expected words that are said in it once"
    ):
        planning.marked(Sentence(text, "call", {"who": value}), ["who"])


@pytest.mark.parametrize("changes", [{"habits": [1, 2]}, {"texts": {"diary": 1}}, {"spanish": ["es-mx"]}])
def test_spanish_has_no_habits_of_english(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="spanish"):
        Recipe.model_validate(recipe_with(**in_spanish(**changes)))


def many(sentences: int) -> dict[str, object]:
    return {"coffee": {"sentences": sentences, "sha256": load_grammar("coffee").sha256}}


def test_held_out_sentences_are_not_drawn() -> None:
    first = plans({"diary": ["we met", "we parted"]}, texts={"diary": 1})
    said = {plain(p.sentence.text) for p in first}
    recipe = Recipe.model_validate(recipe_with(texts={"diary": 1}))
    voices = [name for name, voice in load_voices().items() if voice.split == "test" and name[0] in "ab"]
    grammars = {name: load_grammar(name) for name in recipe.grammars}
    again = plan(
        recipe,
        grammars,
        voices,
        {"diary": ["we met", "we parted", "we wrote"]},
        said | {"we met", "we parted"},
    )
    assert not said & {plain(p.sentence.text) for p in again}
    assert "we wrote" in {p.sentence.text for p in again}


def test_the_spoken_name_is_in_the_context() -> None:
    with_contact = [p for p in plans() if "contact" in p.sentence.slots]
    assert with_contact
    for what in with_contact:
        assert len(what.context) == len(set(what.context)) == 5
        assert what.sentence.slots["contact"] in what.context
    assert all(p.context == () for p in plans() if "contact" not in p.sentence.slots)


def test_written_sentences_are_drawn_among_the_others() -> None:
    texts = {"diary": [f"we met at number {n}" for n in range(50)], "mail": [f"dear {c}" for c in "abc"]}
    made = plans(texts, texts={"diary": 5, "mail": 3})
    said = [p.sentence.text for p in made]
    assert len({plain(text) for text in said}) == len(said) == 12 + 5 + 3
    assert len(set(said) & set(texts["diary"])) == 5
    assert set(texts["mail"]) < set(said)
    for what in made:
        if what.sentence.text in texts["diary"] + texts["mail"]:
            assert (what.sentence.intent, what.sentence.slots, what.context) == ("", {}, ())
    assert {p.sentence.intent for p in made[:12]} > {""}  # mixed
    assert made == plans(texts, texts={"diary": 5, "mail": 3})
    assert made != plans(texts, texts={"diary": 5, "mail": 3}, seed=4)


@pytest.mark.parametrize(
    ("texts", "most"),
    [({"diary": ["we met", "we parted"]}, 2), ({"mail": ["we met"]}, 0), ({}, 0), (None, 0)],
)
def test_too_few_written_sentences_are_named(texts: dict[str, list[str]] | None, most: int) -> None:
    with pytest.raises(EdgeSpeechError, match=f"text diary: sentences is 3, expected at most {most}"):
        plans(texts, texts={"diary": 3})


def test_a_written_sentence_that_a_grammar_gave_does_not_count() -> None:
    given = plans()[0].sentence.text
    texts = {"diary": [f"{given.capitalize()}.", "we met"]}
    with pytest.raises(EdgeSpeechError, match="sentences is 2, expected at most 1"):
        plans(texts, texts={"diary": 2})
    assert any(p.sentence.text == "we met" for p in plans(texts, texts={"diary": 1}))


def test_every_part_has_voices_of_its_own() -> None:
    voices = load_voices()
    assert len(voices) == 54
    english = [voices[name].split for name in voices if name[0] in "ab"]
    assert {part: english.count(part) for part in ("train", "dev", "test")} == {
        "train": 16,
        "dev": 4,
        "test": 8,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grammars": {"coffee": {"sentences": 1, "sha256": MODEL}}}, "grammar coffee: sha256 is '0000.*now"),
        ({"context": {"size": 3, "milkAmount": 3}}, "fixed values"),
    ],
)
def test_bad_plans_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(EdgeSpeechError, match=message):
        plans(**changes)


def test_a_grammar_with_too_few_sentences_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_DRAWS_PER_SENTENCE", 1)
    volume = load_grammar("volume")
    with pytest.raises(EdgeSpeechError, match=r"grammar volume: sentences is 3000.*no more in test"):
        planning._draw(random.Random(0), volume, 3000, "test", set())


def test_no_voices_is_an_error() -> None:
    recipe = Recipe.model_validate(recipe_with())
    with pytest.raises(EdgeSpeechError, match="at least one voice"):
        plan(recipe, {}, [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sped": 1}, "sped"),
        ({"speakers": 0}, "speakers"),
        ({"split": "exam"}, "split"),
        ({"grammars": {}}, "grammars"),
        ({"speed": [1.2, 0.8]}, "speed: 1.2 must not be above 0.8"),
        ({"habits": [3, 2]}, "habits: 3 must not be above 2"),
        ({"habits": [-1, 2]}, "habits"),
        ({"name": "../x"}, "name"),
        ({"accents": "french"}, "accents is 'french', expected 'english' or 'all'"),
        ({"audio": "mp3"}, "audio is 'mp3', expected 'opus' or 'flac'"),
        ({"texts": {"slurp_lm": 0}}, r"texts\.slurp_lm is 0"),
        ({"blend": 6}, "blend is 6"),
        ({"beyond": 0.6}, r"beyond is 0\.6"),
        ({"words": 41}, "words is 41"),
        ({"vocoder": "gpu"}, "vocoder is 'gpu', expected 'onnx', 'onednn' or 'envelope'"),
    ],
)
def test_bad_recipes_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_with(**changes)))
    with pytest.raises(EdgeSpeechError, match=rf"recipe\.yaml.*{message}"):
        load_recipe(path)


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


def test_a_corpus_of_spanish_says_so(trial: Callable[..., Path]) -> None:
    beeper = Beeper()
    manifest = load_manifest(synthesise(trial(**in_spanish()), lambda vocoder: beeper))
    assert {u.lang for u in manifest.utterances} == {"es"}
    assert {str(u.speaker).partition("@")[2] for u in manifest.utterances} == {"es-419", "es"}
    assert any("{" in said for said in beeper.said), "names are said as marked"
    assert not any("{" in u.text for u in manifest.utterances)


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
