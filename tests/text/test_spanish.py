"""Spanish words: numbers, contractions, the normaliser, and the grammars."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError
from edgespeech.text import spanish
from edgespeech.text.grammar import load_grammar
from edgespeech.text.grammar_rules import load_rules
from edgespeech.text.normalise import normaliser_of, normalisers
from edgespeech.text.tagged import TaggedGrammar

DIGITS = {spanish.number_words(n) for n in range(10)}
GRAMMARS = project_root() / "data_manifests" / "grammars"
SPANISH = sorted(
    f"es/{path.stem}" for path in (GRAMMARS / "es").glob("*.yaml") if "\nintents:" in path.read_text()
)


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "cero"),
        (16, "dieciséis"),
        (21, "veintiuno"),
        (30, "treinta"),
        (31, "treinta y uno"),
        (100, "cien"),
        (101, "ciento uno"),
        (555, "quinientos cincuenta y cinco"),
        (700, "setecientos"),
        (999, "novecientos noventa y nueve"),
        (1000, "mil"),
        (1999, "mil novecientos noventa y nueve"),
        (21_000, "veintiún mil"),
        (31_000, "treinta y un mil"),
        (100_000, "cien mil"),
        (201_001, "doscientos un mil uno"),
        (999_999, "novecientos noventa y nueve mil novecientos noventa y nueve"),
    ],
)
def test_numbers_in_words(n: int, words: str) -> None:
    assert spanish.number_words(n) == words


def test_no_two_numbers_have_the_same_words() -> None:
    numbers = [*range(3000), *range(20_000, 22_000), *range(99_900, 102_000)]
    assert len({spanish.number_words(n) for n in numbers}) == len(set(numbers))


@pytest.mark.parametrize("n", [-1, 1_000_000])
def test_a_number_without_words_is_refused(n: int) -> None:
    with pytest.raises(EdgeSpeechError, match="0 to 999,999"):
        spanish.number_words(n)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("¿Qué hora es?", "qué hora es"),
        ("¡Pon 12 minutos!", "pon doce minutos"),
        ("doce minutos", "doce minutos"),
        ("El AÑO del pingüino", "el año del pingüino"),
        ("son 1.200 pesos", "son mil doscientos pesos"),
        ("mide 3,5 metros", "mide tres coma cinco metros"),
        ("mide 3.5 metros", "mide tres coma cinco metros"),
        ("a las 7:30", "a las siete treinta"),
        ("a las 7:00", "a las siete"),
        ("el 007", "el cero cero siete"),
        ("1234567", "uno dos tres cuatro cinco seis siete"),
        ("«hola», dijo — ¿sí?", "hola dijo sí"),
        ("si\u0301", "sí"),
        ("¿¡!?", ""),
    ],
)
def test_the_normaliser_of_spanish(raw: str, words: str) -> None:
    normalise = normaliser_of("basic-es")
    assert normalise(raw) == words
    assert normalise(words) == words


@pytest.mark.parametrize(
    ("one", "other"), [("si", "sí"), ("ano", "año"), ("papa", "papá"), ("vinero", "viñero")]
)
def test_accents_and_enye_tell_words_apart(one: str, other: str) -> None:
    normalise = normaliser_of("basic-es")
    assert normalise(one) != normalise(other)


def test_numbers_without_end_are_read_digit_by_digit() -> None:
    assert normaliser_of("basic-es")("9" * 5000) == " ".join(["nueve"] * 5000)


def test_digits_and_their_words_meet() -> None:
    normalise = normaliser_of("basic-es")
    rng = random.Random(4)
    for n in [*range(200), *(rng.randrange(1_000_000) for _ in range(300))]:
        assert normalise(f"son {n}.") == f"son {spanish.number_words(n)}"
        grouped = f"{n:,}".replace(",", ".")
        assert normalise(f"son {grouped} metros") == f"son {spanish.number_words(n)} metros"


def test_records_of_english_keep_their_normalisers() -> None:
    assert set(normalisers()) == {"basic", "whisper-en", "spelled-en"}
    assert set(normalisers("es")) == {"basic", "basic-es"}
    with pytest.raises(EdgeSpeechError, match="commonvoice_es: normaliser is 'es', expected one of basic"):
        normaliser_of("es", "commonvoice_es")


def test_prepositions_join_the_article() -> None:
    words = "llama a el médico de el barrio y a él de ella a la una"
    said = spanish.with_contractions([words])
    assert " ".join(said) == "llama al médico del barrio y a él de ella a la una"


@pytest.mark.parametrize("name", SPANISH)
def test_the_grammars_say_spanish(name: str) -> None:
    loaded = load_grammar(name)
    rng = random.Random(7)
    for _ in range(300):
        text = loaded.generate(rng).text
        assert spanish.sayable(text) == text
        assert not re.search(r"\b(a|de) el\b", text)
        twice = re.search(r"\b(\w+) \1\b", text)  # as digits of telephone numbers may be
        assert twice is None or twice[1] in DIGITS, text


@pytest.mark.parametrize("name", [*(one for one in SPANISH if one != "es/switched")])
def test_a_grammar_has_sentences_enough_for_a_corpus(name: str) -> None:
    loaded = load_grammar(name)
    rng = random.Random(1)
    for part, wanted in (("train", 300), ("test", 60)):
        found = {loaded.generate(rng, part).text for _ in range(wanted * 20)}  # type: ignore[arg-type]  # a part
        assert len(found) >= wanted


def test_the_slots_of_a_grammar() -> None:
    assert load_grammar("es/switched").slots == {"foreign_contact", "foreign_artist", "foreign_title"}
    assert load_grammar("coffee").slots >= {"coffeeDrink", "size", "roast", "milkAmount"}


def test_a_spanish_grammar_does_not_count_in_english(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        "about: x\nlanguage: es\nintents: {a: {rule: r}}\nrules: {r: {range: [1, 3]}}\n"
    )
    with pytest.raises(EdgeSpeechError, match="rule r: range spells numbers in English"):
        load_grammar(tmp_path / "x.yaml")


def test_a_grammar_and_what_it_includes_have_one_language(tmp_path: Path) -> None:
    (tmp_path / "y.yaml").write_text("about: y\nrules: {q: [hello]}\n")
    (tmp_path / "x.yaml").write_text(
        "about: x\nlanguage: es\ninclude: [y]\nintents: {a: {rule: r}}\nrules: {r: ['<q>']}\n"
    )
    with pytest.raises(EdgeSpeechError, match=r"y\.yaml: language is 'en', expected es"):
        load_grammar(tmp_path / "x.yaml")


def test_tagged_sentences_are_english() -> None:
    grammar = TaggedGrammar("es/coffee", load_rules(GRAMMARS / "es" / "coffee.yaml"))
    with pytest.raises(EdgeSpeechError, match="language is 'es', expected en"):
        grammar.tagged(random.Random(1))
