"""The recipes that are committed: they load, and they are for the grammars, voices and model of today."""

from pathlib import Path

import pytest

from edgespeech.core.files import sha256_file
from edgespeech.core.places import project_root
from edgespeech.corpora.corpora import assert_trainable
from edgespeech.corpora.manifest import load_manifest
from edgespeech.synthesis.kokoro import load_voices, voices_file
from edgespeech.synthesis.plan import plan
from edgespeech.synthesis.recipe import Recipe, load_recipe
from edgespeech.text.grammar import load_grammar
from edgespeech.training.config import load_train_config

FOLDER = project_root() / "data_manifests"
ASSISTANT = sorted((FOLDER / "assistant").glob("*.yaml"))
LANGUAGES = sorted((FOLDER / "languages").glob("*.yaml"))
MINI = FOLDER / "assistant_mini" / "recipe.yaml"


def by_stem(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture(scope="module")
def recipes() -> dict[str, Recipe]:
    return {path.stem: load_recipe(path) for path in ASSISTANT}


@pytest.mark.parametrize("path", [*ASSISTANT, *LANGUAGES, MINI], ids=by_stem)
def test_a_recipe_is_for_what_there_is_now(path: Path) -> None:
    recipe = load_recipe(path)
    found = {name: load_grammar(name).sha256 for name in recipe.grammars}
    assert {name: use.sha256 for name, use in recipe.grammars.items()} == found
    assert recipe.voices_sha256 == sha256_file(voices_file())
    assert recipe.model_sha256 in (FOLDER / "models" / "kokoro.yaml").read_text()
    for name in recipe.texts:
        assert_trainable(name)


def test_there_is_speech_to_train_on_and_to_tune_on(recipes: dict[str, Recipe]) -> None:
    assert "dev" in recipes
    runs = (project_root() / "replication" / "rnnt").glob("train_*.yaml")
    corpora = {source.corpus for run in runs for source in load_train_config(run).speech}
    synthetic = {Path(corpus).stem for corpus in corpora if corpus.endswith(".jsonl")}
    assert synthetic
    others = {"assistant_dev", "assistant_dev_accents", "assistant_dev_names", "assistant_test_names"}
    assert synthetic <= {recipe.name for recipe in recipes.values()} - others
    for stem, recipe in recipes.items():
        assert recipe.name == f"assistant_{stem}"
        part = stem.partition("_")[0]
        assert recipe.split == (part if part in ("dev", "test") else "train")


def test_both_languages_are_spoken_by_the_same_voices() -> None:
    """Or the voice, the level or the vocoder would tell the language."""
    found = {path.stem: load_recipe(path) for path in LANGUAGES}
    parts = {stem.partition("_")[2] for stem in found}
    assert parts == {"train", "dev", "test", "switched"}
    for part in parts:
        english, spanish = found[f"en_{part}"], found[f"es_{part}"]
        for name in Recipe.model_fields.keys() - {"name", "about", "seed", "grammars", "spanish"}:
            assert getattr(english, name) == getattr(spanish, name), (part, name)
        assert not english.spanish
        assert set(spanish.spanish) == {"es", "es-419"}
        count = [sum(use.sentences for use in one.grammars.values()) for one in (english, spanish)]
        assert count[0] == count[1]
        assert spanish.split == (part if part in ("dev", "train") else "test")


def test_every_recipe_draws_by_itself(recipes: dict[str, Recipe]) -> None:
    """A seed used twice would give the same sentences, voices and noise again, as is meant for the first of a part."""
    everything = [*recipes.values(), *map(load_recipe, LANGUAGES), load_recipe(MINI)]
    assert len({recipe.name for recipe in everything}) == len(everything)
    by_seed: dict[int, list[Recipe]] = {}
    for recipe in everything:
        by_seed.setdefault(recipe.seed, []).append(recipe)
    for same in by_seed.values():
        drawn = [recipe.model_copy(update={"name": "", "about": "", "take": None}) for recipe in same]
        assert all(recipe == drawn[0] for recipe in drawn), [recipe.name for recipe in same]
        assert len({recipe.take for recipe in same}) == len(same), [recipe.name for recipe in same]


def test_the_mini_recipe_still_gives_the_committed_sentences() -> None:
    recipe = load_recipe(MINI)
    voices = [name for name, v in load_voices().items() if v.split == recipe.split and name[0] in "ab"]
    planned = plan(recipe, {name: load_grammar(name) for name in recipe.grammars}, voices)
    committed = load_manifest(MINI.with_name("assistant_mini.jsonl")).utterances
    assert [(p.id, p.sentence.text, p.speaker.name) for p in planned] == [
        (u.id, u.text, u.speaker) for u in committed
    ]
