from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespeech.text.normalise import basic_text, normalisers


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Hello,  World!", "hello world"),
        ("  \t\n", ""),
        ("", ""),
        ("Don't stop", "don't stop"),
        ("Don\u2019t stop", "don't stop"),
        ("'quoted' words'", "quoted words"),
        ("rock 'n' roll", "rock n roll"),
        ("a twelve-ounce coffee", "a twelve ounce coffee"),
        ("12-ounce", "12 ounce"),
        ("x\u2013y \u2014 z", "x y z"),
        ("1,000 cups, please", "1000 cups please"),
        ("at 8:30 a.m. in the U.S.", "at 8 30 a m in the u s"),
        ("snake_case", "snake case"),
        ("Caf\u00e9 LATT\u00c9", "caf\u00e9 latt\u00e9"),
        ("cafe\u0301", "caf\u00e9"),
        ("\uff28\uff49 \ufb01ne", "hi fine"),
        ("\u65e5\u672c\u8a9e\u3001\u3067\u3059", "\u65e5\u672c\u8a9e \u3067\u3059"),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", "\u0928\u092e\u0938\u094d\u0924\u0947"),
        ("\u2615 coffee \u00a35", "coffee 5"),
    ],
)
def test_basic(raw: str, expected: str) -> None:
    assert normalisers()["basic"](raw) == expected


@given(st.text())
def test_basic_is_idempotent_and_leaves_single_spaces(text: str) -> None:
    once = basic_text(text)
    assert basic_text(once) == once
    assert once == " ".join(once.split())


def test_only_whisper_makes_spelled_and_written_numbers_equal() -> None:
    spelled, written = "a twelve ounce coffee", "A 12-ounce coffee."
    both = normalisers()
    assert both["whisper-en"](spelled) == both["whisper-en"](written) == "a 12 ounce coffee"
    assert both["basic"](spelled) == "a twelve ounce coffee"
    assert both["basic"](written) == "a 12 ounce coffee"


def test_whisper_is_the_package_s_own_normaliser() -> None:
    from whisper_normalizer.english import EnglishTextNormalizer

    text = "Um, Mr. Smith won't pay $20 million; it's colour [noise]"
    assert normalisers()["whisper-en"](text) == " ".join(EnglishTextNormalizer()(text).split())
    assert "color" in normalisers()["whisper-en"](text)


def test_every_normaliser_names_itself_and_has_a_hash_of_its_own() -> None:
    found = normalisers()
    assert {"basic", "whisper-en"} <= found.keys()
    assert all(name == normaliser.name and normaliser.version for name, normaliser in found.items())
    assert len({normaliser.sha256 for normaliser in found.values()}) == len(found)
    assert all(len(normaliser.sha256) == 64 for normaliser in found.values())


def test_the_hash_is_that_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgespeech.text import normalise

    before = normalise._basic().sha256
    assert normalise._basic().sha256 == before

    def basic_text(text: str) -> str:
        return text.lower()

    monkeypatch.setattr(normalise, "basic_text", basic_text)
    assert normalise._basic().sha256 != before


def test_listing_does_not_import_the_heavy_package() -> None:
    code = (
        "import sys; from edgespeech.text.normalise import normalisers; normalisers();"
        "assert not [m for m in sys.modules if m.startswith('whisper_normalizer.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_is_taken_once() -> None:
    from edgespeech.errors import EdgeSpeechError
    from edgespeech.text import normalise

    with pytest.raises(EdgeSpeechError, match="basic"):
        normalise._register("basic")(normalise._basic)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("GMEF 39.", "g m e f 3 9"),
        ("G-M-E-F-3-9", "g m e f 3 9"),
        ("g m e f three nine", "g m e f 3 9"),
        ("GMEF39", "g m e f 3 9"),
        ("Call Anna at 9", "call anna at 9"),
        ("thirty nine", "3 9"),
        ("McDonald's TV", "mcdonald is t v"),
        ("", ""),
    ],
)
def test_spelled_letters_and_digits_one_by_one(raw: str, words: str) -> None:
    assert normalisers()["spelled-en"](raw) == words
