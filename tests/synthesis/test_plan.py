"""Plans of synthetic speech: sentences, voices and habits, drawn by a seed; and recipes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from edgespeech.errors import EdgeSpeechError
from edgespeech.synthesis import plan as planning
from edgespeech.synthesis.kokoro import load_voices
from edgespeech.synthesis.plan import plan
from edgespeech.synthesis.recipe import Recipe, load_recipe
from edgespeech.text.grammar import load_grammar, split_of
from edgespeech.text.spoken import plain
from helpers_synthesis import MODEL, plans, recipe_with


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
