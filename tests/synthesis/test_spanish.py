"""Corpora in Spanish: varieties, voices of both languages, and names that are pronounced as in the other one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from edgespeech.corpora.manifest import load_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.synthesis import plan as planning
from edgespeech.synthesis.recipe import Recipe
from edgespeech.synthesis.synthesis import synthesise
from edgespeech.text.grammar import Sentence, load_grammar
from helpers_synthesis import Beeper, plans, recipe_with


def in_spanish(**changes: object) -> dict[str, object]:
    """Changes of a recipe that make it Spanish with English names."""
    return {
        "spanish": ["es-419", "es"],
        "switched": ["foreign_contact", "foreign_artist", "foreign_title"],
        "grammars": {"es/switched": {"sentences": 12, "sha256": load_grammar("es/switched").sha256}},
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
        EdgeSpeechError, match=rf"slot who is '{value}', expected words that occur in it once"
    ):
        planning.marked(Sentence(text, "call", {"who": value}), ["who"])


def test_a_switched_slot_is_one_of_the_grammars() -> None:
    with pytest.raises(
        EdgeSpeechError, match="recipe trial: switched is 'contact', expected one of foreign_artist, "
    ):
        plans(**in_spanish(switched=["foreign_contact", "contact"]))


@pytest.mark.parametrize("changes", [{"habits": [1, 2]}, {"texts": {"diary": 1}}, {"spanish": ["es-mx"]}])
def test_spanish_has_no_habits_of_english(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="spanish"):
        Recipe.model_validate(recipe_with(**in_spanish(**changes)))


def test_a_corpus_of_spanish_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESPEECH_WORK", str(tmp_path / "work"))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_with(**in_spanish())))
    beeper = Beeper()
    manifest = load_manifest(synthesise(tmp_path / "recipe.yaml", lambda vocoder: beeper))
    assert {u.lang for u in manifest.utterances} == {"es"}
    assert {str(u.speaker).partition("@")[2] for u in manifest.utterances} == {"es-419", "es"}
    assert any("{" in said for said in beeper.said), "names are said as marked"
    assert not any("{" in u.text for u in manifest.utterances)
